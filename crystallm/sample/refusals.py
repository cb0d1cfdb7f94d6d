"""Drawing without what is known to be refused.

The choices of a text are the nodes of a tree. When what was drawn is refused, the share of each token's continuations
that is now known to be refused is noted along the way to it, and drawn no more: the same distribution as drawing until
something is accepted, without drawing the same thing twice (Shi, Bieber and Singh, Incremental sampling without
replacement for sequence models, ICML 2020).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

NOTHING_LEFT = 1e-9
"""Shares below this are rounding."""


@dataclass(eq=False)
class Branching:
    """A choice of a text: C tokens, the chance of each (sum 1), and the refused share of what follows each."""

    tokens: NDArray[np.int64]
    chances: NDArray[np.float64]
    refused: NDArray[np.float64] | None = None
    after: dict[int, Branching] = field(default_factory=dict)
    """The next choice after each of the tokens, by place, where it has been met."""
    examined: bool = False
    """Whether its hopeless tokens have been asked for."""

    @property
    def refused_share(self) -> float:
        """Of everything that can follow here."""
        return 0.0 if self.refused is None else float(self.chances @ self.refused)

    def draw(self, random: np.random.Generator) -> int:
        """The place of a token, drawn from what is left."""
        return pick(self.chances if self.refused is None else self.chances * (1.0 - self.refused), random)

    def refuse(self, place: int, share: float = 1.0) -> None:
        """Note the refused share of what follows a token."""
        if self.refused is None:
            self.refused = np.zeros(len(self.tokens))
        self.refused[place] = share if share < 1.0 - NOTHING_LEFT else 1.0

    def examine(self, hopeless: Collection[int]) -> None:
        """Note that nothing which begins with these tokens is accepted."""
        self.examined = True
        for place in np.flatnonzero(np.isin(self.tokens, list(hopeless))):
            self.refuse(int(place))


Step = tuple[Branching, int]
"""A choice and the place of the token taken."""


def rule_out(path: list[Step]) -> None:
    """What a path leads to is refused."""
    if path:
        node, place = path[-1]
        node.refuse(place)
        pass_on(path)


def pass_on(path: list[Step]) -> None:
    """Bring what is refused after the last choice of a path to the choices before it."""
    for (before, place), (node, _) in zip(path[-2::-1], path[:0:-1], strict=True):
        share = node.refused_share
        before.refuse(place, share)
        if share < NOTHING_LEFT:
            break


def pick(weights: NDArray[np.float64], random: np.random.Generator) -> int:
    """A place drawn in proportion to weights (C,), whatever their sum."""
    cumulative = weights.cumsum()
    return int(cumulative.searchsorted(random.random() * cumulative[-1], side="right"))
