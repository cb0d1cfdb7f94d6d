"""Memory: one setting of the C library that training on a CPU depends on, and advice where there is too little."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from crystallm.base.errors import ConfigError
from crystallm.train.config import TrainConfig


@contextmanager
def or_advice(config: TrainConfig) -> Iterator[None]:
    """Turn a lack of memory into a ConfigError that says which setting to change."""
    import torch

    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, RuntimeError) as error:
        # On a CPU torch's allocator has no error class of its own.
        if type(error) is RuntimeError and "can't allocate memory" not in str(error):
            raise
        raise ConfigError(
            f"out of memory: a forward pass holds {config.batch_tokens // config.accumulate} tokens; raise accumulate "
            f"(now {config.accumulate}; a step stays the same), or lower batch_tokens (now {config.batch_tokens}) "
            "or max_tokens. What was saved is kept"
        ) from error


def keep_freed_memory() -> None:
    """Let glibc reuse freed memory instead of handing it back to the system after each tensor.

    Every step frees and asks again for the same large tensors. By default each request maps fresh pages, and on a
    virtual machine touching them costs more than the arithmetic; see docs: scale for figures. Nothing elsewhere.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_TOP_PAD, 256 * 2**20)


# Numbers from <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
