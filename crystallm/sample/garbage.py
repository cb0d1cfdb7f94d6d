"""Garbage collection while crystals are drawn."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

USUAL = (700, 10, 10)
"""New objects after which Python looks for garbage; a command that starts fast waits for more."""


@contextmanager
def old_objects_left_alone() -> Iterator[None]:
    """Keep what is there already out of garbage collection: libraries, tables and weights.

    There are half a million such objects, and each full collection goes through all of them: a quarter of a second in
    the time of 250 crystals. What is made anew, and holds each other in circles, is collected as often as usual.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*USUAL)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
