"""Draws of several processes: each appends to a part of its own, and the parts are gathered into `samples.jsonl`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystallm.base.command_line import Command
from crystallm.base.errors import InputError
from crystallm.base.folder_lock import only_writer
from crystallm.base.launch import is_one_of_several
from crystallm.sample.output.records import RECORDS, RecordFile, read_records

if TYPE_CHECKING:
    from accelerate import PartialState


def joined_processes() -> PartialState | None:
    """The processes that `accelerate launch` or `torchrun` started together with this one; None if it is alone."""
    if not is_one_of_several():
        return None
    import torch
    from accelerate import PartialState

    # Without being told, Accelerate takes processes started together on CPUs for runs of their own.
    return PartialState(cpu=not torch.accelerator.is_available())


def part_file(folder: Path, state: PartialState | None) -> Path:
    """The file that this process appends to."""
    return folder / (RECORDS if state is None else f"samples.{state.process_index}.jsonl")


def record_files(folder: Path) -> list[Path]:
    """All files of a folder that hold draws."""
    return [folder / RECORDS, *sorted(folder.glob("samples.*.jsonl"))]


def read_all_records(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of all files, each draw once: a kill while gathering leaves some in two files."""
    seen: set[tuple[str, int]] = set()
    for file in record_files(folder):
        for record in read_records(file):
            key = (record["target_id"], record["sample"])
            if key not in seen:
                seen.add(key)
                yield record


def gather(folder: Path) -> int:
    """Put the parts into samples.jsonl and delete them; returns how many draws that holds."""
    whole, *parts = record_files(folder)
    had = {(record["target_id"], record["sample"]) for record in read_records(whole)}
    draws = len(had)
    if parts:
        with RecordFile(whole) as file:
            for record in read_all_records(folder):
                if (record["target_id"], record["sample"]) not in had:
                    file.append(record)
                    draws += 1
        for part in parts:
            part.unlink()
    return draws


def gather_all(folders: tuple[Path, ...]) -> None:
    """Put the draws that several processes wrote (samples.0.jsonl, samples.1.jsonl, ...) into samples.jsonl of the same
    folder. `crystallm sample` does so itself at the end; after a kill this makes them readable for `crystallm eval`.

    Args:
        folders: Of sampling runs.
    """
    for folder in folders:
        if not any(file.is_file() for file in record_files(folder)):
            raise InputError(f"{folder} holds no samples.jsonl; give a folder that `crystallm sample` has written")
        with only_writer(folder):
            print(f"{folder / RECORDS}: {gather(folder)} draws")


main = Command(gather_all, "crystallm gather")
