"""The automaton over the texts of the published models: what is free is chosen, all boilerplate and arithmetic follows.

Free are the size of the cell, the space group, the free cell parameters, and of each site its multiplicity and those
coordinates that its position leaves free. The same is never offered as in `constraint`: what cannot be completed, and
here also a text that would outgrow the model's context.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from math import gcd
from typing import Any, TypeVar

from crystallm.base.errors import CompositionError
from crystallm.crystal.cell import volume_of
from crystallm.crystal.description import Description
from crystallm.crystal.formulas.composition import format_formula, reduce_amounts
from crystallm.crystal.wyckoff import space_group
from crystallm.sample.engine.token_sets import Choices, Walk
from crystallm.sample.grammar import wyckoff_cover as cover
from crystallm.sample.grammar.cif_orbits import UNIT, places, still_alive, values
from crystallm.sample.grammar.head_scores import symmetries_of_cells
from crystallm.sample.grammar.limits import Limits, limits_for, parameter_bounds
from crystallm.sample.grammar.symmetry_search import Symmetries
from crystallm.sample.grammar.wyckoff_grammar import Partial, Prompt, Stage, check_prompt
from crystallm.tokenizer.cif_listing import ListedSite, listed_order, site_at
from crystallm.tokenizer.layout import FREE_PARAMETERS, full_parameters
from crystallm.tokenizer.published_texts import (
    GROUP_MARK,
    LINE,
    Counts,
    PublishedLayout,
    published_elements,
    published_groups,
)

T = TypeVar("T")

CENTRINGS = (1, 2, 3, 4)
"""Lattice points of a conventional cell: P; A, C and I; R on hexagonal axes; F."""

KEPT, KEPT_PROMPTS = 20_000, 500
"""Pieces of text, and prompts, whose tokens are remembered; beyond that all are forgotten, so that memory is bounded.
"""

LARGEST = (("Na", 999), ("Cl", 998))
"""Stand for elements with their numbers of atoms where the length of a text is bounded."""


@cache
def groups_by_centring() -> Mapping[int, tuple[int, ...]]:
    """Numbers of the space groups with a token; those of few rotations first, which hold most compositions."""
    numbers = sorted(published_groups().values(), key=lambda n: len(space_group(n).rotations))
    return {c: tuple(n for n in numbers if space_group(n).centring_order == c) for c in CENTRINGS}


class PublishedGrammar:
    """Token ids of a published layout and the texts that prompts allow, none longer than `context` tokens."""

    def __init__(self, layout: PublishedLayout, limits: Limits | None = None, context: int = 1024) -> None:
        self.layout, self.limits, self.context = layout, limits or Limits(), context
        vocabulary = layout.vocabulary()
        self.ids = {token: number for number, token in enumerate(vocabulary)}
        self.tokens = [token.removesuffix(GROUP_MARK) for token in vocabulary]
        self.begin = self.ids[layout.begin]
        self.line_end = self.ids["\n"]
        self.end = self.ids[layout.end or "\n"]
        self.group_ids = {number: self.ids[symbol + GROUP_MARK] for symbol, number in published_groups().items()}
        self._numbers = {token: number for number, token in self.group_ids.items()}
        self._digits = tuple(self.ids[digit] for digit in "0123456789")
        self._spelled: dict[str, tuple[int, ...]] = {}
        self._holding: dict[tuple[tuple[int, ...], int | None, int | None, int], bool] = {}
        self._growing: dict[tuple[tuple[int, ...], int | None, int | None], bool] = {}
        self._heads: dict[Prompt, dict[tuple[int, ...], Counts]] = {}
        one = len(self.spell(self._frame(LARGEST[:1])))
        each = len(self.spell(self._frame(LARGEST))) - one
        site = len(self.spell(f"{layout.site_text('Na', 999)}192 0.0000 0.0000 0.0000{layout.site_end}"))
        # Four tokens for the brackets of a polyanion in the reduced formula.
        self._rooms = [(context - one - 4 - each * (n - 1)) // site for n in range(1, 120)]

    def _frame(self, counts: Counts) -> str:
        """All but the sites of a text as long as they come with so many elements."""
        layout, cell = self.layout, "".join(f"{self.layout.cell_item(place)}120.0000" for place in range(6))
        head = layout.formula_text(counts) + layout.properties_text(counts)
        return head + "Si" + cell + layout.middle_text(counts, 230, 99999.9999) + layout.last_text

    def spell(self, text: str) -> tuple[int, ...]:
        """Ids of a piece of text without the symbol of a space group."""
        if text not in self._spelled:
            if len(self._spelled) > KEPT:
                self._spelled.clear()
            tokens = self.layout.split(text)
            assert isinstance(tokens, list), tokens
            self._spelled[text] = tuple(self.ids[token] for token in tokens)
        return self._spelled[text]

    def check(self, prompt: Prompt) -> None:
        """Raise CompositionError if no text fulfils a prompt."""
        known = published_groups().values()
        if prompt.space_group is not None and prompt.space_group not in known:
            raise CompositionError(
                f"space group {prompt.space_group} has no token in layout {self.layout.name!r}; choose another group, "
                "or a model of layout 'wyckoff'"
            )
        for symbol, _ in prompt.amounts or ():
            if symbol not in published_elements():
                raise CompositionError(
                    f"{symbol} has no token in layout {self.layout.name!r}; use a model of layout 'wyckoff'"
                )
        check_prompt(prompt, self.limits)
        if prompt.amounts is not None and not self.heads(prompt):
            raise CompositionError(
                f"no text of {format_formula(prompt.amounts)} as asked for can be written: it must fit into the "
                f"{self.context} tokens of this model, and its formula into a line of {LINE} letters; leave out "
                "formula units or space group, or use a model of layout 'wyckoff'"
            )

    # Which cells and groups are possible.

    def groups(self, counts: tuple[int, ...], prompt: Prompt) -> list[int]:
        """The space groups that can hold so many atoms of each element in their conventional cell."""
        found = [
            number
            for centring in self._centrings(counts, prompt)
            for number in groups_by_centring()[centring]
            if prompt.space_group in (None, number) and self._fits(counts, number)
        ]
        return found if found or prompt.multiple == 1 else self.groups(counts, replace(prompt, multiple=1))

    def holds(self, counts: tuple[int, ...], prompt: Prompt) -> bool:
        """Whether any space group can."""
        key = (tuple(sorted(counts)), prompt.formula_units, prompt.space_group, prompt.multiple)
        if key not in self._holding:
            self._holding[key] = any(
                self._fits(counts, number)
                for centring in self._centrings(counts, prompt)
                for number in groups_by_centring()[centring]
                if prompt.space_group in (None, number)
            )
        return self._holding[key]

    def grows(self, counts: tuple[int, ...], prompt: Prompt) -> bool:
        """Whether some number of atoms of one more element finishes the formula of a cell."""
        key = (tuple(sorted(counts)), prompt.formula_units, prompt.space_group)
        if key not in self._growing:
            divisor, atoms = gcd(*counts), sum(counts)
            self._growing[key] = len(counts) < self.limits.max_elements and any(
                self.holds((*counts, extra), prompt)
                for centring in CENTRINGS
                if divisor % centring == 0
                for extra in range(centring, self.limits.max_atoms * centring - atoms + 1, centring)
            )
        return self._growing[key]

    def _centrings(self, counts: tuple[int, ...], prompt: Prompt) -> list[int]:
        divisor, atoms = gcd(*counts), sum(counts)
        return [
            centring
            for centring in CENTRINGS
            if divisor % centring == 0
            and atoms <= self.limits.max_atoms * centring
            and prompt.formula_units in (None, divisor // centring)
            and (prompt.formula_units is not None or divisor // centring % prompt.multiple == 0)
            and (prompt.space_group is None or space_group(prompt.space_group).centring_order == centring)
        ]

    def _fits(self, counts: tuple[int, ...], number: int) -> bool:
        centring, offer = space_group(number).centring_order, cover.supply(number)
        primitive, room = tuple(count // centring for count in counts), self._rooms[len(counts) - 1]
        if not cover.can_cover(primitive, offer, cover.need_of(number)):
            return False
        if sum(primitive) <= room:  # a site each is the most there can be
            return True
        sites = cover.fewest_sites(primitive, offer)
        return sites is not None and sites <= room

    def heads(self, prompt: Prompt) -> dict[tuple[int, ...], Counts]:
        """The beginnings of a text, up to the space group, that the formula of a prompt allows, and their cells."""
        if prompt not in self._heads:
            if len(self._heads) > KEPT_PROMPTS:
                self._heads.clear()
            assert prompt.amounts is not None
            amounts = sorted(prompt.amounts, key=lambda pair: listed_order(pair[0]))
            most = self.limits.max_atoms // sum(amount for _, amount in amounts)
            found = {}
            for z in sorted({units * centring for units in range(1, most + 1) for centring in CENTRINGS}):
                counts = tuple((symbol, amount * z) for symbol, amount in amounts)
                if self.holds(tuple(n for _, n in counts), prompt) and self.layout.expresses(counts):
                    found[self.head(counts)] = counts
            if not found and prompt.multiple > 1:
                found = self.heads(replace(prompt, multiple=1))
            self._heads[prompt] = found
        return self._heads[prompt]

    def head(self, counts: Counts) -> tuple[int, ...]:
        """Ids of a text up to the symbol of the space group."""
        return self.spell(self.layout.formula_text(counts)) + self.spell(self.layout.properties_text(counts))

    # The texts.

    def walk(self, prompt: Prompt, partial: Partial) -> Walk:
        """All allowed texts of a prompt that has been checked; what is decided is noted in `partial`."""
        if prompt.amounts is not None:
            counts = yield from _one_of(self.heads(prompt))
        else:
            counts = yield from self._free_formula(prompt)
            yield from _forced(self.spell(self.layout.properties_text(counts))[1:])
        atoms = tuple(n for _, n in counts)
        token = yield tuple(self.group_ids[number] for number in self.groups(atoms, prompt))
        group = space_group(self._numbers[token])
        partial.space_group = group.number
        partial.amounts, partial.formula_units = reduce_amounts(dict(counts)), gcd(*atoms) // group.centring_order
        partial.stage = Stage.CELL
        yield from self._cell(partial)
        yield from _forced(self.spell(self.layout.middle_text(counts, group.number, volume_of(partial.cell))))
        listed = sorted(partial.amounts, key=lambda item: listed_order(item[0]))
        partial.left = [cover.all_left(group.number, tuple(n * partial.formula_units for _, n in listed))]
        yield from self._atom_list(partial)

    def resume(
        self, prompt: Prompt, partial: Partial, n_sites: int, stage: int, tokens: Sequence[int]
    ) -> tuple[Walk, Choices]:
        """The automaton at the first choice of a stage of the site after the first ones, and what is allowed there.

        tokens: the text up to that place. What stands before the site is not walked again: it takes far longer.
        """
        del partial.sites[n_sites:], partial.left[n_sites + 1 :]
        steps = self._atom_list(partial)
        choices = next(steps)
        for token in tokens[len(tokens) - tokens[::-1].index(self.line_end) :]:  # the line of the site so far
            choices = steps.send(token)
        return steps, choices

    def symmetries(self, model: Any, prompt: Prompt) -> Symmetries:
        """What a model says of formula units and space group of a prompt with a formula."""
        atoms = sum(amount for _, amount in prompt.amounts or ())
        groups = partial(self.groups, prompt=prompt)
        return symmetries_of_cells(model, self.heads(prompt), groups, self.group_ids, atoms)

    def chooses_formula(self, prompt: Prompt) -> bool:
        """Never: the size of the cell stands before the formula."""
        return False

    def walk_head(self, prompt: Prompt, partial: Partial) -> Walk:
        """There is no such part of a text."""
        raise AssertionError("no formula is chosen")

    def template_ids(self, crystal: Description) -> None:
        """None: these texts follow no known crystals."""

    @property
    def coordinate_starts(self) -> dict[int, float]:
        """None: a coordinate starts with its first digit, which settles too little."""
        return {}

    def _free_formula(self, prompt: Prompt) -> Generator[Choices, int, Counts]:
        """The atoms of a cell, elements in the order of the text, up to the token that ends the formula."""
        limits = self.limits
        order = sorted(published_elements(), key=listed_order)
        most = limits.max_atoms * max(CENTRINGS)

        def ends(counts: tuple[int, ...], symbols: Sequence[str]) -> bool:
            whole = tuple(zip(symbols, counts, strict=True))
            return self.holds(counts, prompt) and self.layout.expresses(whole)

        def grows(counts: tuple[int, ...], symbols: Sequence[str]) -> bool:
            return symbols[-1] != order[-1] and self.grows(counts, prompt)

        possible = [n for n in range(2, most + 1) if self.holds((n,), prompt) or self.grows((n,), prompt)]
        if not possible:
            asked = [f"space group {prompt.space_group}"] if prompt.space_group else []
            asked += [f"{prompt.formula_units} formula units"] if prompt.formula_units else []
            raise CompositionError(
                f"no crystal of at most {limits.max_atoms} atoms in the primitive cell has {' and '.join(asked)}; "
                "leave one of them out, or raise --max-atoms"
            )
        ending = self.spell(self.layout.properties_text(LARGEST))[0]
        starts = order if any(self.holds((n,), prompt) for n in possible) else order[:-1]
        counts: tuple[int, ...] = ()
        symbols: list[str] = []
        yield from _forced(self.spell(self.layout.formula_text(())))
        token = yield tuple(self.ids[symbol] for symbol in starts)
        while token != ending:
            symbols.append(self.tokens[token])
            later = [self.ids[symbol] for symbol in order[order.index(symbols[-1]) + 1 :]]
            # What may still be written of each number that is possible; nothing of the one that has been written.
            numbers = [(*counts, n) for n in range(1, most - sum(counts) + 1)]
            rests = {now: self.spell(str(now[-1])) for now in numbers if ends(now, symbols) or grows(now, symbols)}
            while True:
                allowed = list(dict.fromkeys(rest[0] for rest in rests.values() if rest))
                written = next((now for now, rest in rests.items() if not rest), None)
                if written is not None:
                    allowed += [ending] if ends(written, symbols) else []
                    allowed += later if grows(written, symbols) else []
                token = yield tuple(allowed)
                if written is not None and token not in self._digits:
                    break
                rests = {now: rest[1:] for now, rest in rests.items() if rest and rest[0] == token}
            counts = written
        return tuple(zip(symbols, counts, strict=True))

    def _cell(self, partial: Partial) -> Generator[Choices, int, None]:
        group = space_group(partial.space_group)
        system = group.crystal_system
        atoms = partial.formula_units * sum(n for _, n in partial.amounts)
        limits = limits_for(partial.amounts, partial.formula_units, self.limits)
        free: dict[int, float] = {}
        for place in range(6):
            yield from _forced(self.spell(self.layout.cell_item(place)))
            if place in FREE_PARAMETERS[system]:
                free[place] = yield from self._number(*parameter_bounds(place, free, group, atoms, limits))
            else:
                yield from _forced(self.spell(f"{full_parameters(system, free)[place]:.4f}"))
        partial.cell = full_parameters(system, free)

    def _number(self, low: float, high: float) -> Generator[Choices, int, float]:
        """A number of four decimals between two bounds, both included; its whole part is as long as it must be."""
        lowest, highest = round(low * UNIT), round(high * UNIT)
        wholes = {(*self.spell(str(n)), self.ids["."]): n for n in range(lowest // UNIT, highest // UNIT + 1)}
        value, unit = (yield from _one_of(wholes)), UNIT
        while unit > 1:
            unit //= 10
            least, most = max(lowest - value * 10 * unit, 0) // unit, (highest - value * 10 * unit) // unit
            token = yield self._digits[least : most + 1]
            value = value * 10 + self._digits.index(token)
        return value / UNIT

    def _atom_list(self, partial: Partial) -> Walk:
        """Sites element by element, after those that `partial` holds, until every atom is placed; and the end."""
        group = space_group(partial.space_group)
        positions = cover.positions(group.number)
        symbols = sorted((symbol for symbol, _ in partial.amounts), key=listed_order)
        while (left := partial.left[-1]).counts:
            symbol, (count, *others) = symbols[-len(left.counts)], left.counts
            partial.stage = Stage.LETTER
            yield from _forced(self.spell(self.layout.site_text(symbol, len(partial.sites))))
            letters, room = set(), self._rooms[len(symbols) - 1] - len(partial.sites)
            for letter, position in positions.items():
                if position.size > count or letter in left.used:
                    continue
                rest = tuple(n for n in (count - position.size, *others) if n)
                sites = cover.fewest_sites(rest, cover.without(left.offer, position))
                if sites is not None and sites < room:
                    letters.add(letter)
            offered = sorted({group.positions[letter].multiplicity for letter in letters})
            multiplicity = yield from _one_of({self.spell(f"{n} "): n for n in offered})
            partial.stage = Stage.COORDINATES
            point = yield from self._point(group.number, multiplicity, letters)
            x, y, z = (value / UNIT for value in point)
            site = site_at(group, ListedSite(symbol, multiplicity, (x, y, z)))
            assert site is not None, (group.number, multiplicity, point)
            assert site.letter in letters, (group.number, site, letters)
            partial.sites.append(site)
            partial.left.append(left.after(site.letter, positions[site.letter]))
            yield from _forced(self.spell(self.layout.site_end))
        yield from _forced(self.spell(self.layout.last_text))

    def _point(self, number: int, multiplicity: int, letters: set[str]) -> Generator[Choices, int, tuple[int, ...]]:
        """Three coordinates on one of the places that a multiplicity and the letters still open leave."""
        alive = [place for place in places(number)[multiplicity] if place.letter in letters]
        point: tuple[int, ...] = ()
        for axis in range(3):
            if axis:
                yield (self.ids[" "],)
            found = values(alive, point)
            if found is None:
                yield from _forced(self.spell("0."))
                value = 0
                for _ in range(4):
                    value = value * 10 + self._digits.index((yield self._digits))
            else:
                value = yield from _one_of({self.spell(f"0.{n:04d}"): n for n in sorted(found)})
            point = (*point, value)
            alive = still_alive(alive, point)
        return point


def _forced(tokens: Sequence[int]) -> Generator[Choices, int, None]:
    for token in tokens:
        yield (token,)


def _one_of(options: Mapping[tuple[int, ...], T]) -> Generator[Choices, int, T]:
    """One of several rows of tokens, none the beginning of another, token by token; returns what it stands for."""
    rows = list(options)
    place = 0
    while len(rows) > 1 or place < len(rows[0]):
        token = yield tuple(dict.fromkeys(row[place] for row in rows))
        rows = [row for row in rows if row[place] == token]
        place += 1
    return options[rows[0]]
