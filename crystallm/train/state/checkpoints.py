"""Checkpoints to resume from: written while training goes on, read on any number of processes."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.api import CheckpointException

from crystallm.base.errors import CheckpointError, InputError
from crystallm.base.provenance import output_folder
from crystallm.train.optim.sharding import as_stored_in, on_host
from crystallm.train.schedule import Position
from crystallm.train.state.peers import is_lost_peer
from crystallm.train.state.run_folder import RunFolder

if TYPE_CHECKING:
    from accelerate import Accelerator

WEIGHTS = "model.safetensors"

SHARDS = "shards"
"""Folder inside a checkpoint that torch's distributed checkpointing writes: a file or more of each process."""

UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, KeyError, SafetensorError, pickle.UnpicklingError)
"""What torch, pickle and safetensors raise at files that are cut short or hold something else."""


class Checkpoints:
    """Saves and loads what a run needs to go on: weights, optimisers and what else was registered with Accelerate.

    Random states are not among it: each step seeds its own. As a context, leaving waits for the save under way.
    """

    def __init__(
        self,
        run: RunFolder,
        accelerator: Accelerator,
        model: torch.nn.Module,
        optimizers: list[Any],
        *,
        sharded: bool,
    ) -> None:
        self.run, self.accelerator, self.model, self.sharded = run, accelerator, model, sharded
        self.optimizers: list[torch.optim.Optimizer] = [getattr(one, "optimizer", one) for one in optimizers]
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: tuple[Path, Future[Any]] | None = None
        # Threads of two saves and of training must not share a group: their messages would get mixed up.
        self._group = torch.distributed.new_group(backend="gloo") if sharded and accelerator.num_processes > 1 else None

    def save(self, position: Position) -> None:
        """Copy the state to host memory, all processes together, and write it behind training's back.

        Waits for the save before, and raises what that one failed with.
        """
        self.settle()
        partial = self.run.partial(position)
        files = self._other_files()
        shards: Future[Any] | None = None
        if self.sharded:
            shards = self._start_shards(output_folder(partial / SHARDS))
        else:
            files |= self._whole_files()
        if self.accelerator.is_main_process:
            job = self._thread.submit(_write, self.run, replace(position), partial, files, shards)
            self._writing = partial, job
        elif shards is not None:
            self._writing = partial, shards

    @property
    def failed(self) -> bool:
        """Whether this process knows by now that its save has failed."""
        return self._writing is not None and self._writing[1].done() and self._writing[1].exception() is not None

    def settle(self) -> None:
        """Wait for the save under way, all processes together; InputError on all if it failed on one."""
        if self._writing is not None:
            wait([self._writing[1]])
        failures = torch.tensor(float(self.failed), device=self.accelerator.device)
        if float(self.accelerator.reduce(failures, "sum")):
            self.give_up()
        self.wait()

    def wait(self) -> None:
        """Wait for this process's part of the save under way; InputError if it failed."""
        if self._writing is None:
            return
        (partial, job), self._writing = self._writing, None
        try:
            job.result()
        except (OSError, RuntimeError, SafetensorError, CheckpointException, InputError) as error:
            if is_lost_peer(error):
                raise
            raise self._unwritten(partial, error) from error

    def give_up(self) -> None:
        """Stop because some process has failed to save: InputError, with the reason where it is known."""
        self.wait()
        raise InputError("another process could not write its part of the checkpoint; its message says why")

    def load(self, checkpoint: Path) -> None:
        """Take over the state in `checkpoint`, written on any number of processes; CheckpointError if it is unfit."""
        try:
            if (checkpoint / SHARDS).is_dir():
                self._load_shards(checkpoint)
            else:
                self._load_whole(checkpoint)
            for i, extra in enumerate(self._registered()):
                extra.load_state_dict(_load(checkpoint / f"custom_checkpoint_{i}.pkl"))
        except (*UNREADABLE, CheckpointException) as error:
            raise CheckpointError(f"{checkpoint} is damaged: {error}; delete it to use the one before") from error

    def _registered(self) -> list[Any]:
        """Return what else the run keeps, as given to `accelerator.register_for_checkpointing`."""
        found: list[Any] = self.accelerator._custom_objects
        return found

    def _named(self) -> dict[str, torch.Tensor]:
        """Return weights and stored buffers; tied weights under both of their names."""
        found: dict[str, torch.Tensor] = dict(self.model.named_parameters(remove_duplicate=False))
        stored = self.model.state_dict().keys()
        return found | {name: buffer for name, buffer in self.model.named_buffers() if name in stored}

    def _whole_files(self) -> dict[str, Any]:
        """Return the content of the files of a whole checkpoint; on all processes but the main one it is empty.

        All take part, because sharded tensors are put together.
        """
        main = self.accelerator.is_main_process
        once = {id(value): name for name, value in reversed(self._named().items())}
        names = set(once.values())
        weights = {name: on_host(value, keep=main) for name, value in self._named().items() if name in names}
        states = [on_host(one.state_dict(), keep=main) for one in self.optimizers]
        if not main:
            return {}
        return {WEIGHTS: weights} | {_optimizer_file(i): state for i, state in enumerate(states)}

    def _other_files(self) -> dict[str, Any]:
        main = self.accelerator.is_main_process
        states = [on_host(extra.state_dict(), keep=main) for extra in self._registered()]
        return {f"custom_checkpoint_{i}.pkl": state for i, state in enumerate(states)} if main else {}

    def _state(self) -> dict[str, Any]:
        from torch.distributed.checkpoint.state_dict import get_state_dict

        weights, states = get_state_dict(self.model, self.optimizers)
        return {"model": weights, "optimizer": states}

    def _start_shards(self, folder: Path) -> Future[Any]:
        from torch.distributed.checkpoint.filesystem import FileSystemWriter
        from torch.distributed.checkpoint.state_dict_saver import async_save

        writer = FileSystemWriter(folder)
        started = async_save(self._state(), storage_writer=writer, process_group=self._group)
        assert isinstance(started, Future)
        return started

    def _load_whole(self, checkpoint: Path) -> None:
        stored = {_plain_name(name): value for name, value in load_file(checkpoint / WEIGHTS).items()}
        own = self._named()
        _require_fit(checkpoint, {name: value.shape for name, value in stored.items()}, own)
        with torch.no_grad():
            for name, value in stored.items():
                own[name].copy_(as_stored_in(own[name], value))
        for i, optimizer in enumerate(self.optimizers):
            state = _load(checkpoint / _optimizer_file(i))
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            for number, about in state["state"].items():
                for key, value in about.items():
                    about[key] = as_stored_in(parameters[number], value)
            optimizer.load_state_dict(state)

    def _load_shards(self, checkpoint: Path) -> None:
        from torch.distributed.checkpoint.filesystem import FileSystemReader
        from torch.distributed.checkpoint.metadata import TensorStorageMetadata
        from torch.distributed.checkpoint.state_dict import set_state_dict
        from torch.distributed.checkpoint.state_dict_loader import load

        reader = FileSystemReader(checkpoint / SHARDS)
        about = {name: one for name, one in reader.read_metadata().state_dict_metadata.items() if name[:6] == "model."}
        sizes = {name[6:]: one.size for name, one in about.items() if isinstance(one, TensorStorageMetadata)}
        _require_fit(checkpoint, sizes, self._named())
        state = self._state()
        load(state, storage_reader=reader, process_group=self._group)
        set_state_dict(
            self.model, self.optimizers, model_state_dict=state["model"], optim_state_dict=state["optimizer"]
        )

    def _unwritten(self, partial: Path, error: BaseException) -> InputError:
        if self.accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)  # its part takes room that the next try needs
        if isinstance(error, CheckpointException):
            error = next(iter(error.failures.values()))[0]
        before = self.run.latest()
        kept = f"{before.name} is kept, --resume continues from it" if before else "there is none before it"
        free = shutil.disk_usage(self.run.path).free
        return InputError(
            f"cannot write the checkpoint {partial.with_suffix('')}: {error}; {free / 1e6:,.0f} MB are free there, "
            f"make room and start again; {kept}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown()
        if kind is None:
            self.wait()


def _write(
    run: RunFolder, position: Position, partial: Path, files: Mapping[str, Any], shards: Future[Any] | None
) -> None:
    """Write the files, wait for the shards of all processes, and give the checkpoint its name."""
    output_folder(partial)
    for name, content in files.items():
        if name == WEIGHTS:
            save_file(content, partial / name)
            with (partial / name).open("rb") as file:
                os.fsync(file.fileno())  # a power cut must not leave a checkpoint with a name and no content
        else:
            with (partial / name).open("wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
    if shards is not None:
        shards.result()
    run.finish(position)


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _optimizer_file(number: int) -> str:
    return f"optimizer_{number}.bin" if number else "optimizer.bin"


def _plain_name(name: str) -> str:
    """Return the name of a weight without the wrappers that earlier versions saved with it."""
    return name.replace("_orig_mod.", "").removeprefix("module.")


def _require_fit(checkpoint: Path, stored: Mapping[str, Any], own: Mapping[str, torch.Tensor]) -> None:
    """Raise CheckpointError unless the stored weights are those of this model by name and shape."""
    given = {id(own[name]) for name in stored if name in own}
    wrong = [name for name in stored if name not in own or tuple(stored[name]) != tuple(own[name].shape)]
    wrong += [name for name, value in own.items() if id(value) not in given]
    if wrong:
        name = wrong[0]
        theirs = tuple(stored[name]) if name in stored else "nothing"
        ours = tuple(own[name].shape) if name in own else "nothing"
        raise CheckpointError(
            f"{checkpoint} holds a model of another architecture: {theirs} at {name}, the recipe has {ours}; "
            "put back the checkpoint of this run, or delete it to use the one before"
        )
