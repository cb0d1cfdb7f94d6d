"""Formulas for a space group that is given without one.

In the text the formula stands before the space group, and few formulas fit a rare group well. So many formulas (with
formula units) are drawn and one of them is chosen in proportion to how probable the model finds the space group after
it: sampling importance resampling (Rubin 1988), which draws from P(formula, Z | space group) as the pool grows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.formulas.composition import Amounts
from crystallm.sample.engine.engine import Engine, Job
from crystallm.sample.engine.rows import Outcome
from crystallm.sample.engine.token_sets import Choices, Walk
from crystallm.sample.engine.warp import Warp, chances, stream_of
from crystallm.sample.engine.without_replacement import pick
from crystallm.sample.grammar import wyckoff_cover as cover
from crystallm.sample.grammar.head_scores import log_probabilities
from crystallm.sample.grammar.possible import Prompt
from crystallm.sample.grammar.protocol import Grammar
from crystallm.sample.grammar.wyckoff_grammar import Partial

POOL = 256
"""Formulas drawn at a time."""

DRAWS_OF_A_POOL = 16
"""Draws that choose from the same formulas."""

MOST_FORMULAS = 16
"""Formulas that a draw is made with before it is given up."""


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

    def draw(self, random: np.random.Generator, without: Collection[tuple[Amounts, int]] = ()) -> Head | None:
        """One of the heads, but none with these formulas and formula units; None if no other is there.

        The more it is to do without, the more evenly the others are chosen: what the model thought best did not fit.
        At a temperature at which the chance of every one is zero in floating point, all are alike.
        """
        others = [(head.amounts, head.formula_units) not in without for head in self.heads]
        known = self.weights if self.weights.any() else np.ones(len(self.heads))
        weights = known ** (1 / (1 + len(without))) * others
        return self.heads[pick(weights, random)] if weights.any() else None


@dataclass
class HeadTask:
    """The task of writing a formula and its formula units. It has no sections, so nothing of it is refused."""

    grammar: Grammar
    prompt: Prompt
    judge: None = None
    proposal: None = None
    memory: None = None
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

    def differs(self) -> bool:
        """A formula may come again: how often it does is its weight."""
        return False


class OtherFormulas:
    """Draws of a prompt whose formula the model chooses: what is given up with one formula is made with another.

    make: the job of a draw by its number, without the formulas (and formula units) that it was given up with; None if
    there is no other.
    """

    def __init__(
        self, make: Callable[[int, Collection[tuple[Amounts, int]]], Job | None], numbers: Iterable[int]
    ) -> None:
        self._make, self._numbers = make, iter(numbers)
        self._next = next(self._numbers, None)
        self._open = 0
        """Draws that were begun and do not stand yet."""
        self._tried: dict[int, list[Outcome]] = {}
        self._settled: list[tuple[int, Outcome]] = []

    @property
    def finished(self) -> bool:
        """Whether all draws stand."""
        return self._next is None and self._open == 0

    def begin(self) -> Iterator[Job]:
        """All draws with their first formulas, each made when it is asked for."""
        while self._next is not None:
            job = self._make(self._next, ())
            assert job is not None  # nothing is left out yet
            self._next = next(self._numbers, None)
            self._open += 1
            yield job

    def end(self, outcome: Outcome) -> list[Job]:
        """Take note that a draw has ended; if it was given up the same with another formula."""
        number = outcome.task.number
        tried = [*self._tried.pop(number, []), outcome]
        if outcome.failure is not None and len(tried) < MOST_FORMULAS:
            prompts = [one.task.prompt for one in tried]
            job = self._make(number, {(prompt.amounts, prompt.formula_units) for prompt in prompts})
            if job is not None:
                self._tried[number] = tried
                return [job]
        redrawn = sum((Counter(one.redrawn) for one in tried), Counter[str]())
        self._settled.append((number, replace(outcome, steps=sum(one.steps for one in tried), redrawn=dict(redrawn))))
        self._open -= 1
        return []

    def settled(self) -> list[tuple[int, Outcome]]:
        """Draws that stand, each with its number, since this was last asked."""
        settled, self._settled = self._settled, []
        return settled


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
    jobs = [(HeadTask(grammar, prompt), stream_of(*w)) for w in words]
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
