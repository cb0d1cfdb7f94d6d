"""Crystals in the columns of OPTIMADE (www.optimade.org), which LeMat-Bulk uses too. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crystallm.crystal.cell import Cell, Reason, Rejection
from crystallm.crystal.cif.content import units_in_cell
from crystallm.crystal.cif.content import written as written_formula
from crystallm.crystal.cif.formula_sum import stated_formula
from crystallm.data.sources.screening import atomic_number, sensible_cell

NEEDED = ("lattice_vectors", "cartesian_site_positions", "species_at_sites")
"""Angstrom, angstrom, and for each site the name of a species: its element, unless `species` says otherwise."""

HELPFUL = (
    *("species", "nperiodic_dimensions", "dimension_types", "structure_features", "assemblies"),
    *("nsites", "chemical_formula_reduced", "elements"),
)
"""Read where a table has them."""

NOT_ORDERED = ("disorder", "assemblies")
"""Values of `structure_features` by which a record says that its sites are no ordered crystal."""

NOT_LISTED = {
    "implicit_atoms": "atoms of the crystal that have no site",
    "unknown_positions": "atoms of the crystal whose positions are unknown",
    "site_attachments": "atoms attached to sites, without positions of their own",
}
"""Values by which it says that atoms are missing."""


def read_optimade(record: Mapping[str, Any], *, trust_atoms: bool = False) -> Cell | Rejection:
    """The cell of a record with the columns NEEDED, of which any may be broken.

    What a record says of its sites is taken at its word (OPTIMADE 1.2, structures): disorder, assemblies, attached and
    implicit atoms are refused, and so is a reduced formula or a number of sites that the sites do not make.

    Args:
        record: values by column, lists and objects as such or as JSON.
        trust_atoms: whether the sites are right where the record contradicts them or says that atoms are missing.

    Returns:
        The cell, or the reason why there is none.
    """
    if record.get("nperiodic_dimensions") not in (None, 3):
        return Rejection(Reason.UNREADABLE, f"periodic in {record['nperiodic_dimensions']} directions, not three")
    try:
        periodic = _decoded(record.get("dimension_types"))
        if periodic is not None and 0 in list(periodic):
            return Rejection(
                Reason.UNREADABLE, f"dimension_types is {list(periodic)}, not periodic in three directions"
            )
        lattice = np.array(record["lattice_vectors"], dtype=np.float64)
        cartesian = np.array(record["cartesian_site_positions"], dtype=np.float64).reshape(-1, 3)
        species = _decoded(record.get("species")) or []
        said = _why_disordered(record) or (None if trust_atoms else _why_incomplete(record, species))
        elements = _elements(species)
        names = list(record["species_at_sites"])
        numbers: list[int] = []
        for index, name in enumerate(names):
            symbol = elements.get(name, name)
            if symbol is None:
                return Rejection(Reason.DISORDERED, f"site {index} holds {name}, which is not one element")
            number = atomic_number(symbol)
            if number is None:
                return Rejection(Reason.UNKNOWN_SPECIES, f"site {index} of type {symbol!r}")
            numbers.append(number)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Rejection(Reason.UNREADABLE, f"columns that hold no structure: {type(error).__name__} {error}")
    if len(numbers) != len(cartesian):
        return Rejection(Reason.UNREADABLE, f"{len(cartesian)} positions for {len(numbers)} atoms")
    refusal = sensible_cell(lattice, cartesian, numbers) or said
    if refusal is None and not trust_atoms:
        refusal = _why_contradictory(record, numbers)
    if refusal is not None:
        return refusal
    return Cell(lattice, cartesian @ np.linalg.inv(lattice), np.array(numbers, dtype=np.int64))


def _decoded(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _why_disordered(record: Mapping[str, Any]) -> Rejection | None:
    features = _decoded(record.get("structure_features")) or []
    for feature in NOT_ORDERED:
        if feature in features:
            return Rejection(Reason.DISORDERED, f"the record states {feature!r} in structure_features")
    if _decoded(record.get("assemblies")):
        return Rejection(Reason.DISORDERED, "the record lists assemblies of sites that exclude each other")
    return None


def _why_incomplete(record: Mapping[str, Any], species: Sequence[Mapping[str, Any]]) -> Rejection | None:
    used = set(record["species_at_sites"])
    for one in species:
        if one.get("attached") and one["name"] in used:
            attached = ", ".join(map(str, one["attached"]))
            return Rejection(
                Reason.CONTRADICTORY, f"species {one['name']!r} has {attached} attached, which is not among the sites"
            )
    for feature in _decoded(record.get("structure_features")) or []:
        if feature in NOT_LISTED:
            return Rejection(Reason.CONTRADICTORY, f"the record states {feature!r}: {NOT_LISTED[feature]}")
    return None


def _why_contradictory(record: Mapping[str, Any], numbers: Sequence[int]) -> Rejection | None:
    n_sites, stated = record.get("nsites"), record.get("chemical_formula_reduced")
    if isinstance(n_sites, int) and n_sites != len(numbers):
        return Rejection(Reason.CONTRADICTORY, f"nsites is {n_sites}, the record lists {len(numbers)} sites")
    formula = stated_formula(stated) if isinstance(stated, str) else None
    counts = dict(Counter(numbers))
    if formula is not None and units_in_cell(formula, counts) is None:
        return Rejection(
            Reason.CONTRADICTORY, f"chemical_formula_reduced is {stated}, the sites make {written_formula(counts)}"
        )
    elements = record.get("elements")
    if isinstance(elements, list) and elements and {atomic_number(str(one)) for one in elements} != counts.keys():
        named = " ".join(map(str, elements))
        return Rejection(Reason.CONTRADICTORY, f"elements are {named}, the sites make {written_formula(counts)}")
    return None


def _elements(species: Sequence[Mapping[str, Any]]) -> dict[str, str | None]:
    """Return the element of each species by its name; None where it is a mixture or a part of one."""
    found: dict[str, str | None] = {}
    for one in species:
        symbols, shares = one["chemical_symbols"], one.get("concentration") or [1.0]
        whole = len(symbols) == 1 and abs(shares[0] - 1) < 1e-3
        found[one["name"]] = symbols[0] if whole else None
    return found
