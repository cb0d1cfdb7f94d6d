"""Files are written whole or not at all; a full disk is told of, and costs nothing that was there."""

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crystallm.base.config import write_recipe
from crystallm.base.errors import InputError
from crystallm.base.provenance import write_json, write_text
from crystallm.base.whole_file import lost_room, or_room, save_figure, whole_file
from crystallm.data.preparing.resumable import write_table

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@dataclass(frozen=True)
class Recipe:
    """For a test."""

    seed: int = 3


def figure(path: Path) -> None:
    """A drawing of nothing."""
    from matplotlib.figure import Figure

    save_figure(Figure(figsize=(1, 1)), path)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "a.txt": lambda path: write_text(path, "new"),
    "a.json": lambda path: write_json(path, {"new": 1}),
    "a.yaml": lambda path: write_recipe(Recipe(), path),
    "a.parquet": lambda path: write_table(pa.table({"new": [1]}), path),
    "a.png": figure,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_the_old_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written is there, but has not reached the disk when the room ends."""

    def no_room(*_: object) -> None:
        raise FULL

    path = tmp_path / name
    path.write_text("old")
    monkeypatch.setattr(os, "replace", no_room)
    with pytest.raises(InputError) as told:
        WRITERS[name](path)
    assert str(told.value) == (
        f"cannot write {path}: No space left on device; what was written before is kept; make room there, or choose "
        "another place"
    )
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_is_replaced(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("old")
    WRITERS[name](path)
    assert path.read_bytes() != b"old"
    assert os.listdir(tmp_path) == [name]


def test_it_is_on_the_disk_before_it_takes_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    monkeypatch.setattr(os, "fsync", lambda _: done.append("fsync"))
    replace = os.replace

    def note(old: Path, new: Path) -> None:
        done.append("replace")
        replace(old, new)

    monkeypatch.setattr(os, "replace", note)
    write_text(tmp_path / "a.txt", "new")
    assert done == ["fsync", "replace"]
    write_text(tmp_path / "a.cif", "new", durable=False)
    assert done == ["fsync", "replace", "replace"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_disk_that_fills_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    writers: list[Callable[[Path], Any]] = [
        lambda partial: partial.write_text("new"),
        lambda partial: pq.write_table(pa.table({"new": [1]}), partial),
    ]

    def fill(write: Callable[[Path], Any]) -> None:
        with whole_file(path) as partial:
            partial.symlink_to("/dev/full")
            write(partial)

    for write in writers:
        with pytest.raises(InputError, match=r"a\.txt: .*[Nn]o space left on device.*; make room there"):
            fill(write)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_what_is_no_matter_of_writing_stays_what_it_is(tmp_path: Path) -> None:
    def divide(partial: Path) -> float:
        partial.write_text("new")
        return 1 / 0

    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "a.txt") as partial:
        divide(partial)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_seen_behind_other_errors() -> None:
    assert lost_room(FULL) is FULL
    assert lost_room(shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")])) is not None
    assert lost_room(Exception("No space left on device (os error 28)")) is not None
    assert lost_room(OSError(errno.ENOENT, "[Errno 28] is its name")) is None
    wrapped = ValueError("cannot save")
    wrapped.__cause__ = FULL
    assert lost_room(wrapped) is FULL


def test_a_place_and_what_to_do_there() -> None:
    with (
        pytest.raises(InputError, match=r"cannot write into out: .*No space left.*; make room there and go on"),
        or_room(Path("out"), "go on"),
    ):
        raise FULL
    with pytest.raises(ValueError, match="another"), or_room(Path("out"), "go on"):
        raise ValueError("another")
