"""What a CIF says about itself besides the atoms: formula lines, multiplicities, space group."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import gemmi
from pymatgen.core import Composition, Element

from crystallm.crystal.cif.species import Kind, species_of_label, species_of_type
from crystallm.crystal.cif.text.names import canonical_name
from crystallm.crystal.formulas.composition import symbol_of

SYMBOLS = ("_symmetry_space_group_name_h-m", "_space_group_name_h-m_alt")
NUMBERS = ("_symmetry_int_tables_number", "_space_group_it_number")
NOT_STATED = ("", "?", ".")


@dataclass(frozen=True)
class SiteClaim:
    """What one row of the atom list says of how often it stands in the cell; `multiplicity` is empty if it does not."""

    symbol: str
    label: str
    multiplicity: str


@dataclass(frozen=True)
class Claims:
    """The statements of one CIF block; None or empty where the CIF is silent."""

    block_name: str | None = None
    formula_sum: str | None = None
    formula_structural: str | None = None
    formula_units: str | None = None
    space_group_symbol: str | None = None
    space_group_number: str | None = None
    multiplicities: tuple[SiteClaim, ...] = ()
    """Of every site of the asymmetric unit, if one of them states its multiplicity; else empty."""
    contradictions: tuple[str, ...] = ()
    """What the reader found against the atoms in formula, Z, attached hydrogens, weight and density."""


@dataclass(frozen=True)
class CountedAtoms:
    """Atoms in the cell by element, as multiplicities state them."""

    atoms: Counter[str]
    partly: frozenset[str]
    """Elements with sites that state none: there may be more of them."""


def read_claims(name: str, block: Mapping[str, str | list[str]]) -> Claims:
    """Collect the statements of a CIF block given as a mapping from data name, in any spelling, to text or texts."""
    items = {canonical_name(tag): value for tag, value in block.items()}
    multiplicities = _column(items, "_atom_site_symmetry_multiplicity")
    sites: tuple[SiteClaim, ...] = ()
    if not all(text in NOT_STATED for text in multiplicities):
        n_sites = len(multiplicities)
        symbols, labels = (
            _column(items, tag) or [""] * n_sites for tag in ("_atom_site_type_symbol", "_atom_site_label")
        )
        sites = tuple(
            SiteClaim(symbol, label, "" if text in NOT_STATED else text)
            for symbol, label, text in zip(symbols, labels, multiplicities, strict=False)
        )
    return Claims(
        block_name=name or None,
        formula_sum=_text(items, "_chemical_formula_sum"),
        formula_structural=_text(items, "_chemical_formula_structural"),
        formula_units=_text(items, "_cell_formula_units_z"),
        space_group_symbol=_text(items, *SYMBOLS),
        space_group_number=_text(items, *NUMBERS),
        multiplicities=sites,
    )


def formula_of(text: str) -> Composition | None:
    """The composition a formula line states, None where it is not a formula of elements and amounts."""
    try:
        composition = Composition(text)
    except (ValueError, KeyError, IndexError):  # how pymatgen refuses: unknown element, bad amount, open bracket
        return None
    return composition if composition.valid and len(composition) and 0 < composition.num_atoms < math.inf else None


def looks_like_formula(block_name: str) -> bool:
    """Whether a block name can be read as a formula of two elements or more (`data_I` is a compound number)."""
    if not re.fullmatch(r"(?:[A-Z][a-z]?[0-9.]*){2,}", block_name):
        return False
    composition = formula_of(block_name)
    return composition is not None and len(composition) > 1


def formula_in_name(claims: Claims, of_atoms: Composition) -> str | None:
    """The block name, if it is meant as a formula; None if it is only a name.

    Names such as `CIF`, `CO2` or `PBCN` consist of element symbols by chance. One is meant as a formula where the block
    states a structural formula, too, as the CIFs of pymatgen, CrystaLLM and this package do, or where it names the very
    elements of the atoms.

    Example:
        >>> formula_in_name(Claims(block_name="CO2"), Composition("TiO2")) is None
        True
        >>> formula_in_name(Claims(block_name="TiO"), Composition("TiO2"))
        'TiO'
    """
    name = claims.block_name
    if not name or not looks_like_formula(name):
        return None
    named = formula_of(name)
    is_meant = claims.formula_structural is not None or (named is not None and named.elements == of_atoms.elements)
    return name if is_meant else None


def counted_atoms(claims: Claims, of_atoms: Composition) -> CountedAtoms | None:
    """Atoms in the cell as the multiplicities state them, None where one is not a whole number > 0.

    Args:
        claims: of a block with multiplicities.
        of_atoms: What the atoms were read as; it decides between two readings of a label, such as `HO1`.
    """
    present = frozenset(Element(str(element)).Z for element in of_atoms)
    atoms: Counter[str] = Counter()
    partly = set()
    for site in claims.multiplicities:
        element = _element(site, present)
        if not site.multiplicity:
            partly.add(element)
            continue
        number = whole_number(site.multiplicity)
        if number is None or number < 1:
            return None
        atoms[element] += number
    return CountedAtoms(atoms, frozenset(partly))


def whole_number(text: str) -> int | None:
    """The whole number that a CIF text states, `4` or `4.0`; None if it states none."""
    number = float(gemmi.cif.as_number(text))
    return int(number) if math.isfinite(number) and number == int(number) else None


def _element(site: SiteClaim, present: frozenset[int]) -> str:
    """The symbol of the element on a site; the text itself where it names none."""
    found = species_of_type(site.symbol) if site.symbol not in NOT_STATED else None
    if found is None or found.kind is not Kind.ATOM:
        found = species_of_label(site.label, present)
    if found.kind is not Kind.ATOM:
        return site.symbol or site.label
    return symbol_of(next((number for number in found.numbers if number in present), found.numbers[0]))


def _text(items: Mapping[str, str | list[str]], *names: str) -> str | None:
    for name in names:
        value = items.get(name)
        if isinstance(value, list):
            value = value[0] if value else ""
        if isinstance(value, str) and value.strip() not in NOT_STATED:
            return value.strip()
    return None


def _column(items: Mapping[str, str | list[str]], name: str) -> list[str]:
    value = items.get(name)
    if isinstance(value, str):
        return [value.strip()]
    return [str(item).strip() for item in value] if isinstance(value, list) else []
