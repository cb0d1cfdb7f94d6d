"""A disk that fills while a command writes to it."""

import errno

FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG}
"""No space left, a quota is used up, a file is larger than allowed."""


def is_lost_room(error: BaseException) -> bool:
    """Whether a file could not be written because the disk or a quota is full.

    Args:
        error: what was raised; its causes are looked at too, since libraries wrap what the system said.

    Example:
        >>> is_lost_room(OSError(errno.ENOSPC, "No space left on device"))
        True
    """
    return lost_room(error) is not None


def lost_room(error: BaseException) -> BaseException | None:
    """The error among an error and its causes that tells of a full disk; None if there is none."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, OSError) and cause.errno in FULL:
            return cause
        # How safetensors and the C++ of other libraries tell it: an error of their own with the number in its text.
        if not isinstance(cause, OSError) and any(
            f"os error {number}" in str(cause) or f"[errno {number}]" in str(cause) for number in FULL
        ):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None
