"""What is settled of a draw before its text is begun: formula units and space group that were asked for or searched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from crystallm.sample.config import SampleConfig
from crystallm.sample.engine.warp import Warp, draw
from crystallm.sample.grammar.possible import Prompt
from crystallm.sample.grammar.symmetry_search import Searched, Symmetries, in_turn, parse_spread
from crystallm.sample.prompts import NamedPrompt


def waits(item: NamedPrompt, config: SampleConfig) -> bool:
    """Whether draws of a prompt hang on earlier ones, to be unlike them."""
    return config.repeat < 1 and item.prompt.amounts is not None


def is_settled(prompt: Prompt, config: SampleConfig) -> bool:
    """Whether nothing of a draw of a formula is chosen before its text is begun, so that all draws share one memory."""
    units, group = prompt.formula_units is not None, prompt.space_group is not None
    searched = (config.space_groups and not group) or (config.units and not units)
    return not searched and (units or not group)


@dataclass(frozen=True)
class Plan:
    """What is settled of a draw before its text is begun; `scores` are the log-probabilities of what was settled."""

    prompt: Prompt
    scores: tuple[float, ...] = ()
    searched: Searched | None = None
    warmth: float = 1.0
    """Temperature with which it was drawn."""

    @property
    def ranking(self) -> float:
        """What it adds to the score by which draws are ranked: that of the choices, sharpened as draws are."""
        return float(sum(self.scores)) / self.warmth


Chosen = Callable[[np.random.Generator, Warp], Plan]
"""Makes the plan of one draw with its stream of random numbers."""


def plans(prompt: Prompt, config: SampleConfig, symmetries: Callable[[], Symmetries]) -> Iterator[Chosen]:
    """For each draw of a prompt, without end: what is settled before its text is begun.

    symmetries: what the model says of formula units and space group; asked for once, and only where it is needed.
    """
    if prompt.amounts is None or is_settled(prompt, config):
        while True:
            yield lambda stream, warp: Plan(prompt)
    known = symmetries()
    kind, told = ("space_group", config.space_groups) if config.space_groups else ("formula_units", config.units)
    if told is None or getattr(prompt, kind) is not None:
        # In the text Z stands before the space group: draw it from what both say together.
        while True:
            yield partial(draw_units, prompt, known)
    spread = parse_spread(told, kind)
    values, shares = known.most_probable(kind, spread.top)
    for place in in_turn(shares, evenly=spread.evenly):
        value = values[place]
        given = replace(prompt, space_group=value) if kind == "space_group" else replace(prompt, formula_units=value)
        yield partial(draw_given, prompt, given, Searched(kind, value, round(shares[place], 6)), known)


def draw_units(prompt: Prompt, symmetries: Symmetries, stream: np.random.Generator, warp: Warp) -> Plan:
    """Formula units drawn given the space group that was asked for."""
    assert prompt.space_group is not None
    weights = symmetries.units_given(prompt.space_group)
    chosen = draw(weights, stream, warp)
    return Plan(
        replace(prompt, formula_units=symmetries.units[chosen]), (float(weights[chosen]),), warmth=warp.temperature
    )


def draw_given(
    asked: Prompt, given: Prompt, searched: Searched, symmetries: Symmetries, stream: np.random.Generator, warp: Warp
) -> Plan:
    """The score of what the search settled is the model's own, as if the model had drawn it."""
    if given.formula_units is None:
        given = draw_units(given, symmetries, stream, warp).prompt
    assert given.formula_units is not None
    row = symmetries.units.index(given.formula_units)
    if asked.space_group is not None:
        return Plan(given, (float(symmetries.units_given(asked.space_group)[row]),), searched, warp.temperature)
    scores = () if asked.formula_units is not None else (float(symmetries.log_units[row]),)
    if given.space_group is not None:
        scores = (*scores, float(symmetries.log_groups[row, given.space_group - 1]))
    return Plan(given, scores, searched, warp.temperature)
