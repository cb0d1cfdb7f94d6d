"""What a CIF says about itself besides the atoms: formula lines, multiplicities, space group."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pymatgen.core import Composition

SYMBOL_TAGS = ("_symmetry_space_group_name_H-M", "_space_group_name_H-M_alt", "_space_group.name_H-M_alt")
NUMBER_TAGS = ("_symmetry_Int_Tables_number", "_space_group_IT_number", "_space_group.IT_number")
NOT_STATED = ("", "?", ".")


@dataclass(frozen=True)
class Claims:
    """The statements of one CIF block; None or empty where the CIF is silent."""

    block_name: str | None = None
    formula_sum: str | None = None
    formula_structural: str | None = None
    formula_units: str | None = None
    space_group_symbol: str | None = None
    space_group_number: str | None = None
    multiplicities: tuple[tuple[str, str], ...] = ()
    """(type symbol or label, stated multiplicity) of each site of the asymmetric unit."""


def read_claims(name: str, block: Mapping[str, object]) -> Claims:
    """Collect the statements of a CIF block given as a mapping from tag to text or list of texts."""
    symbols = _column(block, "_atom_site_type_symbol") or _column(block, "_atom_site_label")
    multiplicities = _column(block, "_atom_site_symmetry_multiplicity")
    stated = bool(multiplicities) and not all(text in NOT_STATED for text in multiplicities)
    return Claims(
        block_name=name or None,
        formula_sum=_text(block, "_chemical_formula_sum"),
        formula_structural=_text(block, "_chemical_formula_structural"),
        formula_units=_text(block, "_cell_formula_units_Z"),
        space_group_symbol=_text(block, *SYMBOL_TAGS),
        space_group_number=_text(block, *NUMBER_TAGS),
        multiplicities=tuple(zip(symbols, multiplicities, strict=False)) if stated else (),
    )


def formula_of(text: str) -> Composition | None:
    """The composition a formula line states, None where it is not a formula of elements and amounts."""
    try:
        composition = Composition(text)
    except (ValueError, KeyError, IndexError):  # how pymatgen refuses: unknown element, bad amount, open bracket
        return None
    return composition if composition.valid and len(composition) and composition.num_atoms > 0 else None


def looks_like_formula(block_name: str) -> bool:
    """Whether a block name is meant as a formula: two elements or more (`data_I` is a compound number, not iodine)."""
    if not re.fullmatch(r"(?:[A-Z][a-z]?[0-9.]*){2,}", block_name):
        return False
    composition = formula_of(block_name)
    return composition is not None and len(composition) > 1


def counted_atoms(claims: Claims) -> Counter[str] | None:
    """Atoms in the cell by element as the multiplicities state them, None where one is not a whole number > 0."""
    atoms: Counter[str] = Counter()
    for symbol, multiplicity in claims.multiplicities:
        element = re.match(r"[A-Z][a-z]?", symbol)
        if element is None or not multiplicity.isdecimal() or int(multiplicity) < 1:
            return None
        atoms[element.group()] += int(multiplicity)
    return atoms


def _text(block: Mapping[str, object], *tags: str) -> str | None:
    for tag in tags:
        value = block.get(tag)
        if isinstance(value, list):
            value = value[0] if value else ""
        if isinstance(value, str) and value.strip() not in NOT_STATED:
            return value.strip()
    return None


def _column(block: Mapping[str, object], tag: str) -> list[str]:
    value = block.get(tag)
    if isinstance(value, str):
        return [value.strip()]
    return [str(item).strip() for item in value] if isinstance(value, list) else []
