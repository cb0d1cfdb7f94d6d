"""Measured crystals that have lost hydrogen or hold labels instead of elements.

X-rays hardly see hydrogen, and tables of atoms often leave it out: brucite, Mg(OH)2, is then MgO2. Such a formula
cannot be neutral without peroxide, and no two of its oxygens are bonded.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np

from crystallm.crystal.cell import Cell
from crystallm.crystal.formulas.composition import format_formula, reduce_amounts, symbol_of
from crystallm.data.consistency.findings import Contradiction, Finding

ANIONS = frozenset({"O", "F", "Cl", "Br", "I"})

PEROXIDE_ANGSTROM = 1.7
"""Oxygens that are bonded to each other are closer; superoxide 1.28, peroxide 1.49."""

MOST_HYDROGEN = 8
"""Hydrogens a formula unit that are added."""

LARGEST_FORMULA = 40
"""Atoms of the reduced formula up to which oxidation states are tried."""

UNDERBONDED_VALENCE = 0.7
"""Bond valence sum of oxygen below which it lacks a bond; in Ni(OH)2 without its hydrogen it is 0.63."""

EXOTIC = frozenset({"Ho", "Os", "W", "Nh", "Cn", "Og", "Ts", "No"})
"""What the labels HO1, OS, W1 (water), NH4, CN, OG, NO are taken for."""


def check_hydrogen(row: Mapping[str, Any], cell: Cell) -> Iterator[Finding]:
    """Whether a measured crystal has lost hydrogen; its DFT twin, where `merged_ids` names one, vouches for it."""
    counts = {symbol_of(number): count for number, count in cell.amounts.items()}
    amounts = dict(reduce_amounts(counts))
    vouched = bool(row.get("merged_ids"))
    if "H" in amounts or not ANIONS & set(amounts) or len(amounts) == 1:
        return
    if _bonded_oxygen(cell):
        return
    if sum(amounts.values()) <= LARGEST_FORMULA and not _neutral(format_formula(tuple(amounts.items()))):
        for added in range(1, MOST_HYDROGEN + 1):
            formula = format_formula(reduce_amounts({**amounts, "H": added}))
            if _neutral(formula):
                detail = f"no oxidation states balance; those of {formula} do"
                yield Finding(row["id"], Contradiction.LOST_HYDROGEN, detail, not vouched)
                return
    valence = _least_valence(cell) if "O" in amounts else None
    if valence is not None and valence < UNDERBONDED_VALENCE:
        detail = f"bond valence sum {valence:.2f} of an oxygen"
        yield Finding(row["id"], Contradiction.LOST_HYDROGEN, detail, False)


def check_labels(row: Mapping[str, Any], cell: Cell) -> Iterator[Finding]:
    """Whether a measured crystal holds an element that labels are taken for, beside oxygen and with no metal's
    valence: elements, hydrides and compounds that a calculation vouches for are what they say."""
    found = EXOTIC & {symbol_of(number) for number in cell.amounts}
    if found and len(cell.amounts) > 3 and not row.get("merged_ids"):
        yield Finding(row["id"], Contradiction.LABELS, f"{', '.join(sorted(found))} in {row.get('formula')}", False)


@cache
def _neutral(formula: str) -> bool:
    """Whether any oxidation states that the elements are known in balance, oxygen being -2."""
    from pymatgen.core import Composition

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        composition = Composition(formula)
        fixed = {element: states for element, states in _FIXED.items() if element in composition}
        guesses = composition.oxi_state_guesses(oxi_states_override=fixed, all_oxi_states=True)
    return bool(guesses)


_ONE, _TWO = ("Li", "Na", "K", "Rb", "Cs"), ("Be", "Mg", "Ca", "Sr", "Ba", "Zn", "Cd")

_FIXED = {"O": [-2], "F": [-1], "H": [1, -1]} | {symbol: [1] for symbol in _ONE} | {symbol: [2] for symbol in _TWO}
"""Elements whose oxidation states are not left to pymatgen's list."""


def _bonded_oxygen(cell: Cell) -> bool:
    structure = cell.to_structure()
    oxygens = [site for site in structure if site.specie.symbol == "O"]
    return any(
        other.specie.symbol == "O" for site in oxygens for other in structure.get_neighbors(site, PEROXIDE_ANGSTROM)
    )


def _least_valence(cell: Cell) -> float | None:
    """The least bond valence sum of an oxygen (O'Keeffe and Brese, J. Am. Chem. Soc. 113, 3226 (1991)), in size."""
    from pymatgen.analysis.bond_valence import BV_PARAMS, calculate_bv_sum

    structure = cell.to_structure()
    if any(element not in BV_PARAMS for element in structure.composition):
        return None
    sums = []
    for site in structure:
        if site.specie.symbol == "O":
            near = [other for other in structure.get_neighbors(site, 3.2) if other.specie.symbol != "O"]
            sums.append(abs(calculate_bv_sum(site, near)))
    return float(np.min(sums)) if sums else None
