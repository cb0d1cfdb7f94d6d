"""What a CIF says of its symmetry, in any item of the dictionaries, as the readings that it allows.

Items that state operators or a group are used: operators (core, magnetic), generators, Hall symbols, Hermann-Mauguin
symbols, numbers with and without the code of the setting, Schoenflies symbols. What says less (crystal system, Laue
class, Bravais type) cannot replace them. Superspace groups are refused: an average of a modulated crystal is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache, lru_cache

import spglib

from crystallm.crystal.cell import Reason, Rejection
from crystallm.crystal.cif.symmetry.operators import Operations, operation_of, operations_of
from crystallm.crystal.cif.text.names import displayed
from crystallm.crystal.space_group_symbols import (
    Setting,
    Tiers,
    setting_of_hall,
    settings_of_number,
    settings_of_symbol,
)

CATEGORIES = ("_space_group_", "_symmetry_", "_magnetic_space_group", "_parent_space_group")

MODULATED = (
    *("_space_group_ssg_", "_space_group_symop_ssg_", "_space_group_symop_magn_ssg_", "_space_group_magn_ssg_"),
    *("_cell_wave_vector", "_cell_modulation_dimension", "_cell_subsystem", "_atom_site_fourier_wave_vector"),
    *("_atom_site_displace_", "_atom_site_occ_fourier", "_atom_site_moment_fourier", "_atom_site_occ_special_func"),
)
"""Begin of names that only modulated and composite structures have."""


class Kind(IntEnum):
    """Kinds of statements, the most explicit first."""

    OPERATORS = 0
    HALL = 1
    SYMBOL = 2
    NUMBER = 3
    REFERENCE = 4
    """The group, in any setting."""


HALL = ("_space_group_name_hall", "_symmetry_space_group_name_hall", "_cod_original_sg_symbol_hall")
SYMBOLS = (
    *("_space_group_name_h-m_alt", "_symmetry_space_group_name_h-m", "_space_group_name_h-m_full"),
    *("_symmetry_space_group_name_h-m_full", "_symmetry_pdbx_full_space_group_name_h-m", "_space_group_name_h-m"),
    *("_symmetry_space_group_name_h-m_alt", "_space_group_name_hm_alt", "_symmetry_space_group_name_hm"),
    "_cod_original_sg_symbol_h-m",
)
REFERENCES = ("_space_group_name_h-m_ref", "_space_group_name_schoenflies", "_space_group_reference_setting")
NUMBERS = ("_space_group_it_number", "_symmetry_int_tables_number", "_symmetry_it_number", "_cod_original_sg_number")
ORIGINAL = "_cod_original_sg_"
"""Begin of names of what a file said before COD set it right: a statement only where nothing else is one."""
CODE = "_space_group_it_coordinate_system_code"
OPERATORS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
GENERATORS = ("_space_group_generator_xyz", "_space_group_symop_generator_xyz")
MAGNETIC = (
    *("_space_group_symop_magn_operation_xyz", "_space_group_symop_magn_operation_mxmymz"),
    *("_magnetic_space_group_symop_operation_xyz", "_space_group_magn_symop_operation_xyz"),
)
CENTRINGS = (
    *("_space_group_symop_magn_centering_xyz", "_space_group_symop_magn_og_centering_xyz"),
    *("_magnetic_space_group_symop_centering_xyz", "_space_group_magn_symop_centering_xyz"),
)

NO_STATEMENT = re.compile(
    r"_id$|_description$|_details$|_cell_setting$|_transform|_class$|_type$|_system$|_patterson|_point_group|_multiplicity$"
    r"|_wyckoff_|_centering_mxmymz$|_operation_mxmymz$|_wavevector|_asymmetric_unit|_symop_magn_operation_timereversal"
)
"""Names that say less than a group, or what follows from one."""


@dataclass(frozen=True, eq=False)
class Reading:
    """One space group in one setting that the statements allow."""

    name: str
    operations: Operations


ReadingTiers = tuple[tuple[Reading, ...], ...]


@dataclass(frozen=True, eq=False)
class Statement:
    """What one item states; without readings it was not understood."""

    item: str
    text: str
    kind: Kind
    tiers: ReadingTiers
    problem: str = ""

    @property
    def readings(self) -> tuple[Reading, ...]:
        """All readings, the likely ones first."""
        return tuple(reading for tier in self.tiers for reading in tier)

    def allows(self, reading: Reading) -> bool:
        """Whether the reading is one of this statement."""
        return any(one.operations.key == reading.operations.key for one in self.readings)


@dataclass(frozen=True, eq=False)
class Symmetry:
    """The readings that all statements of a block allow, in the order in which they are tried.

    tiers: Later ones are tried where none of the earlier fits cell and content; those of one tier are equals.
    """

    tiers: ReadingTiers
    statements: tuple[Statement, ...]
    notes: tuple[str, ...] = ()
    only_system: str = ""
    """Crystal system, point group or the like, where nothing else is stated and P 1 is not of it."""


P1 = Reading("P 1", operations_of(("x,y,z",)))  # type: ignore[arg-type]


def read_symmetry(items: Mapping[str, str | list[str]]) -> Symmetry | Rejection:
    """The symmetry that a block states.

    Args:
        items: Canonical name to text or column, empty texts where a value is unknown.

    Returns:
        The readings; P 1 where nothing is stated; or why the statements cannot be used.

    Example:
        >>> read_symmetry({"_space_group_it_number": "227"}).tiers[0][1].name
        'F d -3 m:2'
    """
    of_symmetry, of_modulation = _relevant(tuple(items))
    for name in of_modulation:
        if found := _modulated(name, items[name]):
            return found
    stated = _stated(items, of_symmetry) or _stated(items, [name for name in items if name.startswith(ORIGINAL)])
    if not stated:
        return Symmetry(((P1,),), (), (), _system(items))
    symmetry = _combined(tuple(stated))
    moved = next((items[name] for name in TRANSFORMS if items.get(name)), "")
    if isinstance(symmetry, Rejection) or not moved or re.sub(r"\s", "", str(moved)).lower() in IDENTITIES:
        return symmetry
    if any(one.tiers and one.kind < Kind.NUMBER for one in symmetry.statements):
        return symmetry
    detail = f"the group is stated by number, in another setting ({moved}); state operators or a Hall symbol"
    return Rejection(Reason.AMBIGUOUS, detail)


def _stated(items: Mapping[str, str | list[str]], names: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """The items of these names that have a value, with all of their texts."""
    found = []
    for name in names:
        value = items[name]
        texts = tuple(text for text in value if text) if isinstance(value, list) else (value,) if value else ()
        if texts:
            found.append((name, texts))
    return found


@lru_cache(maxsize=1024)
def _relevant(names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Which of the names of a block state a symmetry, and which a modulation."""
    stating = [name for name in names if name.startswith(CATEGORIES) and not NO_STATEMENT.search(name)]
    return stating, [name for name in names if name.startswith(MODULATED)]


TRANSFORMS = ("_space_group_transform_pp_abc", "_space_group_transform_qq_xyz")
IDENTITIES = ("a,b,c", "a,b,c;0,0,0", "x,y,z", "x,y,z;0,0,0", "a,b,c;0,0,0,")

SYSTEMS = {
    "_symmetry_cell_setting": "system",
    "_space_group_crystal_system": "system",
    "_space_group_point_group_h-m": "point group",
    "_space_group_laue_class": "Laue class",
    "_space_group_bravais_type": "Bravais type",
    "_space_group_patterson_name_h-m": "Patterson group",
}
"""Items that say less than a group, and what they say."""
SYSTEMS_OF_P1 = ("triclinic", "anorthic", "1", "-1", "ap", "p-1")


def _system(items: Mapping[str, str | list[str]]) -> str:
    for name, what in SYSTEMS.items():
        value = items.get(name, "")
        text = value if isinstance(value, str) else next((one for one in value if one), "")
        if text and text.replace(" ", "").lower() not in SYSTEMS_OF_P1:
            return f"{text} {what}" if what == "system" else f"{what} {text}"
    return ""


def _modulated(name: str, value: str | list[str]) -> Rejection | None:
    text = value if isinstance(value, str) else next((one for one in value if one), "")
    if not text or (name.endswith("_dimension") and text.strip() in ("0", "0.0")):
        return None
    return Rejection(Reason.MODULATED, f"{displayed(name)} {text[:40]!r}: a modulated structure has no cell of atoms")


@lru_cache(maxsize=1024)
def _combined(stated: tuple[tuple[str, tuple[str, ...]], ...]) -> Symmetry | Rejection:
    statements, notes = _statements(dict(stated))
    understood = sorted((one for one in statements if one.tiers), key=lambda one: one.kind)
    if not understood:
        first = min(statements, key=lambda one: one.kind)
        why = first.problem or f"unknown space group {first.text!r}"
        return Rejection(Reason.UNREADABLE, f"{displayed(first.item)}: {why}, and nothing else states the symmetry")
    tiers = understood[0].tiers
    others: ReadingTiers = ()
    for statement in understood[1:]:
        if kept := _narrowed(tiers, statement):
            tiers = kept
        else:
            others = _narrowed(others, statement) or others + statement.tiers
    return Symmetry(_side_by_side(tiers, others), tuple(statements), notes)


def _narrowed(tiers: ReadingTiers, statement: Statement) -> ReadingTiers:
    """The readings that a less explicit statement allows, too; empty if it contradicts all."""
    for allowed in (statement.tiers[:1], statement.tiers):
        keys = {reading.operations.key for tier in allowed for reading in tier}
        kept = tuple(tuple(one for one in tier if one.operations.key in keys) for tier in tiers)
        if any(kept):
            return tuple(tier for tier in kept if tier)
    return ()


def _side_by_side(tiers: ReadingTiers, others: ReadingTiers) -> ReadingTiers:
    """The readings of statements that contradict each other, for cell and content to decide.

    Another setting of the same group is tried where the more explicit one does not fit; another group is its equal.
    """
    if not others:
        return tiers
    if others[0][0].operations.number == tiers[0][0].operations.number:
        return tiers + others
    return (tiers[0] + others[0], *tiers[1:], *others[1:])


def _statements(stated: Mapping[str, tuple[str, ...]]) -> tuple[tuple[Statement, ...], tuple[str, ...]]:
    found: list[Statement] = []
    notes: list[str] = []
    code = (stated.get(CODE) or ("",))[0]
    magnetic = _magnetic(stated)
    if magnetic is not None:
        found.append(magnetic)
        notes.append("the operators are those of a magnetic group; the crystal is read without its moments")
    for name, texts in stated.items():
        if name in OPERATORS:
            found.append(_of_operators(name, texts))
        elif name in GENERATORS:
            found.append(_of_operators(name, texts, generators=True))
        elif name in HALL:
            found += [_of_setting(name, text, setting_of_hall(text)) for text in texts]
        elif name in SYMBOLS:
            found += [_of_tiers(name, text, Kind.SYMBOL, _symbol(text, code)) for text in texts]
        elif name in NUMBERS:
            found += [_of_number(name, text, code) for text in texts]
        elif name in REFERENCES:
            found += [_of_tiers(name, text, Kind.REFERENCE, _any_setting(text)) for text in texts]
        elif name not in (*MAGNETIC, *CENTRINGS, CODE):
            problem = next((why for start, why in PROBLEMS.items() if name.startswith(start)), ALONE)
            found.append(Statement(name, " ".join(texts)[:60], Kind.REFERENCE, (), problem))
    return tuple(found), tuple(notes)


ALONE = "this item alone is not enough"
PROBLEMS = {
    "_space_group_magn": "a magnetic group without its operators is not understood",
    "_parent_space_group": "the group of the parent is not that of the crystal",
}


def _symbol(text: str, code: str) -> Tiers:
    tiers = settings_of_symbol(text)
    if not tiers:
        setting = setting_of_hall(text) if re.match(r"-?[PABCIFR] ", text) else None
        return ((setting,),) if setting is not None and setting.number else ()
    if code and len(tiers[0]) > 1:
        coded = settings_of_symbol(f"{text}:{code}")
        return coded or tiers
    return tiers


def _any_setting(text: str) -> Tiers:
    if numbered := re.match(r"(\d{1,3}):", text):  # of `_space_group.reference_setting`: '225:-F 4 2 3'
        return settings_of_number(int(numbered[1]))
    number = _schoenflies().get(_plain_schoenflies(text))
    if number is None:
        tiers = settings_of_symbol(text)
        number = tiers[0][0].number if tiers else 0
    return settings_of_number(number)


@cache
def _schoenflies() -> dict[str, int]:
    kinds = map(spglib.get_spacegroup_type, range(1, 531))
    return {_plain_schoenflies(kind.schoenflies): kind.number for kind in kinds if kind is not None}


def _plain_schoenflies(text: str) -> str:
    return re.sub(r"[\s_^{}().<>/]|su[bp]", "", text).lower()


def _of_number(name: str, text: str, code: str) -> Statement:
    plain = text.strip()
    number = int(plain.removesuffix(".0")) if re.fullmatch(r"[0-9]{1,3}(?:\.0)?", plain) else 0
    return _of_tiers(name, text, Kind.NUMBER, settings_of_number(number, code))


def _of_setting(name: str, text: str, setting: Setting | None) -> Statement:
    return _of_tiers(name, text, Kind.HALL, ((setting,),) if setting is not None else ())


def _of_tiers(name: str, text: str, kind: Kind, tiers: Tiers) -> Statement:
    return Statement(name, text, kind, tuple(tuple(map(_reading, tier)) for tier in tiers))


@cache
def _reading(setting: Setting) -> Reading:
    operations = operations_of(setting.triplets)
    assert isinstance(operations, Operations)
    return Reading(setting.name, operations)


def _of_operators(name: str, texts: tuple[str, ...], *, generators: bool = False) -> Statement:
    if len(texts) == 1 and texts[0].count(",") > 2:  # one text of several lines or separated by semicolons
        texts = tuple(part.strip() for part in re.split(r"[;\n]", texts[0]) if part.strip())
    operations = operations_of(texts, generators=generators)
    text = f"({len(texts)})"
    if isinstance(operations, str):
        return Statement(name, text, Kind.OPERATORS, (), operations)
    return Statement(name, text, Kind.OPERATORS, ((Reading(_count(operations), operations),),))


def _count(operations: Operations) -> str:
    return "no operator but the identity" if len(operations) == 1 else f"the {len(operations)} operators"


def _magnetic(stated: Mapping[str, tuple[str, ...]]) -> Statement | None:
    """The group of positions of a magnetic group: time reversal acts on moments only."""
    name = next((name for name in MAGNETIC if name in stated and _triplet(stated[name][0])), None)
    if name is None:
        return None
    texts = [*stated[name], *(text for other in CENTRINGS for text in stated.get(other, ()))]
    triplets = [_triplet(text) for text in texts]
    if None in triplets:
        wrong = texts[triplets.index(None)]
        return Statement(name, f"({len(texts)})", Kind.OPERATORS, (), f"{wrong!r} is no magnetic operator")
    operations = operations_of(tuple(text for text in triplets if text), generators=True)
    text = f"({len(stated[name])})"
    if isinstance(operations, str):
        return Statement(name, text, Kind.OPERATORS, (), operations)
    reading = Reading(f"{_count(operations)} of the magnetic group", operations)
    return Statement(name, text, Kind.OPERATORS, ((reading,),))


def _triplet(text: str) -> str | None:
    """The part of a magnetic operator that moves atoms: 'x,y,z,-1' without what it does to moments."""
    parts = text.split(",")
    plain = ",".join(parts[:3])
    known = len(parts) == 3 or (len(parts) == 4 and parts[3].strip() in ("1", "+1", "-1", "m", "-m", "+m"))
    return plain if known and operation_of(plain) is not None else None
