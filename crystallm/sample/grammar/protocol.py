"""The automaton that belongs to a layout, and what a model says of formula units and space group in its texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from crystallm.crystal.wyckoff import space_group
from crystallm.sample.engine.token_sets import Choices, Walk
from crystallm.sample.grammar.limits import Limits
from crystallm.sample.grammar.published_grammar import PublishedGrammar
from crystallm.sample.grammar.symmetry_search import Symmetries
from crystallm.sample.grammar.wyckoff_grammar import Grammar, Partial, Prompt
from crystallm.tokenizer.published_texts import PublishedLayout
from crystallm.tokenizer.text_layout import TextLayout


class Constraint(Protocol):
    """What sampling asks of the automaton of a layout."""

    @property
    def limits(self) -> Limits:
        """What a crystal may be."""

    @property
    def tokens(self) -> list[str]:
        """The text of each id."""

    @property
    def begin(self) -> int:
        """Id of the first token of a text."""

    @property
    def end(self) -> int:
        """Id of the last token of a text."""

    def check(self, prompt: Prompt) -> None:
        """Raise CompositionError if no text fulfils a prompt."""

    def walk(self, prompt: Prompt, partial: Partial) -> Walk:
        """All allowed texts of a prompt that has been checked; what is decided is noted in `partial`."""

    def resume(
        self, prompt: Prompt, partial: Partial, n_sites: int, stage: int, tokens: Sequence[int]
    ) -> tuple[Walk, Choices]:
        """The automaton at the first choice of a stage of the site after the first ones, and what is allowed there."""

    @property
    def coordinate_starts(self) -> dict[int, float]:
        """Ids of the tokens that can start a coordinate, with the values from which on they stand for an interval."""


AnyGrammar = Grammar | PublishedGrammar

ROWS = 32
"""Beginnings of texts that are scored at a time."""


def make_grammar(layout: TextLayout, limits: Limits, context: int) -> AnyGrammar:
    """The automaton over the texts of a layout. context: tokens that the model can see."""
    if isinstance(layout, PublishedLayout):
        return PublishedGrammar(layout, limits, context)
    return Grammar(layout, limits)


def published_symmetries(grammar: PublishedGrammar, model: Any, prompt: Prompt) -> Symmetries:
    """What a model of a published layout says of formula units and space group of a prompt with a formula.

    Its texts begin with the size of the conventional cell, so formula units of the primitive cell are known only
    together with the space group: what both say together is added up over the groups.
    """
    heads = grammar.heads(prompt)
    rows = list(heads)
    atoms = sum(amount for _, amount in prompt.amounts or ())
    joint: dict[int, NDArray[np.float64]] = {}
    for row, log_TV in zip(rows, log_probabilities(rows, model), strict=True):
        counts = tuple(n for _, n in heads[row])
        # What is not open is forced, as in a text that is drawn.
        is_open = [len({r[place] for r in rows if r[:place] == row[:place]}) > 1 for place in range(len(row))]
        cell = sum(float(log_TV[place - 1, row[place]]) for place in range(1, len(row)) if is_open[place])
        for number in grammar.groups(counts, prompt):
            units = sum(counts) // atoms // space_group(number).centring_order
            known = joint.setdefault(units, np.full(230, -np.inf))
            known[number - 1] = cell + float(log_TV[-1, grammar.group_ids[number]])
    values = sorted(joint)
    log = np.stack([joint[units] for units in values])
    log_units = np.logaddexp.reduce(log, axis=1)
    return Symmetries(values, log_units, log - log_units[:, None], np.isfinite(log))


def log_probabilities(rows: Sequence[tuple[int, ...]], model: Any) -> Iterator[NDArray[np.float64]]:
    """For each row of T tokens the log-probabilities (T, V) after each of them."""
    for first in range(0, len(rows), ROWS):
        some = rows[first : first + ROWS]
        widest = max(map(len, some))
        # What fills up a row on the right is not seen from its left.
        ids = torch.tensor([[*row, *([0] * (widest - len(row)))] for row in some], device=model.device)
        with torch.inference_mode():
            log_BTV = torch.log_softmax(model(input_ids=ids).logits.double(), dim=-1).cpu().numpy()
        for row, log_TV in zip(some, log_BTV, strict=True):
            yield log_TV[: len(row)]
