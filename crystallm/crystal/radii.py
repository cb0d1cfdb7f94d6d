"""How long a bond between two elements is expected to be, by their radii."""

from __future__ import annotations

import math
import warnings
from functools import cache

from pymatgen.core import Element

IONIC_ELECTRONEGATIVITY_DIFFERENCE = 1.7
"""From this difference (Pauling) on, ionic radii are expected instead of atomic ones."""


@cache
def expected_length(first: Element, second: Element) -> float | None:
    """Sum of radii in angstrom: ionic from a difference of 1.7 on, else atomic; None where one is not tabulated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns that He, Ne and Ar have no electronegativity
        cation, anion = (first, second) if first.X < second.X else (second, first)
        difference = abs(first.X - second.X)
    if not math.isnan(difference) and difference >= IONIC_ELECTRONEGATIVITY_DIFFERENCE:
        length = float(cation.average_cationic_radius + anion.average_anionic_radius)
        return length if length > 0 else None
    if first.atomic_radius is None or second.atomic_radius is None:
        return None
    return float(first.atomic_radius + second.atomic_radius)


NONMETALS = frozenset({"N", "O", "F", "P", "S", "Cl", "Se", "Br", "I"})
LONGEST_BOND = 1.32
"""Multiple of the expected length up to which atoms may be bonded (the upper bound of the bond-length score)."""

APART = 0.68
"""Least share of the sum of van der Waals radii at which nonmetals that are not bonded stand."""


@cache
def empty_range(first: Element, second: Element) -> tuple[float, float] | None:
    """Distances in angstrom, from and to, that are too long for a bond of two nonmetals and too short without one.

    None for other elements. Between 1.32 times the expected bond length and 0.68 times the sum of the van der Waals
    radii (pymatgen's): 1.58 to 2.07 for two oxygens. docs/sample.md says how many real crystals have such a pair.
    """
    if not {first.symbol, second.symbol} <= NONMETALS:
        return None
    bonded = LONGEST_BOND * (expected_length(first, second) or 0.0)
    apart = APART * float(first.van_der_waals_radius + second.van_der_waals_radius)
    return (bonded, apart) if bonded < apart else None
