"""The automaton over a layout: at each place either one forced token or the set of tokens allowed.

It walks the declared fields of the layout. A branch that can no longer be completed is never offered: amounts can
always still become a reduced formula, the space group can hold the composition, the letters chosen so far leave a cover
of what remains, and the digits of a number stay within its bounds.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property, lru_cache
from math import gcd
from typing import Any, NamedTuple, TypeVar

import numpy as np

from crystallm.base.errors import CompositionError, LayoutError
from crystallm.crystal.description import Description, Site
from crystallm.crystal.formulas.composition import ELEMENTS, Amounts, element_order
from crystallm.crystal.wyckoff import ALPHABET, space_group
from crystallm.sample.engine.token_sets import Choices, Scale, Walk
from crystallm.sample.grammar import wyckoff_cover as cover
from crystallm.sample.grammar.head_scores import symmetries_of_units
from crystallm.sample.grammar.limits import Limits, limits_for, parameter_bounds
from crystallm.sample.grammar.possible import Prompt, check_prompt, units_that_fit, wanted_units
from crystallm.sample.grammar.symmetry_search import Symmetries
from crystallm.tokenizer.layout import (
    BEGIN,
    END,
    FREE_PARAMETERS,
    CellField,
    ChoiceField,
    FormulaField,
    Layout,
    Parameters,
    SitesField,
    full_parameters,
)
from crystallm.tokenizer.number_format import WRITTEN, NumberFormat, digit_tokens
from crystallm.tokenizer.text_layout import TextLayout

__all__ = [
    "ORDERED_ELEMENTS",
    "Partial",
    "Prompt",
    "Reading",
    "Stage",
    "TemplateIds",
    "WyckoffGrammar",
    "check_prompt",
    "units_that_fit",
    "walk_sites",
]

ORDERED_ELEMENTS = tuple(sorted(ELEMENTS, key=element_order))


class WyckoffGrammar:
    """Token ids of a layout, shared by all rows."""

    def __init__(self, layout: TextLayout, limits: Limits | None = None) -> None:
        if not isinstance(layout, Layout):
            raise LayoutError(f"this is not for layout {layout.name!r}; use a checkpoint of layout 'wyckoff'")
        self.layout = layout
        self.limits = limits or Limits()
        self.tokens = layout.vocabulary()
        self.ids = {token: number for number, token in enumerate(self.tokens)}
        fields = {part.name: part for part in layout.fields}
        self.formula = _as(FormulaField, fields["formula"])
        self.units = _as(ChoiceField, fields["formula_units"])
        self.group = _as(ChoiceField, fields["space_group"])
        self.cell = _as(CellField, fields["cell"])
        self.sites = _as(SitesField, fields["sites"])
        self.digits = {width: Scale(self.ids[token] for token in tokens) for width, tokens in WRITTEN.items()}
        """Ids of the tokens of one and of two digits."""
        styles = (self.cell.length, self.cell.angle, self.sites.coordinate)
        self.starts = {style: Scale(self.ids[start] for start in style.vocabulary()) for style in styles}
        """Ids that start a number, for each format."""
        self.group_ids = {number: self.choice(self.group, number) for number in range(1, 231)}
        self.letter_ids = {letter: self.ids[f" {letter}"] for letter in ALPHABET}
        self.letters = {number: letter for letter, number in self.letter_ids.items()}
        self.end = self.ids[END]
        self.begin = self.ids[BEGIN]
        self.elements = {symbol: self.ids[f"\n{symbol}"] for symbol in ELEMENTS}
        self.symbols = {number: symbol for symbol, number in self.elements.items()}
        self._amounts: dict[int, tuple[int, ...]] = {}

    def formula_head(self, amounts: Amounts) -> list[int]:
        """Ids of a text up to and with its formula."""
        head = [self.begin, self.ids[self.formula.tag]]
        for symbol, amount in amounts:
            head += [self.elements[symbol], *self.amount(amount)]
        return head

    def amount(self, amount: int) -> tuple[int, ...]:
        """Ids of an amount in the formula; none for one atom."""
        if amount not in self._amounts:
            tokens = digit_tokens(str(amount)) if amount > 1 else ()
            self._amounts[amount] = tuple(self.ids[token] for token in tokens)
        return self._amounts[amount]

    def choice(self, part: ChoiceField, value: int) -> int:
        """Id of the token of a choice."""
        return self.ids[part.token(value)]

    def check(self, prompt: Prompt) -> None:
        """Raise CompositionError if no text fulfils a prompt."""
        check_prompt(prompt, self.limits)

    def walk(self, prompt: Prompt, partial: Partial) -> Walk:
        """All allowed texts of a prompt that has been checked; what is decided is noted in `partial`."""
        yield from self.walk_head(prompt, partial)
        counts = tuple(amount * partial.formula_units for _, amount in partial.amounts)
        groups = cover.groups_that_hold(counts) if prompt.space_group is None else (prompt.space_group,)
        token = yield tuple(map(self.group_ids.__getitem__, groups))
        partial.space_group = int(self.tokens[token].rpartition(" ")[2])
        partial.stage = Stage.CELL
        yield from _cell(self, partial)
        yield (self.ids[self.sites.tag],)
        partial.left = [cover.all_left(partial.space_group, counts)]
        yield from walk_sites(self, partial)

    def walk_head(self, prompt: Prompt, partial: Partial) -> Walk:
        """The same up to and with the formula units."""
        for token in self.formula_head(prompt.amounts or ()):
            yield (token,)
        if prompt.amounts is not None:
            partial.amounts = prompt.amounts
            yield from _formula_units(self, prompt, partial)
        else:
            yield from _free_formula(self, prompt, partial)

    def resume(
        self, prompt: Prompt, partial: Partial, n_sites: int, stage: int, tokens: Sequence[int]
    ) -> tuple[Walk, Choices]:
        """The automaton at the first choice of a stage of the site after the first ones, and what is allowed there.

        tokens: the text up to that place.
        """
        del partial.sites[n_sites:], partial.left[n_sites + 1 :]
        if stage == Stage.COORDINATES:
            steps = walk_sites(self, partial, self.letters[tokens[-1]])
            return steps, next(steps)
        steps = walk_sites(self, partial)
        next(steps)
        return steps, steps.send(tokens[-1])  # its element

    def symmetries(self, model: Any, prompt: Prompt) -> Symmetries:
        """What a model says of formula units and space group of a prompt with a formula."""
        assert prompt.amounts is not None
        units = units_that_fit(prompt.amounts, prompt, self.limits)
        head = self.formula_head(prompt.amounts)
        possible = np.zeros((len(units), 230), dtype=bool)
        for row, value in enumerate(units):
            holding = cover.groups_that_hold(tuple(amount * value for _, amount in prompt.amounts))
            possible[row, [number - 1 for number in holding]] = True
        if prompt.space_group is not None:
            possible[:, np.arange(230) != prompt.space_group - 1] = False
        heads = [[*head, self.choice(self.units, value)] for value in units]
        return symmetries_of_units(model, heads, units, list(self.group_ids.values()), possible)

    def chooses_formula(self, prompt: Prompt) -> bool:
        """Whether a space group is given and the formula left open."""
        return prompt.amounts is None and prompt.space_group is not None

    def template_ids(self, crystal: Description) -> TemplateIds:
        """The choices in the text of a known crystal."""
        letters = [self.letter_ids[site.letter] for site in crystal.sites]
        return TemplateIds(self.choice(self.units, crystal.formula_units), self.group_ids[crystal.space_group], letters)

    @cached_property
    def coordinate_starts(self) -> dict[int, float]:
        """Ids of the tokens that can start a coordinate, and the smallest value that each can become."""
        return {token: float(self.tokens[token]) for token in self.starts[self.sites.coordinate].ids}


class TemplateIds(NamedTuple):
    """Ids of the choices in the text of a known crystal."""

    formula_units: int
    space_group: int
    letters: Sequence[int]
    """Wyckoff letters of the sites."""


Part = TypeVar("Part")


def _as(kind: type[Part], part: object) -> Part:
    assert isinstance(part, kind)
    return part


class Stage(IntEnum):
    """What the next choice of a text is about. From LETTER on it is about one site, before it about all of them."""

    HEAD = 0
    CELL = 1
    LETTER = 2
    COORDINATES = 3


@dataclass(slots=True)
class Reading:
    """What the next token of a number decides: the k-th one allowed makes it `low + k * step` or up to a step more."""

    place: int = 0
    """Among the six cell parameters, or among the free coordinates of a site."""
    low: float = 0.0
    step: float = 0.0


@dataclass(slots=True)
class Partial:
    """What has been decided so far of one crystal."""

    stage: Stage = Stage.HEAD
    amounts: Amounts = ()
    formula_units: int = 0
    space_group: int = 0
    cell: Parameters = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    sites: list[Site] = field(default_factory=list)
    left: list[cover.Left] = field(default_factory=list)
    """What was still to be placed before each of the sites, and after them."""
    number: Reading = field(default_factory=Reading)
    """While a number is being written: which, and what its next token decides."""

    def description(self) -> Description:
        """The finished crystal."""
        return Description(self.amounts, self.formula_units, self.space_group, self.cell, tuple(self.sites))


def _formula_units(grammar: WyckoffGrammar, prompt: Prompt, partial: Partial) -> Walk:
    fitting = units_that_fit(partial.amounts, prompt, grammar.limits)
    token = yield tuple(grammar.choice(grammar.units, value) for value in fitting)
    partial.formula_units = int(grammar.tokens[token].rpartition(" ")[2])


class _Finished:
    """With how many formula units amounts are a finished formula of a prompt; what is found is kept. The elements and
    their order make no difference."""

    def __init__(self, prompt: Prompt, limits: Limits) -> None:
        self._prompt, self._limits = prompt, limits
        self.most = limits.max_atoms // (prompt.formula_units or 1)
        """Atoms of one formula unit."""
        group = prompt.space_group
        self._held_by = None if group is None else (cover.supply(group), cover.need_of(group))
        self._units: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._growing: dict[tuple[int, ...], bool] = {}
        self._next: dict[tuple[tuple[int, ...], bool], tuple[int, ...]] = {}

    def units_of(self, counts: tuple[int, ...]) -> tuple[int, ...]:
        """Formula units with which these amounts are a finished formula; none if they are not."""
        if sum(counts) > self.most or gcd(*counts) != 1:
            return ()
        key = tuple(sorted(counts))
        if key not in self._units:
            wanted = wanted_units(sum(key), self._prompt, self._limits)
            if self._held_by is not None:
                wanted = [z for z in wanted if cover.can_cover(tuple([n * z for n in key]), *self._held_by)]
            self._units[key] = tuple(wanted)
        return self._units[key]

    def can_grow(self, counts: tuple[int, ...]) -> bool:
        """Whether some amount of one more element finishes the formula."""
        key = tuple(sorted(counts))
        if key not in self._growing:
            room = range(1, self.most - sum(key) + 1) if len(key) < self._limits.max_elements else ()
            self._growing[key] = any(self.units_of((*key, extra)) for extra in room)
        return self._growing[key]

    def next_amounts(self, counts: tuple[int, ...], *, may_grow: bool) -> tuple[int, ...]:
        """The amounts of one more element that finish the formula, or that let another element do so, if it may."""
        key = tuple(sorted(counts)), may_grow
        if key not in self._next:
            longer = ((n, (*counts, n)) for n in range(1, self.most - sum(counts) + 1))
            self._next[key] = tuple(n for n, now in longer if self.units_of(now) or (may_grow and self.can_grow(now)))
        return self._next[key]


@lru_cache(maxsize=4)
def _finished(prompt: Prompt, limits: Limits) -> _Finished:
    """One for all texts of a prompt."""
    return _Finished(prompt, limits)


def _free_formula(grammar: WyckoffGrammar, prompt: Prompt, partial: Partial) -> Walk:
    """A reduced formula in order of electronegativity, and then the formula units."""
    limits = grammar.limits
    last = len(ORDERED_ELEMENTS)
    known = _finished(prompt, limits)
    # Only the last element cannot be followed by another.
    starts: Sequence[str] = ()
    if known.next_amounts((), may_grow=True):
        starts = ORDERED_ELEMENTS if known.next_amounts((), may_grow=False) else ORDERED_ELEMENTS[:-1]
    if not starts:
        asked = [f"space group {prompt.space_group}"] if prompt.space_group else []
        asked += [f"{prompt.formula_units} formula units"] if prompt.formula_units else []
        raise CompositionError(
            f"no crystal of at most {limits.max_atoms} atoms in the primitive cell has {' and '.join(asked)}; "
            "leave one of them out, or raise --max-atoms"
        )
    counts: tuple[int, ...] = ()
    token = yield tuple(grammar.elements[symbol] for symbol in starts)
    while True:
        symbol = grammar.symbols[token]
        place = ORDERED_ELEMENTS.index(symbol) + 1
        # What may still be written of each amount that is possible; nothing of the one that has been written.
        rests = {n: grammar.amount(n) for n in known.next_amounts(counts, may_grow=place < last)}
        while True:
            allowed = list(dict.fromkeys(rest[0] for rest in rests.values() if rest))
            amount = next((n for n, rest in rests.items() if not rest), None)
            units: dict[int, int] = {}
            if amount is not None:
                now = (*counts, amount)
                units = {grammar.choice(grammar.units, value): value for value in known.units_of(now)}
                if place < last and known.can_grow(now):
                    allowed += [grammar.elements[other] for other in ORDERED_ELEMENTS[place:]]
            token = yield (*allowed, *units)
            if amount is not None and (token in units or token in grammar.symbols):
                break
            rests = {n: rest[1:] for n, rest in rests.items() if rest and rest[0] == token}
        counts = (*counts, amount)
        partial.amounts = (*partial.amounts, (symbol, amount))
        if token in units:
            partial.formula_units = units[token]
            return


def _number(
    grammar: WyckoffGrammar, style: NumberFormat, low: float, high: float, reading: Reading
) -> Generator[Choices, int, float]:
    """A number of a format between two bounds, both included; the digits of a branch always meet the bounds."""
    scale = 10**style.decimals
    lowest = max(round(low * scale), style.lower * scale)
    highest = min(round(high * scale), (style.upper + 1) * scale - 1)
    if highest < lowest:  # narrower than the last digit: the bounds are wide enough that this is a defect of ours
        raise AssertionError(f"no number with {style.decimals} decimals between {low} and {high}")
    unit = 10 ** sum(style.widths)
    starts, first = grammar.starts[style], style.lower * scale // unit
    reading.low, reading.step = (lowest // unit) * unit / scale, unit / scale
    token = yield starts.between(lowest // unit - first, highest // unit + 1 - first)
    value = starts.places[token] + first
    for width in style.widths:
        base, digits = 10**width, grammar.digits[width]
        unit //= base
        least, most = max(lowest - value * base * unit, 0) // unit, (highest - value * base * unit) // unit
        reading.low, reading.step = (value * base + least) * unit / scale, unit / scale
        token = yield digits.between(least, min(most + 1, base))
        value = value * base + digits.places[token]
    return float(value / scale)


def _cell(grammar: WyckoffGrammar, partial: Partial) -> Generator[Choices, int, None]:
    """The free cell parameters; lengths keep a sensible volume reachable, angles close to a cell."""
    group = space_group(partial.space_group)
    atoms = partial.formula_units * sum(n for _, n in partial.amounts)
    limits = limits_for(partial.amounts, partial.formula_units, grammar.limits)
    free: dict[int, float] = {}
    for place in FREE_PARAMETERS[group.crystal_system]:
        yield (grammar.ids[grammar.cell.tag(place)],)
        low, high = parameter_bounds(place, free, group, atoms, limits)
        partial.number.place = place
        free[place] = yield from _number(grammar, grammar.cell.format(place), low, high, partial.number)
    partial.cell = full_parameters(group.crystal_system, free)


def walk_sites(grammar: WyckoffGrammar, partial: Partial, letter: str | None = None) -> Walk:
    """Sites element by element in the order of the formula, after those that `partial` holds, until every atom is
    placed; and the end of the text. letter: of the first of them, if it is written."""
    group = space_group(partial.space_group)
    positions = cover.positions(partial.space_group)
    while (left := partial.left[-1]).counts:
        symbol, _ = partial.amounts[-len(left.counts)]
        if letter is None:
            partial.stage = Stage.LETTER
            yield (grammar.elements[symbol],)
            letters = cover.letters(partial.space_group, left)
            letter = grammar.letters[(yield tuple(map(grammar.letter_ids.__getitem__, letters)))]
        partial.stage = Stage.COORDINATES
        values = []
        for place in range(group.positions[letter].n_free):
            partial.number.place = place
            values.append((yield from _number(grammar, grammar.sites.coordinate, 0.0, 1.0, partial.number)))
        partial.sites.append(Site(symbol, letter, tuple(values)))
        partial.left.append(left.after(letter, positions[letter]))
        letter = None
    yield (grammar.end,)
