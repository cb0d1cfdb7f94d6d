"""Crystals in the columns of OPTIMADE (www.optimade.org), which LeMat-Bulk uses too. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from crystallm.crystal.cell import Cell, Reason, Rejection
from crystallm.data.screening import atomic_number, sensible_cell

NEEDED = ("lattice_vectors", "cartesian_site_positions", "species_at_sites")
"""Angstrom, angstrom, and for each site the name of a species: its element, unless `species` says otherwise."""

HELPFUL = ("species", "nperiodic_dimensions")
"""Read where a table has them."""


def read_optimade(record: Mapping[str, Any]) -> Cell | Rejection:
    """Return the cell of a record with the columns NEEDED, of which any may be broken."""
    if record.get("nperiodic_dimensions") not in (None, 3):
        return Rejection(Reason.UNREADABLE, f"periodic in {record['nperiodic_dimensions']} directions, not three")
    try:
        lattice = np.array(record["lattice_vectors"], dtype=np.float64)
        cartesian = np.array(record["cartesian_site_positions"], dtype=np.float64).reshape(-1, 3)
        elements = _elements(record.get("species"))
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
    refusal = sensible_cell(lattice, cartesian, numbers)
    if refusal is not None:
        return refusal
    return Cell(lattice, cartesian @ np.linalg.inv(lattice), np.array(numbers, dtype=np.int64))


def _elements(species: Any) -> dict[str, str | None]:
    """Return the element of each species by its name; None where it is a mixture or a part of one."""
    listed = json.loads(species) if isinstance(species, str) else species or []
    found: dict[str, str | None] = {}
    for one in listed:
        symbols, shares = one["chemical_symbols"], one.get("concentration") or [1.0]
        whole = len(symbols) == 1 and abs(shares[0] - 1) < 1e-3
        found[one["name"]] = symbols[0] if whole else None
    return found
