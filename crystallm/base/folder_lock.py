"""One run at a time writes into a folder."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crystallm.base.errors import InputError
from crystallm.base.whole_file import cannot_write

LOCK = "writing.partial"
"""Held by the run that writes into a folder; the system lets go of it when that run ends, however it ends."""

SUFFIX = ".partial"
"""Of files that are no part of a result: locks, and what a kill has cut short."""


@contextmanager
def only_writer(folder: Path, *, remedy: str = "choose another folder") -> Iterator[None]:
    """Keep other runs out of a folder that exists.

    Args:
        folder: where the run writes.
        remedy: what the other run could do instead of waiting.

    Raises:
        InputError: another run is at it, or the folder cannot be written. The message names the process.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name, only_writer(Path(name)):
        ...     (Path(name) / LOCK).exists()
        True
    """
    from filelock import FileLock, Timeout  # only now: most commands hold none

    path = folder / LOCK
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = told(path)
        raise InputError(f"another run{holder} is writing into {folder}; wait for its end, or {remedy}") from None
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name in it
            path.write_text(json.dumps(_own_process()), encoding="utf-8")
        yield
    finally:
        # Before it is let go: a run that has opened the file in between sees that it is gone, and makes a new one.
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        lock.release()


def is_empty(folder: Path, *, but: str = "") -> bool:
    """Whether a folder holds nothing (but a file of that name), or nothing but what a kill has left of a beginning."""
    return all(file.name.endswith(SUFFIX) or file.name == but for file in folder.iterdir())


def told(path: Path) -> str:
    """Which process holds a lock, in brackets; empty where the file does not say."""
    try:
        holder: Any = json.loads(path.read_text(encoding="utf-8"))
        process, host, command, since = (holder[key] for key in ("process", "host", "command", "since"))
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    where = "" if host == socket.gethostname() else f" on {host}"
    return f" (process {process}{where}, `{command}`, since {since})"


def _own_process() -> dict[str, Any]:
    words = [Path(sys.argv[0]).name, *sys.argv[1:3]] if sys.argv else []
    now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
    return {"process": os.getpid(), "host": socket.gethostname(), "command": " ".join(words), "since": now}
