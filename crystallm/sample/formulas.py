"""Formulas for a space group that is given without one.

In the text the formula stands before the space group, and few formulas fit a rare group well. So many formulas (with
formula units) are drawn and one of them is chosen in proportion to how probable the model finds the space group after
it: sampling importance resampling (Rubin 1988), which draws from P(formula, Z | space group) as the pool grows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.composition import Amounts
from crystallm.sample import cover
from crystallm.sample.constraint import Choices, Grammar, Partial, Prompt, Walk
from crystallm.sample.engine import Engine
from crystallm.sample.grammar import log_probabilities
from crystallm.sample.mixture import Belief
from crystallm.sample.refusals import pick
from crystallm.sample.warp import Warp, chances

POOL = 256
"""Formulas drawn at a time."""

DRAWS_OF_A_POOL = 16
"""Draws that choose from the same formulas."""


@dataclass(frozen=True)
class Head:
    """A formula with its formula units, as the beginning of a text; scores: log-probability of each free choice."""

    amounts: Amounts
    formula_units: int
    scores: tuple[float, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Pool:
    """Heads, and in which proportion they are chosen (P,)."""

    heads: Sequence[Head]
    weights: NDArray[np.float64]

    def draw(self, random: np.random.Generator) -> Head:
        """One of the heads."""
        return self.heads[pick(self.weights, random)]


@dataclass
class HeadTask:
    """The task of writing a formula and its formula units. It has no sections, so nothing of it is refused."""

    grammar: Grammar
    prompt: Prompt
    memory: None = None
    belief: None = None
    partial: Partial = field(default_factory=Partial)

    def start(self) -> Walk:
        """A fresh automaton."""
        self.partial = Partial()
        return self.grammar.walk_head(self.prompt, self.partial)

    def resume(self, level: int, since: int, tokens: Sequence[int]) -> tuple[Walk, Choices]:
        """Only sections are resumed."""
        raise AssertionError("a formula has no sections")

    def level(self) -> int:
        """All choices belong to the text as a whole."""
        return 0

    def sections(self) -> int:
        """None."""
        return 0

    def refusal(self, since: int) -> str | None:
        """Nothing is refused."""
        return None

    def factors(self, tokens: NDArray[np.int64], alive: NDArray[np.int64]) -> NDArray[np.float64]:
        """Nothing is mixed with the model."""
        raise AssertionError("no belief, no factors")

    def differs(self) -> bool:
        """A formula may come again: how often it does is its weight."""
        return False

    def objection(self, belief: Belief | None, before: int) -> None:
        """None."""

    def hopeless(self, since: int) -> Collection[int]:
        """Nothing is."""
        return ()


def draw_pool(
    grammar: Grammar,
    model: Any,
    engine: Engine,
    prompt: Prompt,
    warp: Warp,
    *,
    entropy: tuple[int, ...],
    size: int,
) -> Pool:
    """Formulas that the space group of the prompt can hold, weighted by what the model gives that group after them.

    entropy: decides what is drawn, whatever the batch. size: of the pool.
    """
    assert prompt.space_group is not None
    # A last word of 0 would be the same seed as none.
    words = [(*entropy, number + 1) for number in range(size)]
    jobs = [
        (HeadTask(grammar, prompt), np.random.Generator(np.random.Philox(np.random.SeedSequence(w)))) for w in words
    ]
    place = {id(task): number for number, (task, _) in enumerate(jobs)}
    outcomes = sorted(engine.run(jobs, warp), key=lambda outcome: place[id(outcome.task)])
    heads = [
        Head(o.task.partial.amounts, o.task.partial.formula_units, tuple(o.log_probabilities), tuple(o.tokens))
        for o in outcomes
    ]
    after = log_probabilities([head.tokens for head in heads], model)
    warmth = Warp(temperature=warp.temperature)  # the group is given: top-k and top-p cannot take it away
    weights = [
        _chance_of_group(grammar, prompt.space_group, head, log_TV[-1], warmth)
        for head, log_TV in zip(heads, after, strict=True)
    ]
    return Pool(heads, np.asarray(weights))


def _chance_of_group(grammar: Grammar, group: int, head: Head, log_V: NDArray[np.float64], warp: Warp) -> float:
    """Of the space group among those that can hold the formula."""
    possible = cover.groups_that_hold(tuple(amount * head.formula_units for _, amount in head.amounts))
    ids = [grammar.group_ids[number] for number in possible]
    return float(chances(log_V[ids], warp)[possible.index(group)])
