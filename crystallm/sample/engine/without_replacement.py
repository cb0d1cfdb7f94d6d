"""Drawing without what is known to be refused.

The choices of a text are the nodes of a tree. When what was drawn is refused, the share of each token's continuations
that is not yet known to be refused is noted along the way to it, and only of that is drawn: the same distribution as
drawing until something is accepted, without drawing the same thing twice (Shi, Bieber and Singh, Incremental sampling
without replacement for sequence models, ICML 2020). It is what is left that is noted, not what is refused, because a
model may be so sure that all the rest together has a chance of less than the rounding of 1.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crystallm.sample.decoding.loops import place_in
from crystallm.sample.engine.mixture import Mixture

HARDLY_ANYTHING = 1e-9
"""Where less than this is left of the chance of a level, a text goes back to the one above, if there is one."""


@dataclass(eq=False)
class Drawn:
    """A choice in which the draws of a prompt are to differ, as earlier draws met it."""

    share: float = 1.0
    """What is left of its chance to be drawn again: of all that follows here, in proportion to its chances."""
    after: dict[int, Drawn] = field(default_factory=dict)
    """The next such choice after each of the tokens that have been taken."""

    def left(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """What is left (C,) of each of the tokens."""
        return np.array([self.after[token].share if token in self.after else 1.0 for token in tokens.tolist()])


UNFIT = 0.74
"""What is left of the chance of choices for the next draws when a draw has used up its tries after them. Few tries say
little: with four times as many it would be the fourth power, 0.3 (decision 15)."""


@dataclass(frozen=True)
class Memory:
    """What the texts drawn before chose, and the share of its chance that such a choice keeps.

    Some texts of a mixture may make the same choices again by following another component: of these only those are left
    out that were followed.
    """

    repeat: float
    start: Drawn = field(default_factory=Drawn)
    _components: dict[int, float] = field(default_factory=dict)
    _not_asked: list[Callable[[], Mapping[int, float]]] = field(default_factory=list)

    def leave(self, shares: Callable[[], Mapping[int, float]]) -> None:
        """Leave only a share of components, by number; it is asked for which when somebody wants to know."""
        self._not_asked.append(shares)

    @property
    def components(self) -> dict[int, float]:
        """What is left of components of the mixture, by number, where it is not all."""
        while self._not_asked:
            for component, share in self._not_asked.pop(0)().items():
                self._components[component] = self._components.get(component, 1.0) * share
        return self._components


@dataclass(eq=False, slots=True)
class Branching:
    """A choice of a text: C tokens, the chance of each (sum 1), and what of it is not known to be refused."""

    tokens: NDArray[np.int64]
    chances: NDArray[np.float64]
    open: NDArray[np.float64] | None = None
    """The share of what follows each token (C,) that is not known to be refused; None while nothing is."""
    after: dict[int, Branching] = field(default_factory=dict)
    """The next choice after each of the tokens, by place, where it has been met."""
    examined: bool = False
    """Whether its hopeless tokens have been asked for."""
    mixture: Mixture | None = None
    """What the mixture says here that the chances are taken from; None for the model alone."""
    differs: bool = False
    """Whether draws are to differ in this choice."""
    memory: Drawn | None = None
    """What earlier draws of the prompt chose here, where draws are to differ in this choice."""
    used_up: Mapping[int, float] | None = None
    """What is left of components of the mixture, where it is not all, if another may lead to the same choices again."""

    @property
    def left(self) -> NDArray[np.float64]:
        """The chance (C,) of each token with what is not refused behind it."""
        return self.chances if self.open is None else self.chances * self.open

    @property
    def share_left(self) -> float:
        """Of everything that can follow here, what is not known to be refused."""
        return 1.0 if self.open is None else float(self.chances @ self.open)

    @property
    def left_unlike(self) -> NDArray[np.float64]:
        """`left`, times what is left of each token for draws that are to differ; all zero where all have been drawn."""
        if self.memory is None:
            return self.left
        share = self.memory.left(self.tokens)
        if self.mixture is not None and self.used_up is not None:
            share = self.mixture.left(share, self.used_up)
        return self.left * share

    def draw(self, random: np.random.Generator) -> int:
        """The place of a token, drawn from what is left."""
        if self.open is None and self.memory is None:
            return pick(self.chances, random)
        unlike = self.left_unlike
        return pick(unlike if unlike.any() else self.left, random)

    def refuse(self, place: int, left: float = 0.0) -> None:
        """Note what is left of what follows a token."""
        if self.open is None:
            self.open = np.empty(len(self.tokens))
            self.open.fill(1.0)
        self.open[place] = left

    def examine(self, hopeless: Collection[int]) -> None:
        """Note that nothing which begins with these tokens is accepted."""
        self.examined = True
        if hopeless:
            for place, token in enumerate(self.tokens.tolist()):
                if token in hopeless:
                    self.refuse(place)


Step = tuple[Branching, int]
"""A choice and the place of the token taken."""


def rule_out(path: list[Step], since: int = 0) -> None:
    """What a path leads to is refused; the choices from `since` on are told (see `pass_on`)."""
    if path:
        node, place = path[-1]
        node.refuse(place)
        pass_on(path, since)


def pass_on(path: list[Step], since: int = 0) -> None:
    """Bring what is left after the last choice of a path to the choices before it, as far as the one at `since`.

    Those before that one need it when a text goes back to them or is complete, and then it is brought to all.
    """
    for number in range(len(path) - 1, since, -1):
        share = path[number][0].share_left
        before, place = path[number - 1]
        if share < 1 or before.open is not None:
            before.refuse(place, share)


def pick(weights: NDArray[np.float64], random: np.random.Generator) -> int:
    """A place drawn in proportion to weights (C,), whatever their sum."""
    return place_in(weights, random.random())


def remember(path: list[Step], repeat: float) -> None:
    """What a path leads to has been drawn: of its chance this share is left for the next draws."""
    met = [(node, place) for node, place in path if node.memory is not None]
    for number, (node, place) in enumerate(reversed(met)):
        assert node.memory is not None
        if not number:
            node.memory.after.setdefault(int(node.tokens[place]), Drawn()).share *= repeat
        weights = node.left
        if weights.any():
            node.memory.share = float(weights @ node.memory.left(node.tokens) / weights.sum())


def memory_after(path: list[Step], start: Drawn) -> Drawn:
    """Where the next choice in which draws are to differ stands."""
    for node, place in reversed(path):
        if node.memory is not None:
            return node.memory.after.setdefault(int(node.tokens[place]), Drawn())
    return start
