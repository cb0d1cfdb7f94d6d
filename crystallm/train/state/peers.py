"""What a process of a run does when another one is gone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from crystallm.base.errors import ProcessError

GLOO = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting", "Socket closed")
"""What gloo says, as a bare RuntimeError, to those who wait for a process that has died or hangs."""


def is_lost_peer(error: BaseException) -> bool:
    """Return whether a collective failed because another process is gone or does not answer."""
    if isinstance(error, torch.distributed.DistBackendError | torch.distributed.DistNetworkError):
        return True
    return type(error) is RuntimeError and any(words in str(error) for words in GLOO)


@contextmanager
def or_lost_peer(run: Path) -> Iterator[None]:
    """Turn the end of another process, noticed in a collective, into a ProcessError that says how to go on."""
    try:
        yield
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        reason = str(error).strip().splitlines()[0]
        raise ProcessError(
            f"another process of this run has ended or does not answer ({reason}); look for its message above, or for "
            f"a kill by the system for lack of memory. Start {run} again with --resume: it goes on from its last "
            "checkpoint, on any number of processes"
        ) from error
