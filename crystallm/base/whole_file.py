"""Files that are written whole or not at all, and what is said where a disk fills."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystallm.base.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG}
"""No space left, a quota is used up, a file is larger than allowed."""


@contextmanager
def whole_file(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A file to write in the place of another: readers see the old one or the whole new one, never a part.

    Args:
        path: where the file shall be.
        durable: whether it has reached the disk before it takes the place of the old one, which takes some
            milliseconds; False for a file that can be made again.

    Yields:
        A path beside it to write to.

    Raises:
        InputError: it cannot be written, for instance because the disk is full; the old file is untouched.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     with whole_file(Path(name, "a.txt")) as partial:
        ...         _ = partial.write_text("NaCl")
        ...     [file.name for file in Path(name).iterdir()]
        ['a.txt']
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        if durable:
            with partial.open("rb") as file:
                os.fsync(file.fileno())  # some file systems tell only now that there is no room
        os.replace(partial, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)  # it takes room that others need
        if isinstance(error, OSError) or lost_room(error) is not None:
            raise cannot_write(path, error) from error
        raise


def save_figure(figure: Figure, path: Path, **settings: Any) -> None:
    """Write a figure of matplotlib as `whole_file` does, with settings of `savefig`; the suffix says the format."""
    with whole_file(path, durable=False) as partial:
        figure.savefig(partial, format=path.suffix.removeprefix("."), **settings)


def cannot_write(path: Path, error: BaseException) -> InputError:
    """What is said where a file or folder cannot be written.

    Example:
        >>> print(cannot_write(Path("a.cif"), OSError(errno.ENOSPC, "No space left on device")))
        cannot write a.cif: No space left on device; what was written before is kept; make room there, or choose ...
    """
    full = lost_room(error)
    remedy = "what was written before is kept; make room there, or " if full is not None else ""
    told = getattr(full or error, "strerror", None) or words_of(full or error)
    return InputError(f"cannot write {path}: {told}; {remedy}choose another place")


def words_of(error: BaseException) -> str:
    """What an error says; of a folder that could not be copied, what is said of its first file.

    Example:
        >>> words_of(shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'"), ("c", "d", "the same")]))
        "[Errno 28] No space left on device: 'b'"
    """
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        *_, said = error.args[0][0]
        return str(said)
    return str(error)


@contextmanager
def or_room(place: Path, advice: str) -> Iterator[None]:
    """Turn a full disk into an InputError that names the place and what to do once there is room.

    Args:
        place: the folder that a command writes.
        advice: such as `give the same command again`.
    """
    try:
        yield
    except Exception as error:  # safetensors, tokenizers and datasets tell of a full disk by errors of their own
        full = lost_room(error)
        if full is None:
            raise
        raise InputError(f"cannot write into {place}: {words_of(full)}; make room there and {advice}") from error


def lost_room(error: BaseException) -> BaseException | None:
    """The error among an error and its causes that tells of a full disk or quota; None if there is none.

    Args:
        error: what was raised; its causes are looked at too, since libraries wrap what the system said.

    Example:
        >>> lost_room(OSError(errno.ENOSPC, "No space left on device"))
        OSError(28, 'No space left on device')
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, OSError) and cause.errno is not None:
            if cause.errno in FULL:
                return cause
        # How shutil, safetensors and the C++ of other libraries tell it: an error of their own, the number in its text.
        elif any(f"os error {number}" in str(cause) or f"[errno {number}]" in str(cause).lower() for number in FULL):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None
