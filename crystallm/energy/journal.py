"""Finished work kept line by line, so that a run that is killed goes on where it stopped."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from crystallm.base.errors import InputError
from crystallm.base.whole_file import cannot_write


def open_to_append(path: Path) -> IO[str]:
    """A file of lines opened for more; a last line that a kill cut off is ended first, so that it spoils no other."""
    broken = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    file = path.open("a", encoding="utf-8")
    if broken:
        file.write("\n")
    return file


class Journal:
    """An append-only JSONL file of `key -> value`; opening it reads what earlier runs have finished.

    The caller names the file, or its keys, after what the values depend on. A line cut off by a kill is skipped.
    """

    def __init__(self, path: Path) -> None:
        self.values: dict[str, Any] = {}
        """What is known, by key; later lines replace earlier ones."""
        self._path = path
        self._file: IO[str] | None = None
        try:
            content = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}; choose another place") from error
        for line in content.splitlines():
            try:
                row = json.loads(line)
                self.values[row["key"]] = row["value"]
            except (ValueError, KeyError, TypeError):
                continue

    def add(self, key: str, value: Any) -> None:
        """Keep a value (what JSON can hold) and write it to the file at once."""
        try:
            if self._file is None:
                self._file = open_to_append(self._path)
            self._file.write(json.dumps({"key": key, "value": value}) + "\n")
            self._file.flush()
        except OSError as error:
            raise cannot_write(self._path, error) from error
        self.values[key] = value

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._file is not None:
            with suppress(OSError):  # of a full disk, reported before
                self._file.close()
            self._file = None
