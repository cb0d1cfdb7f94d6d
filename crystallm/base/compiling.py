"""Loops compiled by numba, for work on few numbers that would spend its time in starting array operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])

IN_ANY_ORDER = {"reassoc", "contract", "nsz", "arcp"}
"""Sums may be taken in vectors; infinities and NaN keep their meaning."""

SETTINGS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def compiled(function: Function) -> Function:
    """Compile a function of numbers and arrays when it is first called; the result is kept for later runs.

    It is kept beside the source or in the user's cache folder; where neither can be written, each run compiles anew.
    """
    return _compiled(function, fastmath=False)


def compiled_in_any_order(function: Function) -> Function:
    """The same, with sums taken in the order that is fastest: the same one each time on the same processor."""
    return _compiled(function, fastmath=IN_ANY_ORDER)


def compiled_into_callers(function: Function) -> Function:
    """The same for a part of other functions: its instructions become theirs, and are kept with them alone.

    Called as a function of its own it would be optimised once by itself and once more as a copy beside its caller, with
    sums in another order, and which of the two is called hangs on whether this run has compiled them.
    """
    made: Function = njit(fastmath=IN_ANY_ORDER, forceinline=True, **SETTINGS)(function)
    return made


def _compiled(function: Function, **options: Any) -> Function:
    settings = {**SETTINGS, **options}
    try:
        made: Function = njit(cache=True, **settings)(function)
    except RuntimeError:  # how numba says that no folder can be written
        made = njit(**settings)(function)
    return made
