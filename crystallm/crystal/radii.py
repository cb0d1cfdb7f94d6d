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
