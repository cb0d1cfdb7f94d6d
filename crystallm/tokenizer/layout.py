"""The text of one crystal, declared as a list of fields: the same declaration writes, reads and constrains.

A token carries the white space in front of it, so a text is its tokens joined without separator.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

from crystallm.base.errors import LayoutError
from crystallm.crystal.cell import Cell, Reason, Rejection, angles_close
from crystallm.crystal.description import Description, Site
from crystallm.crystal.formulas.composition import ELEMENTS, reduce_amounts
from crystallm.crystal.wyckoff import ALPHABET, space_group
from crystallm.tokenizer.number_format import (
    ANGLE,
    COORDINATE,
    DIGITS,
    LENGTH,
    PAIRS,
    Cursor,
    NumberFormat,
    TextSyntaxError,
    digit_tokens,
)
from crystallm.tokenizer.published_texts import CRYSTALLM, CRYSTALLM_PI
from crystallm.tokenizer.text_layout import TextLayout

BEGIN = "data_"
END = "\n#END"
PAD = "<pad>"
UNKNOWN = "<unk>"
RESERVED = tuple(f"<reserved_{i}>" for i in range(24))
"""Room for condition tags, so that a checkpoint can learn them without a new vocabulary."""

DEFAULT_LAYOUT = "wyckoff"

Parameters = tuple[float, float, float, float, float, float]


LENGTH_NAMES = ("a", "b", "c")
ANGLE_NAMES = ("alpha", "beta", "gamma")

FREE_PARAMETERS: Mapping[str, tuple[int, ...]] = {
    "triclinic": (0, 1, 2, 3, 4, 5),
    "monoclinic": (0, 1, 2, 4),
    "orthorhombic": (0, 1, 2),
    "tetragonal": (0, 2),
    "trigonal": (0, 2),
    "hexagonal": (0, 2),
    "cubic": (0,),
}
"""Free cell parameters of a crystal system, as places in (a, b, c, alpha, beta, gamma)."""


def full_parameters(crystal_system: str, free: dict[int, float]) -> Parameters:
    """All six cell parameters in angstrom and degrees from the free ones of a crystal system."""
    a = free[0]
    b = free.get(1, a)
    c = free.get(2, a)
    gamma = 120.0 if crystal_system in ("trigonal", "hexagonal") else 90.0
    return a, b, c, free.get(3, 90.0), free.get(4, 90.0), free.get(5, gamma)


class Field(Protocol):
    """One part of a text: which tokens it can use, how it is written, how it is read."""

    @property
    def name(self) -> str:
        """Name of the field; for a field of one value that of Description's."""

    def vocabulary(self) -> list[str]:
        """Its tokens, digits left out."""

    def write(self, description: Description) -> Iterator[str]:
        """Its tokens for a description."""

    def read(self, cursor: Cursor, found: dict[str, Any]) -> None:
        """Put what stands at the cursor into `found`, under names of Description."""


@dataclass(frozen=True)
class FormulaField:
    """The reduced formula, an element a line, in order of electronegativity."""

    name: str = "formula"
    tag: str = "\n_chemical_formula_sum"

    def vocabulary(self) -> list[str]:
        return [self.tag, *(f"\n{symbol}" for symbol in ELEMENTS)]

    def write(self, description: Description) -> Iterator[str]:
        yield self.tag
        for symbol, amount in description.amounts:
            yield f"\n{symbol}"
            if amount > 1:
                yield from digit_tokens(str(amount))

    def read(self, cursor: Cursor, found: dict[str, Any]) -> None:
        cursor.expect(self.tag)
        amounts = []
        while cursor.peek()[1:] in ELEMENTS:
            symbol, digits = cursor.take()[1:], ""
            while cursor.peek().isdigit():
                digits += cursor.take()
            if digits.startswith("0") or digits == "1":
                raise TextSyntaxError(f"{symbol}{digits} is not a reduced formula as it is written here")
            amounts.append((symbol, int(digits or 1)))
        found["amounts"] = tuple(amounts)
        counts = dict(amounts)
        if not amounts or reduce_amounts(counts) != tuple(amounts):
            raise TextSyntaxError(f"{amounts} is not a reduced formula in order of electronegativity")


@dataclass(frozen=True)
class ChoiceField:
    """One whole number written with its tag as one token."""

    name: str
    tag: str
    largest: int

    def vocabulary(self) -> list[str]:
        return [self.token(value) for value in range(1, self.largest + 1)]

    def token(self, value: int) -> str:
        """The token of a value."""
        return f"{self.tag} {value}"

    def write(self, description: Description) -> Iterator[str]:
        yield self.token(getattr(description, self.name))

    def read(self, cursor: Cursor, found: dict[str, Any]) -> None:
        tag, _, value = cursor.take().rpartition(" ")
        if tag != self.tag or not value.isdigit():
            raise TextSyntaxError(f"expected {self.tag.strip()}, found {tag.strip()!r}")
        found[self.name] = int(value)


@dataclass(frozen=True)
class CellField:
    """The free cell parameters of the crystal system."""

    name: str = "cell"
    length: NumberFormat = LENGTH
    angle: NumberFormat = ANGLE

    def tag(self, place: int) -> str:
        """The CIF item of a cell parameter, 0 to 5."""
        return f"\n_cell_length_{LENGTH_NAMES[place]} " if place < 3 else f"\n_cell_angle_{ANGLE_NAMES[place - 3]} "

    def format(self, place: int) -> NumberFormat:
        """How a cell parameter is written."""
        return self.length if place < 3 else self.angle

    def vocabulary(self) -> list[str]:
        starts = dict.fromkeys(self.length.vocabulary() + self.angle.vocabulary())
        return [*(self.tag(place) for place in range(6)), *starts]

    def write(self, description: Description) -> Iterator[str]:
        for place in FREE_PARAMETERS[space_group(description.space_group).crystal_system]:
            yield self.tag(place)
            yield from self.format(place).tokens(description.cell[place])

    def read(self, cursor: Cursor, found: dict[str, Any]) -> None:
        system = space_group(found["space_group"]).crystal_system
        free = {}
        for place in FREE_PARAMETERS[system]:
            cursor.expect(self.tag(place))
            free[place] = self.format(place).read(cursor)
        cell = full_parameters(system, free)
        if min(cell) <= 0 or not angles_close(*cell[3:]):
            raise TextSyntaxError(f"the cell parameters {cell} do not close to a cell")
        found["cell"] = cell


@dataclass(frozen=True)
class SitesField:
    """The asymmetric unit, a site a line: element, Wyckoff letter, free coordinates."""

    name: str = "sites"
    tag: str = "\nloop_atom_site"
    coordinate: NumberFormat = COORDINATE

    def vocabulary(self) -> list[str]:
        return [self.tag, *(f" {letter}" for letter in ALPHABET), *self.coordinate.vocabulary()]

    def write(self, description: Description) -> Iterator[str]:
        yield self.tag
        scale = 10**self.coordinate.decimals
        for site in description.sites:
            yield f"\n{site.element}"
            yield f" {site.letter}"
            for value in site.free:
                yield from self.coordinate.tokens(round(value * scale) % scale / scale)

    def read(self, cursor: Cursor, found: dict[str, Any]) -> None:
        cursor.expect(self.tag)
        positions = space_group(found["space_group"]).positions
        sites = []
        while cursor.peek() != END:
            symbol, letter = cursor.take()[1:], cursor.take()[1:]
            if symbol not in ELEMENTS or letter not in positions:
                raise TextSyntaxError(f"no site {symbol!r} {letter!r} in space group {found['space_group']}")
            free = tuple(self.coordinate.read(cursor) for _ in range(positions[letter].n_free))
            sites.append(Site(symbol, letter, free))
        found["sites"] = tuple(sites)


def _longest_of(tokens: list[str]) -> str:
    """A regular expression for the longest of the tokens that fits, their common beginnings factored out for speed."""
    by_first: dict[str, list[str]] = {}
    for token in tokens:
        by_first.setdefault(token[:1], []).append(token)
    ends_here = by_first.pop("", None) is not None
    branches = [re.escape(first) + _longest_of([token[1:] for token in group]) for first, group in by_first.items()]
    if len(branches) == 1 and not ends_here:
        return branches[0]
    return f"(?:{'|'.join(branches)}){'?' if ends_here else ''}" if branches else ""


@dataclass(frozen=True)
class Layout:
    """A named, ordered list of fields."""

    name: str
    fields: tuple[Field, ...]
    special: tuple[str, ...] = field(default=(PAD, UNKNOWN, BEGIN, END))
    begin: str = BEGIN
    end: str = END
    pad: str = PAD
    mark: str | None = None

    def vocabulary(self) -> list[str]:
        """All tokens in the order of their ids."""
        own = dict.fromkeys(token for part in self.fields for token in part.vocabulary())
        return [*self.special, *RESERVED, *DIGITS, *PAIRS, *own]

    def field_named(self, name: str) -> Field:
        """The field of a name; KeyError if the layout has none."""
        return {part.name: part for part in self.fields}[name]

    def tokens(self, description: Description, *, stop_after: str | None = None) -> list[str]:
        """The tokens of a description; with `stop_after` only up to and with that field, as for a prompt."""
        tokens = [BEGIN]
        for part in self.fields:
            tokens.extend(part.write(description))
            if part.name == stop_after:
                return tokens
        return [*tokens, END]

    def tokens_of(self, cell: Cell, description: Description) -> list[str] | Rejection:
        """The tokens of a crystal by its description; the cell it came in does not matter."""
        return self.tokens(description)

    def checked_tokens(self, description: Description) -> list[str] | Rejection:
        """The tokens of a description, or a Rejection where the layout cannot hold it (a cell above 200 angstrom)."""
        return self.checked(self.tokens(description))

    def checked(self, tokens: list[str]) -> list[str] | Rejection:
        """Tokens that are known and can be read back, or a Rejection."""
        unknown = next((token for token in tokens if token not in self._known), None)
        if unknown is not None:
            return Rejection(Reason.NOT_EXPRESSIBLE, f"no token {unknown.strip()!r} in layout {self.name!r}")
        back = self.read_tokens(tokens)
        return Rejection(Reason.NOT_EXPRESSIBLE, back.detail) if isinstance(back, Rejection) else tokens

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.vocabulary())

    def write(self, description: Description) -> str:
        """The text of a description."""
        return "".join(self.tokens(description))

    def text(self, tokens: Sequence[str]) -> str:
        """The text of tokens: they carry their own white space."""
        return "".join(tokens)

    @cached_property
    def pattern(self) -> str:
        """A regular expression that splits a text into its tokens, for the tokenizer."""
        return _longest_of(self.vocabulary())

    @cached_property
    def _splitter(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    def split(self, text: str) -> list[str] | Rejection:
        """The tokens of a text; a Rejection where it holds something that is no token."""
        tokens = self._splitter.findall(text)
        if sum(map(len, tokens)) != len(text):
            return Rejection(Reason.UNREADABLE, f"text that is no token of layout {self.name!r}: {text[:60]!r}")
        return list(tokens)

    def read(self, text: str) -> Description | Rejection:
        """The description that a text holds, checked: letters of the group, atoms that add up to the formula."""
        tokens = self.split(text)
        return tokens if isinstance(tokens, Rejection) else self.read_tokens(tokens)

    def read_tokens(self, tokens: list[str]) -> Description | Rejection:
        """As `read`, from tokens."""
        cursor, found = Cursor(tokens), dict[str, Any]()
        try:
            cursor.expect(BEGIN)
            for part in self.fields:
                part.read(cursor, found)
            cursor.expect(END)
            if cursor.peek():
                raise TextSyntaxError(f"{cursor.peek().strip()!r} follows the end")
        except TextSyntaxError as error:
            return Rejection(Reason.UNREADABLE, str(error))
        description = Description(**found)
        group = space_group(description.space_group)
        counts = dict.fromkeys(dict(description.amounts), 0)
        for site in description.sites:
            counts[site.element] = counts.get(site.element, 0) + group.positions[site.letter].multiplicity
        wanted = {s: n * description.formula_units * group.centring_order for s, n in description.amounts}
        if counts != wanted:
            return Rejection(Reason.UNREADABLE, f"the sites hold {counts} atoms, the formula asks for {wanted}")
        return description


def wyckoff_layout(name: str, *, length: NumberFormat = LENGTH, coordinate: NumberFormat = COORDINATE) -> Layout:
    """The layout that writes what is free in the asymmetric unit, its numbers in the formats given."""
    return Layout(
        name=name,
        fields=(
            FormulaField(),
            ChoiceField("formula_units", "\n_cell_formula_units_Z_primitive", 192),
            ChoiceField("space_group", "\n_space_group_IT_number", 230),
            CellField(length=length),
            SitesField(coordinate=coordinate),
        ),
    )


WYCKOFF = wyckoff_layout("wyckoff")
WYCKOFF_3 = wyckoff_layout("wyckoff-3", length=replace(LENGTH, decimals=3), coordinate=replace(COORDINATE, decimals=3))
"""Three decimals of lengths and coordinates instead of four: for the comparison of layouts (docs: training)."""

LAYOUTS: Mapping[str, TextLayout] = {layout.name: layout for layout in (WYCKOFF, WYCKOFF_3, CRYSTALLM, CRYSTALLM_PI)}


def get_layout(name: str = DEFAULT_LAYOUT) -> TextLayout:
    """The layout of a name. Raises LayoutError for another."""
    if name not in LAYOUTS:
        raise LayoutError(f"unknown layout {name!r}; choose from {', '.join(LAYOUTS)}")
    return LAYOUTS[name]
