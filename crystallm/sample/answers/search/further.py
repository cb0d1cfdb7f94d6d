"""Further draws of a prompt, made while a search asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from crystallm.crystal.description import Description
from crystallm.sample.config import SampleConfig
from crystallm.sample.drawing.attempt import Attempt
from crystallm.sample.prompts import NamedPrompt

MOST_FURTHER = 400
"""Draws that a search may ask for beyond those of the run."""

AT_ONCE = 20
"""Draws made side by side: few are made in vain, and a batch costs little more than one."""


class Draws(Protocol):
    """What makes draws; `crystallm.Generator` does."""

    def attempts(
        self, prompts: Sequence[NamedPrompt], config: SampleConfig, *, skip: Callable[[str, int], bool]
    ) -> Iterator[Attempt]:
        """Draws of prompts as they end; `skip` says by name and number which are not wanted."""


@dataclass(frozen=True)
class FurtherDraws:
    """Goes on where the draws of a run ended, with the same settings and seed.

    open_generator: gives the model that drew; called at the first draw. drawing: settings of the run.
    """

    open_generator: Callable[[], Draws]
    drawing: SampleConfig

    @cached_property
    def _generator(self) -> Draws:
        return self.open_generator()

    def of(self, item: NamedPrompt) -> Callable[[int], Description | None]:
        """The further draws of a prompt, by their number from 0 in rising order; None when there are no more."""
        crystals = self._crystals(item)
        passed = 0

        def draw(number: int) -> Description | None:
            nonlocal passed
            found = None
            while passed <= number:  # a search that goes on from its journal begins with a later one
                found = next(crystals, None)
                passed += 1
            return found

        return draw

    def _crystals(self, item: NamedPrompt) -> Iterator[Description]:
        n = self.drawing.n
        config = replace(self.drawing, n=n + MOST_FURTHER, batch_size=AT_ONCE)
        for attempt in self._generator.attempts([item], config, skip=lambda name, number: number < n):
            if attempt.description is not None:
                yield attempt.description
