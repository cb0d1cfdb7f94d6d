"""What a CIF says of its content (formula sum, Z, multiplicities, attached hydrogen), held against its atoms.

Which statements contradict the atoms:

* the formula sum, if no number of formula units makes it the content of the cell. Multiples (`Si8`, the sum of the
  primitive or conventional cell) and rounded amounts are no contradiction. Without a formula sum the structural formula
  or the moieties stand in for it;
* Z, if it is a whole number and the cell holds another number of units: of the formula as stated or reduced, in the
  cell or its primitive cell;
* multiplicities, if neither they, nor the orders of site symmetry that older programs write there, nor those of the
  primitive cell or of hexagonal axes fit all sites;
* attached hydrogen that is not in the list, unless the formula sum agrees with the list;
* the weight of the formula with Z, and the density, where no formula can be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import islice, product
from math import gcd, isfinite

import gemmi

from crystallm.crystal.cell import GRAMS_PER_CM3
from crystallm.crystal.cif.atoms import Sites
from crystallm.crystal.cif.formula_sum import StatedFormula, elements_named, stated_formula
from crystallm.crystal.cif.species import Kind, species_of_type
from crystallm.crystal.cif.text.document import Items
from crystallm.crystal.formulas.composition import format_formula, reduce_amounts
from crystallm.crystal.formulas.elements import ELEMENTS

FORMULAS = (
    "_chemical_formula_sum",
    "_chemical_formula_structural",
    "_chemical_formula_moiety",
    "_chemical_formula_iupac",
)
"""Items that state a formula, the most reliable first."""

MASS_TOLERANCE = 0.015
"""Relative: densities and weights are computed with masses of several years and rounded volumes."""


HYDROGEN = 1
MOST_READINGS = 256


@dataclass(frozen=True)
class Statements:
    """What a block says of its content; None where it is silent or cannot be read."""

    formula: StatedFormula | None = None
    formula_item: str = ""
    units: float | None = None
    """Z, formula units in the cell."""
    weight: float | None = None
    """Of one formula unit, in dalton."""
    density: tuple[float, float] | None = None
    """From the diffraction experiment, in g/cm3, and how far its rounding may be."""
    present: frozenset[int] | None = None
    """Atomic numbers of the elements in the crystal."""
    names: tuple[str, frozenset[int]] = ("", frozenset())
    """A formula sum of which only the elements can be read, and their atomic numbers."""


@dataclass(frozen=True)
class Content:
    """The atoms of a cell, and what the file says against them."""

    numbers: tuple[int, ...]
    """Atomic number of each site."""
    contradictions: tuple[str, ...] = ()
    """One sentence for each statement that the atoms contradict; none of them if the list is right."""
    open: str = ""
    """Two readings of a label between which nothing decides; empty where there are none."""
    multiplicities: tuple[str, ...] = ()
    """Those of the contradictions that are about multiplicities."""
    compared: tuple[str, ...] = ()
    """Names of the items that were held against the atoms."""


def statements_of(items: Items) -> Statements:
    """What a block says of its content.

    Args:
        items: of one block.

    Returns:
        The statements, with None for each that is missing.
    """
    formula, formula_item = None, ""
    for name in FORMULAS:
        text = items.text(name)
        if text is not None and (formula := stated_formula(text)) is not None:
            formula_item = name
            break
    summed = items.text("_chemical_formula_sum") or ""
    return Statements(
        formula=formula,
        names=(summed, elements_named(summed) if stated_formula(summed) is None else frozenset()),
        formula_item=formula_item,
        units=_whole(_positive(items.text("_cell_formula_units_z"))),
        weight=_positive(items.text("_chemical_formula_weight")),
        density=_with_rounding(items.text("_exptl_crystal_density_diffrn")),
        present=formula.elements if formula is not None else _listed_types(items),
    )


def judge(
    statements: Statements, sites: Sites, sizes: Sequence[int], *, order: int, centring: int, volume: float
) -> Content:
    """Hold the statements against the atoms that a symmetry makes of the sites.

    Args:
        statements: of the block.
        sites: its atom list.
        sizes: how many atoms of the cell each site stands for.
        order: operations of the group in the cell, centrings included.
        centring: lattice points in the cell.
        volume: of the cell, in cubic angstrom.

    Returns:
        The element of each site and the contradictions; with several symmetries in question, the one without is right.
    """
    numbers, doubt = _decided(statements, sites, sizes)
    counts = _counts(numbers, sizes)
    found: list[str] = []
    compared: list[str] = []
    multiplicities: tuple[str, ...] = ()
    agrees = False
    if statements.formula is not None:
        compared.append(statements.formula_item)
        units = units_in_cell(statements.formula, counts)
        agrees = units is not None
        if units is None:
            found.append(f"{_said(statements)}, the atoms make {written(counts)}")
        elif statements.units is not None:
            compared.append("_cell_formula_units_Z")
            if not _is_z(statements.units, statements.formula, units, counts, centring):
                held = round(sum(units) / 2, 3)
                found.append(
                    f"Z is {statements.units:g}, the cell holds {held:g} times {statements.formula.text} "
                    f"({sum(counts.values())} atoms)"
                )
    elif statements.units is not None:
        compared.append("_cell_formula_units_Z")
        if not _divides(statements.units, counts, centring):
            found.append(f"Z is {statements.units:g}, the atoms of the cell are {written(counts, reduced=False)}")
    text, named = statements.names
    if named and named != counts.keys():
        compared.append("_chemical_formula_sum")
        found.append(f"the formula sum is {text!r}, the atoms make {written(counts)}")
    if sites.attached_hydrogens and not agrees:
        compared.append("_atom_site_attached_hydrogens")
        found += _missing_hydrogens(sites, sizes, counts)
    if sites.water_without_formula and not agrees and HYDROGEN not in counts:
        found.append(f"site {sites.water_without_formula[0]!r} is named as water, and no hydrogen is among the atoms")
    if sites.multiplicities:
        compared.append("_atom_site_symmetry_multiplicity")
        multiplicities = tuple(_wrong_multiplicities(sites, sizes, order, centring))
        found += multiplicities
    if statements.formula is None and not sites.has_deuterium:
        found += _wrong_mass(statements, counts, volume)
    return Content(tuple(numbers), tuple(found), doubt, multiplicities, tuple(compared))


def units_in_cell(formula: StatedFormula, counts: Mapping[int, int]) -> tuple[float, float] | None:
    """Between which numbers of formula units a cell holds, None if no number makes the formula its content.

    Args:
        formula: as stated.
        counts: atoms in the cell by atomic number.

    Returns:
        Least and most; equal where the amounts are whole numbers.

    Example:
        >>> brucite = stated_formula("H2 Mg O2")
        >>> units_in_cell(brucite, {1: 4, 12: 2, 8: 4}), units_in_cell(brucite, {12: 2, 8: 4})
        ((2.0, 2.0), None)
    """
    if formula.most.keys() != counts.keys():
        return None
    least = max(count / formula.most[number] for number, count in counts.items())
    most = min(count / low if (low := formula.least[number]) > 0 else 1e9 for number, count in counts.items())
    return (least, most) if least <= most * (1 + 1e-6) else None


def written(counts: Mapping[int, int], *, reduced: bool = True) -> str:
    """Atoms by atomic number as a formula: the reduced one, or that of the cell.

    Example:
        >>> written({8: 4, 12: 2}), written({8: 4, 12: 2}, reduced=False)
        ('MgO2', 'Mg2O4')
    """
    amounts = {ELEMENTS[number - 1]: count for number, count in counts.items()}
    unit = reduce_amounts(amounts)
    return format_formula(unit if reduced else tuple((symbol, amounts[symbol]) for symbol, _ in unit))


def _said(statements: Statements) -> str:
    if statements.formula is None:
        return "no formula is stated"
    name = statements.formula_item.removeprefix("_chemical_formula_")
    kind = {"sum": "formula sum", "moiety": "formula of the moieties"}.get(name, f"{name} formula")
    return f"the {kind} is {statements.formula.text!r}"


def _is_z(
    stated: float, formula: StatedFormula, units: tuple[float, float], counts: Mapping[int, int], centring: int
) -> bool:
    """Whether Z counts the formula as stated or reduced, in the cell or in its primitive cell.

    Where the formula is the content of the cell, Z may count any unit that divides it: programs reduce it as they like
    (`K4 O4` with Z 2 are two K2O2).
    """
    reduced = reduce(gcd, counts.values())
    if units == (1.0, 1.0) and reduced % stated == 0:
        return True
    for z in {stated, stated * centring}:
        if units[0] * (1 - 1e-3) <= z <= units[1] * (1 + 1e-3) or z in (reduced, units[1] * formula.divisor):
            return True
    return False


def _divides(stated: float, counts: Mapping[int, int], centring: int) -> bool:
    return all(any(count % z == 0 for z in {stated, stated * centring}) for count in counts.values())


def _missing_hydrogens(sites: Sites, sizes: Sequence[int], counts: Mapping[int, int]) -> Iterator[str]:
    attached = sites.attached_hydrogens
    missing = round(sum(count * size for count, size in zip(attached, sizes, strict=True)))
    label = next((label for label, count in zip(sites.labels, attached, strict=True) if count > 0), None)
    if missing > 0 and label is not None:
        whole = {**counts, HYDROGEN: counts.get(HYDROGEN, 0) + missing}
        yield (
            f"hydrogen is said to be attached to {label!r} and is not among the atoms: they make {written(counts)}, "
            f"with it {written(whole)}"
        )


def _wrong_multiplicities(sites: Sites, sizes: Sequence[int], order: int, centring: int) -> Iterator[str]:
    known = {text: _positive(text) for text in set(sites.multiplicities)}
    stated = [known[text] for text in sites.multiplicities]
    pairs = [(k, given, size) for k, (given, size) in enumerate(zip(stated, sizes, strict=True)) if given is not None]
    if all(given == size for _, given, size in pairs):
        return
    if all(given * size == order for _, given, size in pairs):
        return
    if centring > 1 and all(given * centring in (size, order * centring / size) for _, given, size in pairs):
        return
    if centring == 1 and order % 3 == 0 and all(given == 3 * size for _, given, size in pairs):
        return  # multiplicities on hexagonal axes, of a crystal on rhombohedral ones
    k, given, size = next(pair for pair in pairs if pair[1] != pair[2])
    yield f"site {sites.labels[k]!r} is said to have multiplicity {given:g}, the symmetry makes {size} of it"


def _wrong_mass(statements: Statements, counts: Mapping[int, int], volume: float) -> Iterator[str]:
    mass = sum(count * _weight(number) for number, count in counts.items())
    units, weight, density = statements.units, statements.weight, statements.density
    if units is not None and weight is not None and abs(mass / (units * weight) - 1) > MASS_TOLERANCE:
        yield f"{units:g} times the formula weight {weight:g} is {units * weight:.4g}, the atoms weigh {mass:.4g}"
    elif density is not None and volume > 0:
        (given, rounding), ours = density, mass * GRAMS_PER_CM3 / volume
        if abs(ours - given) > MASS_TOLERANCE * given + rounding:
            yield f"the density is {given:g} g/cm3, the atoms make {ours:.4g}"


def _decided(statements: Statements, sites: Sites, sizes: Sequence[int]) -> tuple[list[int], str]:
    """The element of each site, and two readings between which nothing decides."""
    numbers = [readings[0] for readings in sites.readings]
    groups: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for k, readings in enumerate(sites.readings):
        if len(readings) > 1:
            stem = "".join(letter for letter in sites.labels[k][:2] if letter.isalpha())
            groups.setdefault((stem, readings), []).append(k)
    if not groups:
        return numbers, ""
    fits: list[list[int]] = []
    for choice in islice(product(*(readings for _, readings in groups)), MOST_READINGS):
        tried = numbers.copy()
        for number, places in zip(choice, groups.values(), strict=True):
            for k in places:
                tried[k] = number
        if statements.formula is None or units_in_cell(statements.formula, _counts(tried, sizes)) is not None:
            fits.append(tried)
    if not fits:
        return numbers, ""
    if len(fits) == 1 or all(stem[1:].islower() for stem, _ in groups):
        return fits[0], ""
    label = sites.labels[next(iter(groups.values()))[0]]
    one, other = (written(_counts(tried, sizes)) for tried in fits[:2])
    return fits[0], f"site {label!r} may be {_words(next(iter(groups))[1])}: {one} or {other}"


def _words(readings: Sequence[int]) -> str:
    return " or ".join(ELEMENTS[number - 1] for number in readings)


def _counts(numbers: Sequence[int], sizes: Sequence[int]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for number, size in zip(numbers, sizes, strict=True):
        counts[number] = counts.get(number, 0) + size
    return counts


def _listed_types(items: Items) -> frozenset[int] | None:
    listed = [species_of_type(symbol) for symbol in items.column("_atom_type_symbol") if symbol]
    found = {one.numbers[0] for one in listed if one.kind is Kind.ATOM}
    return frozenset(found) if found else None


def _positive(text: str | None) -> float | None:
    if not text:
        return None
    number = float(gemmi.cif.as_number(text))
    return number if isfinite(number) and number > 0 else None


def _with_rounding(text: str | None) -> tuple[float, float] | None:
    number = _positive(text)
    if number is None or text is None:
        return None
    decimals = len(text.partition(".")[2].partition("(")[0])
    return number, 0.5 * 10.0**-decimals


def _whole(number: float | None) -> float | None:
    return number if number is not None and number == round(number) else None


@lru_cache(maxsize=128)
def _weight(number: int) -> float:
    return float(gemmi.Element(number).weight)
