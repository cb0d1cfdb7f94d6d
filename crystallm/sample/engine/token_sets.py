"""Ids allowed next, kept with what is made of them: the same few hundred sets come again and again."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

Choices = tuple[int, ...]
"""The ids allowed next; one alone is forced."""

Walk = Generator[Choices, int, None]
"""An automaton: yields the ids allowed next and is sent the id taken; ends after the END token."""


class Allowed(Choices):
    """The same, with the array of them made once."""

    @cached_property
    def array(self) -> NDArray[np.int64]:
        """All of them, (C,)."""
        return np.array(self)


def as_array(choices: Choices) -> NDArray[np.int64]:
    """The ids as an array (C,)."""
    return choices.array if isinstance(choices, Allowed) else _array_of(choices)


@lru_cache(maxsize=4096)
def _array_of(choices: Choices) -> NDArray[np.int64]:
    return np.array(choices)


class Scale:
    """Ids of tokens that are numbers, in order of value."""

    def __init__(self, ids: Iterable[int]) -> None:
        self.ids = Allowed(ids)
        self.places = {token: place for place, token in enumerate(self.ids)}
        """The place of each."""
        self.between = lru_cache(maxsize=1024)(self._between)
        """Those from one place on, up to another one."""

    def _between(self, first: int, end: int) -> Allowed:
        return Allowed(self.ids[first:end])
