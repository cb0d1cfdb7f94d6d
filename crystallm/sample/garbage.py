"""Garbage collection while crystals are drawn."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def old_objects_left_alone() -> Iterator[None]:
    """Keep what is there already out of garbage collection: libraries, tables and weights.

    There are half a million such objects, and each full collection goes through all of them: a quarter of a second in
    the time of 250 crystals.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
