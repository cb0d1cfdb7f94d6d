"""The text of the published CrystaLLM models, exactly: their tokens, their items, their rounding.

Facts from github.com/lantunes/CrystaLLM (Antunes, Butler and Grau-Crespo, Nature Communications 15, 10570, 2024) and
github.com/C-Bone-UCL/CrystaLLM-pi, whose texts put what is not boilerplate in brackets. See docs: tokenizer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files

import numpy as np

from crystallm.crystal.cell import Cell, Reason, Rejection, volume_of
from crystallm.crystal.description import Description
from crystallm.crystal.symmetry import space_group_symbol
from crystallm.tokenizer.cif_listing import (
    ListedSite,
    Listing,
    atom_properties,
    description_of,
    formula_and_units,
    listing_of,
    listing_of_description,
    point_of,
)
from crystallm.tokenizer.number_format import TextSyntaxError

Counts = tuple[tuple[str, int], ...]
"""Atoms of the conventional cell by element, in the order of the text."""

SYMBOL_ITEM = "_symmetry_space_group_name_H-M"
GROUP_MARK = "_sg"
"""Ends the name of a space group's token in the vocabulary, and is not written: Pm is an element, too."""

PROPERTY_ITEMS = ("symbol", "electronegativity", "radius", "ionic_radius")
CELL_ITEMS = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
SITE_ITEMS = ("type_symbol", "label", "symmetry_multiplicity", "fract_x", "fract_y", "fract_z", "occupancy")

LINE = 70
"""CifWriter's limit: an item and its value share a line as long as they are shorter than this with three blanks, and a
value longer than this is folded."""

VOLUME_TOLERANCE = 1e-3
"""Largest relative difference of the volume written and that of the cell."""


@cache
def _lists() -> dict[str, list[str]]:
    with files("crystallm.tokenizer").joinpath("published_vocabulary.json").open() as stream:
        lists: dict[str, list[str]] = json.load(stream)
    return lists


@cache
def published_elements() -> frozenset[str]:
    """The 89 elements that have a token."""
    return frozenset(_lists()["elements"])


@cache
def published_groups() -> Mapping[str, int]:
    """Numbers of the 227 space groups that have a token, by symbol; 93, 168 and 207 have none."""
    names = {space_group_symbol(number): number for number in range(1, 231)}
    return {symbol: names[symbol] for symbol in _lists()["space_groups"]}


def decimals(value: float) -> str:
    """A number as the texts write it: CifWriter rounds to eight decimals, CrystaLLM's pre-processing to four."""
    return f"{round(float(f'{value:.8f}'), 4):.4f}"


@dataclass(frozen=True)
class PublishedLayout:
    """A CIF of the conventional cell with the properties of its elements, the symmetry named but not expanded.

    bracketed: the form of CrystaLLM-pi, with five more tokens.
    """

    name: str
    bracketed: bool = False

    def vocabulary(self) -> list[str]:
        """All tokens in the order of their ids, space groups with the mark."""
        lists = _lists()
        groups = [symbol + GROUP_MARK for symbol in lists["space_groups"]]
        own = [*lists["elements"], *lists["digits"], *lists["items"], *lists["signs"], *groups, *lists["unknown"]]
        return [*own, "<pad>", "<bos>", "<eos>", "[", "]"] if self.bracketed else own

    @property
    def begin(self) -> str:
        """The token that every text starts with."""
        return "<bos>" if self.bracketed else "data_"

    @property
    def end(self) -> str | None:
        """The token that ends a text and stands nowhere else; None where an empty line is the end."""
        return "<eos>" if self.bracketed else None

    @property
    def pad(self) -> str:
        """The token that fills up rows of a batch; it stands in no text."""
        return "<pad>" if self.bracketed else "<unk>"

    @cached_property
    def _tokens(self) -> frozenset[str]:
        return frozenset(self.vocabulary())

    def expresses(self, counts: Counts) -> bool:
        """Whether the formula of a cell can be written: neither folded, nor of one atom of O2 or the like with Z = 0.

        CrystaLLM's pre-processing leaves out Z = 0, and has no token for the semicolons around folded text.
        """
        structural, units = formula_and_units(counts)
        return units > 0 and max(len(structural), len(self._total(counts))) <= LINE

    @staticmethod
    def _total(counts: Counts) -> str:
        return " ".join(f"{symbol}{count}" for symbol, count in counts)

    # Pieces of a text, in its order.

    def formula_text(self, counts: Counts) -> str:
        """The first line without its end."""
        start = f"{self.begin}\ndata_" if self.bracketed else "data_"
        return start + self._open + "".join(f"{symbol}{count}" for symbol, count in counts)

    def properties_text(self, counts: Counts) -> str:
        """What follows the formula, up to the symbol of the space group."""
        items = "\n".join(f"{self._indent}_atom_type_{item}" for item in PROPERTY_ITEMS)
        rows = [f"{self._indent}{symbol} {' '.join(atom_properties(symbol))}\n" for symbol, _ in counts]
        return f"{self._close}\nloop_\n{items}\n{self._rows(rows)}{SYMBOL_ITEM} {self._open}"

    def cell_item(self, place: int) -> str:
        """What stands in front of a cell parameter, 0 to 5."""
        return f"{self._close}\n_cell_{CELL_ITEMS[place]} {self._open}"

    def middle_text(self, counts: Counts, space_group: int, volume: float) -> str:
        """What follows the cell, up to the first line of the atom list."""
        structural, units = formula_and_units(counts)
        total = self._total(counts)
        lines = [
            f"{self._close}\n_symmetry_Int_Tables_number {self._open}{space_group}{self._close}",
            self._item("_chemical_formula_structural", structural),
            self._item("_chemical_formula_sum", total, quoted=" " in total),
            f"_cell_volume {self._open}{decimals(volume)}{self._close}",
            f"_cell_formula_units_Z {self._open}{units}{self._close}",
            "loop_",
            *(f"{self._indent}_symmetry_equiv_pos_{item}" for item in ("site_id", "as_xyz")),
            f"{self._indent}1 'x, y, z'",
            "loop_",
            *(f"{self._indent}_atom_site_{item}" for item in SITE_ITEMS),
            *(["["] if self.bracketed else []),
        ]
        return "\n".join(lines) + "\n"

    def site_text(self, element: str, number: int) -> str:
        """The beginning of a line of the atom list, up to the multiplicity; `number` counts sites from 0."""
        return f"{self._indent}{element} {element}{number} "

    site_end = " 1\n"
    """What follows the last coordinate of a site: full occupancy."""

    @property
    def last_text(self) -> str:
        """What follows the last line of the atom list."""
        return "]\n<eos>" if self.bracketed else "\n"

    @property
    def _open(self) -> str:
        return "[" if self.bracketed else ""

    @property
    def _close(self) -> str:
        return "]" if self.bracketed else ""

    @property
    def _indent(self) -> str:
        # CrystaLLM strips its lines; CrystaLLM-pi leaves one blank of those in front.
        return " " if self.bracketed else ""

    def _rows(self, rows: Sequence[str]) -> str:
        return "".join(["[\n", *rows, "]\n"] if self.bracketed else rows)

    def _item(self, item: str, value: str, *, quoted: bool = False) -> str:
        if len(item) + len(value) + 2 * quoted + 3 >= LINE:
            return f"{item}\n'{value}'" if quoted else f"{item}\n{value}"
        value = f"{self._open}{value}{self._close}"
        return f"{item} '{value}'" if quoted or (self.bracketed and item.endswith("sum")) else f"{item} {value}"

    # Whole texts.

    def listing_text(self, listing: Listing) -> str:
        """The text of a listing; what has no token in it shows when it is split."""
        sites = [
            self.site_text(site.element, number)
            + f"{site.multiplicity} {' '.join(map(decimals, site.point))}"
            + self.site_end
            for number, site in enumerate(listing.sites)
        ]
        cell = [self.cell_item(place) + decimals(value) for place, value in enumerate(listing.cell)]
        return "".join(
            [
                self.formula_text(listing.counts),
                self.properties_text(listing.counts),
                space_group_symbol(listing.space_group),
                *cell,
                self.middle_text(listing.counts, listing.space_group, listing.volume),
                *sites,
                self.last_text,
            ]
        )

    def tokens_of(self, cell: Cell, description: Description) -> list[str] | Rejection:
        """The tokens of a crystal as CrystaLLM's own pre-processing writes it; its description is not needed."""
        listing = listing_of(cell)
        return listing if isinstance(listing, Rejection) else self._listing_tokens(listing)

    def _listing_tokens(self, listing: Listing) -> list[str] | Rejection:
        strange = [symbol for symbol, _ in listing.counts if symbol not in published_elements()]
        if strange:
            return Rejection(Reason.NOT_EXPRESSIBLE, f"no token for {strange[0]} in layout {self.name!r}")
        if listing.space_group not in published_groups().values():
            return Rejection(
                Reason.NOT_EXPRESSIBLE, f"no token for space group {listing.space_group} in layout {self.name!r}"
            )
        if not self.expresses(listing.counts):
            return Rejection(Reason.NOT_EXPRESSIBLE, "half a molecule in the cell, or a formula too long for a line")
        tokens = self.split(self.listing_text(listing))
        return Rejection(Reason.NOT_EXPRESSIBLE, tokens.detail) if isinstance(tokens, Rejection) else tokens

    def checked(self, tokens: list[str]) -> list[str] | Rejection:
        """Tokens that can be read back, or a Rejection."""
        back = self.read_tokens(tokens)
        return Rejection(Reason.NOT_EXPRESSIBLE, back.detail) if isinstance(back, Rejection) else tokens

    def checked_tokens(self, description: Description) -> list[str] | Rejection:
        """The tokens of a description, or a Rejection where the layout cannot hold it."""
        tokens = self._listing_tokens(listing_of_description(description))
        return tokens if isinstance(tokens, Rejection) else self.checked(tokens)

    def write(self, description: Description) -> str:
        """The text of a description, its sites and representatives as they are."""
        return self.listing_text(listing_of_description(description))

    def text(self, tokens: Sequence[str]) -> str:
        """The text of tokens."""
        return "".join(token.removesuffix(GROUP_MARK) for token in tokens)

    @property
    def pattern(self) -> str:
        """A regular expression that splits a marked text into its tokens, for the tokenizer."""
        return "|".join(re.escape(token) for token in sorted(self.vocabulary(), key=len, reverse=True))

    @property
    def mark(self) -> str:
        """A regular expression for the empty place behind the symbol of a space group, for the tokenizer."""
        # Only alternatives of fixed length can stand in a look-behind.
        before = re.escape(f"{SYMBOL_ITEM} {self._open}")
        lengths = sorted({len(symbol) for symbol in published_groups()})
        behind = "|".join(rf"{before}[^\s\[\]]{{{length}}}" for length in lengths)
        return rf"(?<={behind})(?={self._after})"

    @property
    def _after(self) -> str:
        return r"\]" if self.bracketed else r"\n|\z"

    @cached_property
    def _splitter(self) -> re.Pattern[str]:
        groups = "|".join(re.escape(symbol) for symbol in published_groups())
        tokens = [token for token in self.vocabulary() if not token.endswith(GROUP_MARK) and token != "<unk>"]
        plain = "|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True))
        after = self._after.replace("z", "Z")
        return re.compile(rf"(?<={SYMBOL_ITEM} {re.escape(self._open)})({groups})(?={after})|({plain})")

    def split(self, text: str) -> list[str] | Rejection:
        """The tokens of a text; a Rejection where it holds something that is no token."""
        found = self._splitter.findall(text)
        if sum(len(group) + len(plain) for group, plain in found) != len(text):
            return Rejection(Reason.UNREADABLE, f"text that is no token of layout {self.name!r}: {text[:60]!r}")
        return [group + GROUP_MARK if group else plain for group, plain in found]

    def read(self, text: str) -> Description | Rejection:
        """The crystal of a text, checked: every line as it would be written, atoms that add up to the formula."""
        tokens = self.split(text)
        return tokens if isinstance(tokens, Rejection) else self.read_tokens(tokens)

    def read_tokens(self, tokens: list[str]) -> Description | Rejection:
        """As `read`, from tokens."""
        unknown = next((token for token in tokens if token not in self._tokens or token == "<unk>"), None)
        if unknown is not None:
            return Rejection(Reason.UNREADABLE, f"no token {unknown!r} in layout {self.name!r}")
        text = self.text(tokens)
        try:
            listing = self._parsed(text)
        except TextSyntaxError as error:
            return Rejection(Reason.UNREADABLE, str(error))
        wanted = self.listing_text(listing)
        if text != wanted:
            pairs = zip((text + "\n").splitlines(), (wanted + "\n").splitlines(), strict=False)
            found, line = next(((a, b) for a, b in pairs if a != b), ("another end", "the end of the text"))
            return Rejection(Reason.UNREADABLE, f"expected {line!r}, found {found!r}")
        return description_of(listing)

    def _parsed(self, text: str) -> Listing:
        """What a text says, taken from the lines that matter; whether all the others fit is for the caller to see."""
        plain = re.sub(r"[\[\]]", "", text) if self.bracketed else text
        items = dict(re.findall(r"^(_\S+) (\S+)$", plain, flags=re.MULTILINE))
        formula = re.search(r"^data_((?:[A-Z][a-z]?[1-9]\d*)+)$", plain, flags=re.MULTILINE)
        if formula is None:
            raise TextSyntaxError("expected data_ and the formula of the cell, every element with its number of atoms")
        pairs = re.findall(r"([A-Z][a-z]?)(\d+)", formula[1])
        number = published_groups().get(items.get(SYMBOL_ITEM, ""))
        if number is None:
            raise TextSyntaxError(f"no space group, or one without a token: {items.get(SYMBOL_ITEM)!r}")
        if any(symbol not in published_elements() for symbol, _ in pairs):
            raise TextSyntaxError(f"an element without a token in {formula[1]}")
        a, b, c, alpha, beta, gamma = (_number(items, f"_cell_{item}") for item in CELL_ITEMS)
        volume = _number(items, "_cell_volume")
        cell = (a, b, c, alpha, beta, gamma)
        metric = volume_of(cell)
        if abs(volume - metric) > VOLUME_TOLERANCE * metric:
            raise TextSyntaxError(f"expected a volume of {metric:.4f}, found {volume}")
        rows = re.findall(r"^ ?([A-Z][a-z]?) \S+ (\d+) (\S+) (\S+) (\S+) 1$", plain, flags=re.MULTILINE)
        try:
            sites = tuple(ListedSite(row[0], int(row[1]), point_of(np.array(row[2:], dtype=float))) for row in rows)
        except ValueError as error:
            raise TextSyntaxError(f"a coordinate is no number: {error}") from None
        return Listing(tuple((symbol, int(count)) for symbol, count in pairs), number, cell, volume, sites)


def _number(items: Mapping[str, str], item: str) -> float:
    value = items.get(item, "")
    if not re.fullmatch(r"\d+\.\d{4}", value):
        raise TextSyntaxError(f"expected {item} and a number, found {value!r}")
    return float(value)


CRYSTALLM = PublishedLayout("crystallm")
CRYSTALLM_PI = PublishedLayout("crystallm-pi", bracketed=True)
