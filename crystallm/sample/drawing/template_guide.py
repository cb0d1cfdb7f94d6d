"""Known crystals that a text may follow: the components of a mixture with the model.

A text with a formula is drawn from a mixture. One component is the model alone. Each of the others follows a template,
a known crystal with the elements exchanged (`crystallm.data.templates`): it takes the template's formula units, space
group and Wyckoff letters, and draws every number from the model's distribution times a bell around the template's
number. Which component a text belongs to is never decided: each has a share, and what has been drawn changes the shares
as Bayes' rule says. So known prototypes of similar elements become probable, the model tells them apart by all that it
knows, fits cell and coordinates to the elements, and can still write what no template has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.checks.fast_bonds import has_unreasonable_bonds
from crystallm.crystal.description import Description, expand
from crystallm.crystal.volumes import volume_per_atom
from crystallm.data.templates import Template, TemplateLibrary
from crystallm.sample.config import SampleConfig
from crystallm.sample.decoding.loops import parts_of_bells
from crystallm.sample.drawing.template_structures import Structures
from crystallm.sample.engine.mixture import Belief
from crystallm.sample.grammar.possible import Prompt, multiple_that_fits
from crystallm.sample.grammar.protocol import Grammar
from crystallm.sample.grammar.wyckoff_grammar import Partial, Stage

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Bells:
    """How far the numbers of a crystal stray from those of a template, fitted on validation crystals.

    A bell is a Cauchy distribution, whose tails let the model overrule a template that does not fit.
    """

    length: float = 0.004
    """Of a cell length, as a part of it (decision 20)."""
    angle: float = 1.0
    """Of a cell angle, degrees."""
    coordinate: float = 0.005
    """Of a fractional coordinate."""


@dataclass(frozen=True)
class Followed:
    """A template that a draw followed."""

    id: str
    formula: str
    share: float
    """Of all templates of this known crystal, after everything is drawn: how sure it is that the draw followed one."""


FURTHEST = 0.25
"""Natural logarithm of the volume of a crystal over that of the template it follows, in either direction: of 667
observed validation crystals 97 % are nearer to the nearest template of their protostructure (docs/crystal.md)."""

ODDS_OF_TEMPLATES, POWER_OF_NEAREST = 3.2, 0.3
"""Odds of all templates of a formula together against the model alone, where one has the same elements (weight 1), and
the power of the greatest weight with which they fall where none has: fitted on validation crystals (decision 17)."""


class Guide:
    """The templates of one prompt as factors by which the model's probabilities are multiplied."""

    def __init__(
        self, grammar: Grammar, templates: Sequence[Template], *, weight: float = 1.0, bells: Bells | None = None
    ) -> None:
        self.templates = templates
        self.bells = bells or Bells()
        weights = np.array([template.weight for template in templates])
        odds = weight * ODDS_OF_TEMPLATES * weights.max() ** POWER_OF_NEAREST
        self.belief = Belief.of(np.array([1.0, *(odds * weights / weights.sum())]) / (1.0 + odds))
        """Shares of the model alone and of each template, before anything is drawn."""
        crystals = [template.description for template in templates]
        ids = [one for crystal in crystals if (one := grammar.template_ids(crystal)) is not None]
        assert len(ids) == len(crystals), "texts of this layout cannot follow templates"
        self._units = np.array([one.formula_units for one in ids])
        self._groups = np.array([one.space_group for one in ids])
        self._cells: Array = np.array([crystal.cell for crystal in crystals], dtype=np.float64)
        longest = max((len(crystal.sites) for crystal in crystals), default=0)
        self._letters = np.full((len(crystals), longest), -1)
        """Ids of the Wyckoff letters of each site, -1 beyond the last."""
        self._first_number = np.zeros((len(crystals), longest), dtype=np.int64)
        """Where the free coordinates of each site begin in `_numbers`."""
        numbers: list[float] = []
        for place, crystal in enumerate(crystals):
            for index, site in enumerate(crystal.sites):
                self._letters[place, index] = ids[place].letters[index]
                self._first_number[place, index] = len(numbers)
                numbers += site.free
        self._numbers: Array = np.array(numbers, dtype=np.float64)
        self._structures = Structures(crystals)

    def followed(self, belief: Belief) -> Followed | None:
        """The known crystal that a draw followed most likely; None if more likely none."""
        shares: dict[tuple[str, str], float] = {}
        for index, share in zip(belief.alive.tolist(), belief.shares[1:].tolist(), strict=True):
            template = self.templates[index]
            shares[template.id, template.formula] = shares.get((template.id, template.formula), 0.0) + share
        if belief.shares[0] >= 0.5 or not shares:
            return None
        name, formula = max(shares, key=shares.__getitem__)
        return Followed(name, formula, round(shares[name, formula], 4))

    def strays(self, drawn: Description, belief: Belief) -> bool | None:
        """Whether the volume of a crystal is far from that of the template that it followed most likely; None if it
        followed none."""
        if belief.shares[0] >= 0.5 or not belief.alive.size:
            return None
        template = self.templates[int(belief.alive[np.argmax(belief.shares[1:])])].description
        return abs(log(volume_per_atom(drawn) / volume_per_atom(template))) > FURTHEST

    def used_up(self, drawn: Description, belief: Belief) -> list[int]:
        """Numbers of the templates that are the same structure as what was drawn, or as the one that it followed most
        likely, if it followed any."""
        numbers = set(self._structures.like(drawn))
        if belief.shares[0] < 0.5 and belief.alive.size:
            followed = int(belief.alive[np.argmax(belief.shares[1:])])
            numbers |= {followed, *self._structures.like(self.templates[followed].description)}
        return sorted(numbers)

    def is_exempt(self, belief: Belief) -> bool:
        """Whether a draw followed a known crystal which itself has bonds of unreasonable length, so that they say
        nothing of the draw."""
        followed = self.followed(belief)
        if followed is None:
            return False
        return _has_unreasonable_bonds(next(one.known for one in self.templates if one.id == followed.id))

    def factors(self, partial: Partial, tokens: NDArray[np.int64], who: NDArray[np.int64]) -> Array:
        """Factors (len(who), C) for the tokens allowed next (C,), of each of the templates `who`."""
        site = len(partial.sites)
        if not who.size:  # the crystal may have more sites than any template
            return np.zeros((0, len(tokens)))
        if partial.stage is Stage.HEAD:
            wanted = (self._groups if partial.formula_units else self._units)[who]
        elif partial.stage is Stage.LETTER:
            wanted = self._letters[who, site]
        else:
            return self._number_factors(partial, len(tokens), who, site)
        return np.asarray(wanted[:, None] == tokens[None], dtype=np.float64)

    def _number_factors(self, partial: Partial, count: int, who: NDArray[np.int64], site: int) -> Array:
        number = partial.number
        goes_around = partial.stage is Stage.COORDINATES  # 0.99 is near 0.01
        if goes_around:
            middles = self._numbers[self._first_number[who, site] + number.place]
            widths = np.full(len(who), self.bells.coordinate)
        else:
            middles = self._cells[who, number.place]
            widths = middles * self.bells.length if number.place < 3 else np.full(len(who), self.bells.angle)
        parts: Array = parts_of_bells(number.low, number.step, count, middles, widths, goes_around)
        return parts


def find_guide(library: TemplateLibrary | None, grammar: Grammar, prompt: Prompt, config: SampleConfig) -> Guide | None:
    """The templates of a prompt with a formula; None where there are none, or none are wanted."""
    if library is None or not config.guide or prompt.amounts is None:  # a formula that the model chooses is its own
        return None
    found = library.find(
        prompt.amounts,
        formula_units=prompt.formula_units,
        space_group=prompt.space_group,
        multiple=multiple_that_fits(prompt, grammar.limits),
    )
    found = [
        template
        for template in found
        if template.description.n_sites <= config.max_atoms and grammar.template_ids(template.description) is not None
    ]
    return Guide(grammar, found, weight=config.guide) if found else None


@lru_cache(maxsize=4096)
def _has_unreasonable_bonds(crystal: Description) -> bool:
    """Many formulas follow the same crystals."""
    return has_unreasonable_bonds(expand(crystal))
