"""A disk that is full, for tests: no file of this process may grow."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROMISE = ("make room", "Make room")
"""How what is said of a full disk can be known."""


@contextmanager
def full_disk(most_bytes: int = 64) -> Iterator[None]:
    """Every write beyond some bytes fails with EFBIG, one of the ways in which systems tell of lost room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def files(folder: Path) -> dict[str, bytes]:
    """What lies below a folder, without what a lock or a kill leaves."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found if path.suffix != ".partial"}
