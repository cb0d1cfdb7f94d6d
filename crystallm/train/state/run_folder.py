"""The run directory: recipe, provenance, metrics, checkpoints to resume from, and the exported models."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crystallm.base.config import from_mapping, load_recipe, to_mapping, write_recipe
from crystallm.base.errors import CheckpointError, ConfigError, InputError
from crystallm.base.folder_lock import is_empty, only_writer
from crystallm.base.provenance import output_folder, write_json, write_text
from crystallm.train.config import CHANGEABLE, TrainConfig
from crystallm.train.schedule import Position

KEPT = 2
"""Checkpoints kept to resume from; the best model is kept apart, in `best/`."""

POSITION_FILE = "position.json"


class RunFolder:
    """Names and reads the files of one run; only the main process writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.best = path / "best"
        self.final = path / "final"
        self.final_ema = path / "final_ema"
        self.before_decay = path / "before_decay.json"
        """Names the step whose checkpoint a `wsd` run goes back to when its budget is raised."""
        self.after_evaluation: Callable[[], None] = lambda: None
        """Called on the main process when an evaluation is logged and its models are written."""

    @contextmanager
    def start(self, config: TrainConfig, *, resume: bool) -> Iterator[None]:
        """Create the folder, or check that it holds a run that `config` continues, and keep other runs out of it.

        Raises InputError or ConfigError if it cannot be had.
        """
        self._take(config, resume=resume)
        with only_writer(self.path, remedy="choose another --out"):
            yield

    def _take(self, config: TrainConfig, *, resume: bool) -> None:
        if not resume:
            if self.path.is_dir() and not is_empty(self.path):
                raise InputError(
                    f"{self.path} is not empty; add --resume to continue that run, or choose another --out"
                )
            output_folder(self.path)
            return
        if not self.recipe.is_file():
            raise InputError(f"there is no run to resume in {self.path}; start it without --resume")
        before, now = to_mapping(load_recipe(TrainConfig, self.recipe)), to_mapping(config)
        if before["packing"] == "auto":
            before["packing"] = "buckets"  # begun before there was a choice; a run records what it settled on
        changed = [name for name in now if now[name] != before[name] and name not in CHANGEABLE]
        if changed:
            raise ConfigError(
                f"the run in {self.path} was started with other values of {', '.join(changed)}; "
                f"resume it with its own recipe, {self.recipe}, or start another run"
            )

    def describe(self, config: TrainConfig, origin: dict[str, Any]) -> None:
        """Write the resolved recipe and where the run comes from."""
        write_recipe(config, self.recipe)
        write_json(self.path / "provenance.json", origin)

    def latest(self) -> Path | None:
        """Return the last whole checkpoint, None before the first."""
        return max(self._whole(), key=lambda path: path.name, default=None)

    def read_position(self, checkpoint: Path) -> Position:
        """Return where the run stood when `checkpoint` was written."""
        try:
            return from_mapping(Position, json.loads((checkpoint / POSITION_FILE).read_text()), source=str(checkpoint))
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"cannot resume from {checkpoint}: {error}; delete it to use the one before"
            ) from error

    def partial(self, position: Position) -> Path:
        """Return where to write a checkpoint before it is whole."""
        return self.checkpoints / f"step-{position.step:08d}.partial"

    def finish(self, position: Position) -> None:
        """Turn the partial checkpoint into a whole one and delete those no longer needed."""
        partial = self.partial(position)
        write_json(partial / POSITION_FILE, asdict(position))
        whole = partial.with_suffix("")
        shutil.rmtree(whole, ignore_errors=True)
        partial.rename(whole)
        kept = self.decay_step
        for old in sorted(self._whole())[:-KEPT]:
            if self.step_of(old) != kept:
                shutil.rmtree(old)

    def log(self, line: dict[str, Any]) -> None:
        """Append one line of metrics."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        """Return the metrics logged so far; a line cut short by a kill is left out."""
        return list(_whole_lines(self.metrics))

    def rewind(self, step: int) -> None:
        """Drop metrics of steps after `step`: a run killed after its last checkpoint takes those steps again."""
        kept = [json.dumps(line) + "\n" for line in self.lines() if line["step"] <= step]
        write_text(self.metrics, "".join(kept))
        for leftover in self.checkpoints.glob("*.partial"):
            shutil.rmtree(leftover)

    def _whole(self) -> list[Path]:
        return [
            path for path in self.checkpoints.glob("step-*") if (path / POSITION_FILE).is_file() and not path.suffix
        ]

    def checkpoint_of(self, step: int) -> Path | None:
        """Return the whole checkpoint of a step, None if there is none."""
        return next((path for path in self._whole() if self.step_of(path) == step), None)

    def later(self, step: int) -> list[Path]:
        """Return the whole checkpoints after a step, the first one first."""
        return [path for path in sorted(self._whole()) if self.step_of(path) > step]

    @property
    def decay_step(self) -> int | None:
        """Step at which a `wsd` run began to decay, None if it has not; CheckpointError for a damaged record of it."""
        if not self.before_decay.is_file():
            return None
        try:
            return int(json.loads(self.before_decay.read_text(encoding="utf-8"))["step"])
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"cannot read {self.before_decay}: {error}; delete it to continue from the last checkpoint"
            ) from error

    @staticmethod
    def step_of(checkpoint: Path) -> int:
        """Return the step at which a checkpoint was written."""
        return int(checkpoint.name.removeprefix("step-"))


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)
