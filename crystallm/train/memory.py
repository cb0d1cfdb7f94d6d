"""One setting of the C library that training on a CPU depends on."""

import ctypes
import sys


def keep_freed_memory() -> None:
    """Let glibc reuse freed memory instead of handing it back to the system after each tensor.

    Every step frees and asks again for the same large tensors. By default each request maps fresh pages, and on a
    virtual machine touching them costs more than the arithmetic; see docs/train.md for figures. Nothing elsewhere.
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
