"""A disk that fills while a run writes to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crystallm.disk import is_lost_room
from crystallm.errors import InputError


@contextmanager
def or_room(run: Path) -> Iterator[None]:
    """Turn a full disk into an InputError that names the run directory and what to do."""
    try:
        yield
    except Exception as error:  # safetensors and tokenizers tell of a full disk by errors of their own
        if not is_lost_room(error):
            raise
        raise InputError(
            f"cannot write into {run}: {error}; make room there and start again with --resume, which goes on from the "
            "last whole checkpoint"
        ) from error
