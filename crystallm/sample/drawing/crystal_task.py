"""The task of making one crystal: its automaton, and what is refused while its sites are placed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.checks.fast_bonds import has_unreasonable_bonds
from crystallm.crystal.checks.fast_symmetry import is_written_in
from crystallm.crystal.checks.paths import IsWrittenIn
from crystallm.crystal.volumes import plausible_volume
from crystallm.sample.drawing.template_guide import Guide
from crystallm.sample.engine.mixture import Belief
from crystallm.sample.engine.token_sets import Choices, Walk
from crystallm.sample.engine.without_replacement import Memory
from crystallm.sample.grammar.contacts import Refusal, Surroundings
from crystallm.sample.grammar.possible import Prompt
from crystallm.sample.grammar.protocol import Grammar
from crystallm.sample.grammar.wyckoff_grammar import Partial, Stage

FIRST_AGAIN = 5
"""Draws, from 0, before this one all have protostructures of their own (decision 17)."""

PROTOSTRUCTURE = (Stage.HEAD, Stage.LETTER)
"""Stages of formula units, space group and Wyckoff letters."""


@dataclass(slots=True)
class CrystalTask:
    """One crystal of a prompt. `number` tells the samples of a prompt apart; `contact` and `bond_tries` are those of
    SampleConfig."""

    grammar: Grammar
    prompt: Prompt
    prompt_index: int
    number: int
    contact: float = 0.0
    memory: Memory | None = None
    guide: Guide | None = None
    bond_tries: int = 0
    is_written_in: IsWrittenIn = is_written_in
    partial: Partial = field(default_factory=Partial)
    _surroundings: Surroundings | None = None

    def start(self) -> Walk:
        """A fresh automaton over the texts that the prompt allows."""
        self.partial = Partial()
        self._surroundings = None
        return self.grammar.walk(self.prompt, self.partial)

    def resume(self, level: int, since: int, tokens: Sequence[int]) -> tuple[Walk, Choices]:
        """The automaton at the first choice of a stage of the site after the first `since`."""
        return self.grammar.resume(self.prompt, self.partial, since, level, tokens)

    def level(self) -> int:
        """What the next choice belongs to, as a Stage of the text."""
        return self.partial.stage

    @property
    def judge(self) -> CrystalTask:
        """The task itself: it knows where its sites are."""
        return self

    @property
    def proposal(self) -> TemplateProposal | None:
        """The templates, where there are any."""
        return None if self.guide is None else TemplateProposal(self, self.guide)

    def differs(self) -> bool:
        """Whether the next choice is of formula units, space group or a Wyckoff letter."""
        return self.partial.stage in PROTOSTRUCTURE

    def sections(self) -> int:
        """Complete sites."""
        return len(self.partial.sites)

    def refusal(self, since: int) -> Refusal | None:
        """Why the sites after the first `since` cannot stay: one cannot stand where it is, or the crystal is complete
        and has a higher symmetry than was written. None if they can."""
        partial = self.partial
        if self._surroundings is None:
            self._surroundings = Surroundings(partial.space_group, partial.cell, self.contact)
        around = self._surroundings
        around.keep(since)
        for site in partial.sites[since:]:
            reason = around.place(site)
            if reason:
                return reason
        wanted = partial.formula_units * around.group.centring_order * sum(amount for _, amount in partial.amounts)
        if around.n_atoms == wanted and not self.is_written_in(around.cell(), partial.space_group):
            return Refusal.HIGHER_SYMMETRY
        return None

    def objection(self, belief: Belief | None, before: int) -> Refusal | None:
        """A density that is none for the template or the composition, or a bond of unreasonable length in a complete
        crystal, the first few times. No bond counts if it follows a template whose own crystal has one: there it is the
        tabulated radii that are wrong."""
        if before >= self.bond_tries or not self.contact:
            return None
        assert self._surroundings is not None
        if self._is_implausible(belief):
            return Refusal.DENSITY
        if not has_unreasonable_bonds(self._surroundings.cell(), self._surroundings.first_atoms):
            return None
        exempt = self.guide is not None and belief is not None and self.guide.is_exempt(belief)
        return None if exempt else Refusal.BONDS

    def _is_implausible(self, belief: Belief | None) -> bool:
        """Whether the volume is none for the template that the draw follows; without one, for its composition."""
        drawn = self.partial.description()
        strays = None if self.guide is None or belief is None else self.guide.strays(drawn, belief)
        return plausible_volume(drawn) is False if strays is None else strays

    def hopeless(self, since: int) -> Collection[int]:
        """Tokens with which the coordinate of the site just refused, the only one, cannot begin wherever it goes on."""
        around, partial = self._surroundings, self.partial
        if around is None or around.n_sites > since:  # it stood, its symmetry was refused
            return ()
        site, starts = partial.sites[since], self.grammar.coordinate_starts
        if not starts or around.group.positions[site.letter].n_free != 1:
            return ()
        refused = around.hopeless(site.element, site.letter, list(starts.values()))
        return {token for token, out in zip(starts, refused.tolist(), strict=True) if out}


class TemplateProposal(NamedTuple):
    """The templates of a prompt, for one draw."""

    task: CrystalTask
    guide: Guide

    @property
    def belief(self) -> Belief:
        """The shares of the templates at the start."""
        return self.guide.belief

    @property
    def goes_by_component(self) -> bool:
        """Of later draws every other one: it may have a protostructure again that another template has."""
        return self.task.number >= FIRST_AGAIN and self.task.number % 2 == 1

    def used_up(self, belief: Belief) -> Sequence[int]:
        """The templates of the structure that was drawn."""
        return self.guide.used_up(self.task.partial.description(), belief)

    def factors(self, tokens: NDArray[np.int64], alive: NDArray[np.int64]) -> NDArray[np.float64]:
        """What the templates make of the choice that comes next."""
        return self.guide.factors(self.task.partial, tokens, alive)
