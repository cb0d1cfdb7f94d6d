"""How long a bond between two elements is expected to be, by their radii."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from functools import cache

from pymatgen.core import Element

IONIC_ELECTRONEGATIVITY_DIFFERENCE = 1.7
"""From this difference (Pauling) on, ionic radii are expected instead of atomic ones."""


# fmt: off
COVALENT_RADII: Mapping[str, float] = {
    "H": 0.31, "He": 0.28, "Li": 1.28, "Be": 0.96, "B": 0.84, "C": 0.73, "N": 0.71, "O": 0.66, "F": 0.57, "Ne": 0.58,
    "Na": 1.66, "Mg": 1.41, "Al": 1.21, "Si": 1.11, "P": 1.07, "S": 1.05, "Cl": 1.02, "Ar": 1.06, "K": 2.03,
    "Ca": 1.76, "Sc": 1.7, "Ti": 1.6, "V": 1.53, "Cr": 1.39, "Mn": 1.5, "Fe": 1.42, "Co": 1.38, "Ni": 1.24,
    "Cu": 1.32, "Zn": 1.22, "Ga": 1.22, "Ge": 1.2, "As": 1.19, "Se": 1.2, "Br": 1.2, "Kr": 1.16, "Rb": 2.2,
    "Sr": 1.95, "Y": 1.9, "Zr": 1.75, "Nb": 1.64, "Mo": 1.54, "Tc": 1.47, "Ru": 1.46, "Rh": 1.42, "Pd": 1.39,
    "Ag": 1.45, "Cd": 1.44, "In": 1.42, "Sn": 1.39, "Sb": 1.39, "Te": 1.38, "I": 1.39, "Xe": 1.4, "Cs": 2.44,
    "Ba": 2.15, "La": 2.07, "Ce": 2.04, "Pr": 2.03, "Nd": 2.01, "Pm": 1.99, "Sm": 1.98, "Eu": 1.98, "Gd": 1.96,
    "Tb": 1.94, "Dy": 1.92, "Ho": 1.92, "Er": 1.89, "Tm": 1.9, "Yb": 1.87, "Lu": 1.87, "Hf": 1.75, "Ta": 1.7,
    "W": 1.62, "Re": 1.51, "Os": 1.44, "Ir": 1.41, "Pt": 1.36, "Au": 1.36, "Hg": 1.32, "Tl": 1.45, "Pb": 1.46,
    "Bi": 1.48, "Po": 1.4, "At": 1.5, "Rn": 1.5, "Fr": 2.6, "Ra": 2.21, "Ac": 2.15, "Th": 2.06, "Pa": 2, "U": 1.96,
    "Np": 1.9, "Pu": 1.87, "Am": 1.8, "Cm": 1.69,
}
# fmt: on
"""Covalent radii in angstrom by element (Cordero et al., Dalton Trans. 2008, 2832), those that pymatgen's CrystalNN
takes; a test compares them with pymatgen's. Importing its module of them imports half of scipy."""


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
    radii (pymatgen's): 1.58 to 2.07 for two oxygens. docs: sample says how many real crystals have such a pair.
    """
    if not {first.symbol, second.symbol} <= NONMETALS:
        return None
    bonded = LONGEST_BOND * (expected_length(first, second) or 0.0)
    apart = APART * float(first.van_der_waals_radius + second.van_der_waals_radius)
    return (bonded, apart) if bonded < apart else None
