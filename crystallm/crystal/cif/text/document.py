"""CIF text to its data blocks, and those that hold a structure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import gemmi

from crystallm.crystal.cell import Reason, Rejection
from crystallm.crystal.cif.text.cif2 import CONSTRUCTS, as_cif1, is_cif2
from crystallm.crystal.cif.text.names import canonical_name

COORDINATE = "_atom_site_fract_x"

READ = (
    "_cell_length_",
    "_cell_angle_",
    "_cell_formula_units_z",
    "_atom_site_",
    "_symmetry_",
    "_space_group_",
    "_chemical_formula_",
)
"""Beginnings of names whose items say what the crystal is: two values for one of these names are a contradiction."""

NOT_READ = ("_atom_site_aniso_", "_atom_site_symmetry_multiplicity")
"""Of these, what is not needed, and what older and newer names mean differently."""

SHARED = ("_cell_", "_symmetry_", "_space_group_")
"""Categories that a block without atoms may hold on behalf of the only block with atoms."""


class Items(Mapping[str, "str | list[str]"]):
    """The items of one block by canonical name: a text, or the texts of a column of a loop.

    `?`, `.` and missing values are the empty text. Columns are taken out of their loop when they are asked for, so long
    lists of reflections cost nothing.
    """

    def __init__(self, document: gemmi.cif.Document, block: gemmi.cif.Block) -> None:
        self._source = (document, block)  # the loops below are views into it
        self._raw: dict[str, str | tuple[gemmi.cif.Loop, int]] = {}
        self._columns: dict[str, list[str]] = {}
        self._values: dict[int, list[str]] = {}
        self.stated_twice: dict[str, tuple[str, str]] = {}
        """Names that the block gives two different values, in the categories READ."""
        for item in block:
            pair: Any = item.pair
            loop = item.loop
            if pair is not None:
                self._add(canonical_name(pair[0]), pair[1])
            elif loop is not None:
                for column, tag in enumerate(loop.tags):
                    self._add(canonical_name(tag), (loop, column))

    def _add(self, name: str, value: str | tuple[gemmi.cif.Loop, int]) -> None:
        if name not in self._raw:
            self._raw[name] = value
            return
        kept, old = self[name], self._raw[name]
        self._columns.pop(name, None)
        self._raw[name] = value
        new = self[name]
        if _blank(new):
            self._columns.pop(name, None)
            self._raw[name] = old
        elif not _blank(kept) and not _same(kept, new) and name.startswith(READ) and not name.startswith(NOT_READ):
            self.stated_twice[name] = (_shown(kept), _shown(new))

    def __getitem__(self, name: str) -> str | list[str]:
        raw = self._raw[name]
        if not isinstance(raw, tuple):
            return _plain(raw)
        if name not in self._columns:
            loop, column = raw
            # gemmi copies all values of a loop at each access.
            values = self._values.get(id(loop))
            if values is None:
                values = self._values[id(loop)] = loop.values
            texts = values[column :: loop.width()]
            if _MARKED.search("\n".join(texts)):  # as a rule none of them is quoted or unknown
                texts = [_plain(value) if value[:1] in _MARKS else value for value in texts]
            self._columns[name] = texts
        return self._columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self._raw  # that of Mapping would make the value

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def as_text(self) -> str:
        """The block as a CIF file of its own."""
        return self._source[1].as_string()

    def text(self, *names: str) -> str | None:
        """The first value that one of the items states (of a column: its first row), None if none does."""
        for name in names:
            if name in self._raw:
                value = self[name]
                first = value if isinstance(value, str) else next((one for one in value if one), "")
                if first:
                    return first
        return None

    def column(self, name: str) -> list[str]:
        """The texts of a column; of a single item a list of one, of a missing one an empty list."""
        if name not in self._raw:
            return []
        value = self[name]
        return [value] if isinstance(value, str) else value

    def states(self, category: str) -> bool:
        """Whether any item of a category such as `_cell_` has a value."""
        return any(name.startswith(category) and not _blank(self[name]) for name in self._raw)

    def take(self, other: Items, category: str) -> None:
        """Take the items of a category over from another block."""
        for name, raw in other._raw.items():
            if name.startswith(category):
                self._raw[name] = raw
                self._columns.pop(name, None)


@dataclass(frozen=True, eq=False)
class Block:
    """One structure of a file."""

    name: str
    items: Items
    borrowed: tuple[str, ...] = field(default=())
    """Categories that were read from another block, such as `_symmetry_`."""

    @property
    def refusal(self) -> Rejection | None:
        """Why nothing can be read from the block at all."""
        for name, (first, second) in self.items.stated_twice.items():
            return Rejection(Reason.CONTRADICTORY, f"{name} is given twice: {first} and {second}")
        return None


def structures(text: str) -> list[Block] | Rejection:
    """The blocks of a CIF that hold atoms, in the order of the file.

    A block holds a structure if it has a coordinate x. If a file has only one such block and that block says nothing of
    its cell or symmetry, what the blocks without atoms say of it is taken, as long as only one of them does.

    Args:
        text: CIF 1.1 or 2.0, with or without a byte order mark.

    Returns:
        At least one block; or a rejection that holds the message of the parser, or says that there are no atoms.

    Example:
        >>> [block.name for block in structures("data_a _atom_site_fract_x 0 data_b _cell_length_a 5")]
        ['a']
    """
    document = _parse(text)
    if isinstance(document, Rejection):
        return document
    blocks = [(block.name.strip(), Items(document, block)) for block in document]
    with_atoms = [(name, items) for name, items in blocks if any(items.column(COORDINATE))]
    if not with_atoms:
        return Rejection(Reason.EMPTY, _why_without_atoms([items for _, items in blocks]))
    if len(with_atoms) > 1:
        return [Block(name, items) for name, items in with_atoms]
    ((name, items),) = with_atoms
    return [_complete(name, items, [other for _, other in blocks if other is not items])]


def _complete(name: str, items: Items, others: list[Items]) -> Block:
    if not others:
        return Block(name, items)
    borrowed = []
    missing = [category for category in SHARED if not items.states(category)]
    if "_cell_" in missing:
        givers = [other for other in others if other.states("_cell_")]
        if len(givers) == 1:
            items.take(givers[0], "_cell_")
            borrowed.append("_cell_")
    if {"_symmetry_", "_space_group_"} <= set(missing):
        givers = [other for other in others if _gives_symmetry(other, items)]
        if len(givers) == 1:
            for category in ("_symmetry_", "_space_group_"):
                items.take(givers[0], category)
            borrowed.append("_space_group_")
    return Block(name, items, tuple(borrowed))


def _gives_symmetry(other: Items, items: Items) -> bool:
    """Whether a block without atoms states a symmetry, and no cell other than that of the block with atoms."""
    if not (other.states("_symmetry_") or other.states("_space_group_")):
        return False
    lengths = ("_cell_length_a", "_cell_length_b", "_cell_length_c")
    return all(other.text(length) in (None, items.text(length)) for length in lengths)


def _parse(text: str) -> gemmi.cif.Document | Rejection:
    # Level 0: one name for two blocks, or for two items, is no reason to read none of them.
    if not text.isascii():
        text = _SURROGATE.sub("~", text)  # what is left of bytes that are no text; gemmi takes none
    if is_cif2(text):
        text = as_cif1(text)
    try:
        return gemmi.cif.read_string(text, 0)
    except (ValueError, RuntimeError) as error:  # how gemmi reports a syntax error
        refusal = Rejection(Reason.UNREADABLE, " ".join(str(error).split())[:200])
    for repaired in _repaired(text):
        try:
            return gemmi.cif.read_string(repaired, 0)
        except (ValueError, RuntimeError):
            continue
    return refusal


def _repaired(text: str) -> Iterator[str]:
    """The text without what CIF 1.1 forbids but files hold: marks of encodings, other letters, CIF 2.0 unannounced."""
    plain = re.sub("[\ufeff\u200b\x1a]", "", text).replace("\u00a0", " ")
    plain = re.sub(r"[^\x00-\x7e]", "~", plain)
    if plain != text:
        yield plain
    if CONSTRUCTS.search(plain):
        yield as_cif1(plain)


def _why_without_atoms(blocks: list[Items]) -> str:
    if any(COORDINATE in items for items in blocks):
        return f"no value of {COORDINATE} in the file"
    if any("_atom_site_cartn_x" in items for items in blocks):
        return f"the file has only Cartesian coordinates, no {COORDINATE}"
    return f"no {COORDINATE} in the file"


def _plain(value: str) -> str:
    if value[:1] in _QUOTES:
        return str(gemmi.cif.as_string(value)).strip()
    return "" if value in _NULL else value


_QUOTES = frozenset("'\";")
_NULL = frozenset("?.")
_MARKS = _QUOTES | _NULL
_SURROGATE = re.compile("[\ud800-\udfff]")
_MARKED = re.compile(r"^['\";?.]", re.MULTILINE)


def _blank(value: str | list[str]) -> bool:
    return not value if isinstance(value, str) else not any(value)


def _same(first: str | list[str], second: str | list[str]) -> bool:
    if isinstance(first, list) or isinstance(second, list):
        return first == second
    one, other = gemmi.cif.as_number(first), gemmi.cif.as_number(second)
    return first.split() == second.split() or one == other


def _shown(value: str | list[str]) -> str:
    return value if isinstance(value, str) else f"a column of {len(value)}"
