"""A disk that fills while a run writes to it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from crystallm.errors import InputError

FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG}
"""No space left, a quota is used up, a file is larger than allowed."""


def is_lost_room(error: BaseException) -> bool:
    """Return whether a file could not be written because the disk or a quota is full."""
    if isinstance(error, OSError):
        return error.errno in FULL
    return any(f"os error {number}" in str(error) for number in FULL)  # how safetensors tells it


@contextmanager
def or_room(run: Path) -> Iterator[None]:
    """Turn a full disk into an InputError that names the run directory and what to do."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if not is_lost_room(error):
            raise
        raise InputError(
            f"cannot write into {run}: {error}; make room there and start again with --resume, which goes on from the "
            "last whole checkpoint"
        ) from error
