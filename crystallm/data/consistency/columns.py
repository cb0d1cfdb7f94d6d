"""Columns of a row against the atoms of its CIF."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import gemmi

from crystallm.base.errors import CrystallmError
from crystallm.crystal.cell import GRAMS_PER_CM3, Cell
from crystallm.crystal.formulas.composition import Amounts, parse_formula, reduce_amounts, symbol_of
from crystallm.crystal.formulas.element_similarity import load_similarity
from crystallm.crystal.symmetry import standardize_number
from crystallm.data.consistency.findings import Contradiction, Finding

TOLERANCE = 0.01
"""Relative, of densities and volumes; tables round to four digits or more."""

VOLUME_RATIOS = (0.4, 3.0)
"""Volume over that of the composition outside which a row is suspicious. Measured elements reach 2.7 (helium, caesium):
the volumes of elements are those in compounds."""


def check_columns(row: Mapping[str, Any], cell: Cell) -> Iterator[Finding]:
    """What the columns `formula`, `reduced_formula`, `n_sites`, `n_elements`, `density`, `volume_per_atom` and
    `spacegroup_number` say that the atoms do not; those that are missing or null say nothing."""
    counts = {symbol_of(number): count for number, count in cell.amounts.items()}
    amounts = reduce_amounts(counts)
    for name in ("formula", "reduced_formula"):
        if row.get(name) is not None and _amounts(row[name]) != amounts:
            yield Finding(row["id"], Contradiction.FORMULA, f"{name} {row[name]}, atoms {counts}", True)
    for name, count in (("n_sites", len(cell)), ("n_elements", len(counts))):
        if row.get(name) is not None and row[name] != count:
            yield Finding(row["id"], Contradiction.COUNTS, f"{name} {row[name]}, atoms {count}", True)
    mass = sum(gemmi.Element(symbol).weight * count for symbol, count in counts.items())
    density = GRAMS_PER_CM3 * mass / cell.volume
    for name, value in (("density", density), ("volume_per_atom", cell.volume / len(cell))):
        if row.get(name) is not None and abs(row[name] / value - 1) > TOLERANCE:
            yield Finding(row["id"], Contradiction.DENSITY, f"{name} {row[name]:.4g}, cell {value:.4g}", True)
    number = standardize_number(cell)
    if row.get("spacegroup_number") is not None and row["spacegroup_number"] != number:
        # Two programs near their tolerance; no contradiction of the crystal.
        yield Finding(row["id"], Contradiction.SPACE_GROUP, f"{row['spacegroup_number']}, moyo {number}", False)
    ratio = cell.volume / float(load_similarity().volumes[cell.numbers].sum())
    if not VOLUME_RATIOS[0] <= ratio <= VOLUME_RATIOS[1]:
        yield Finding(row["id"], Contradiction.VOLUME, f"{ratio:.2f} times that of the composition", False)


def _amounts(formula: str) -> Amounts | None:
    try:
        return parse_formula(formula.replace(" ", ""))
    except CrystallmError:
        return None
