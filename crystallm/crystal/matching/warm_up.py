"""What is compiled, imported and read only once is done before any clock starts.

The first comparison of a run compiles the loops of the matcher, which takes some seconds and, on a busy machine, more
than the time limit of a comparison. Workers call one of these functions before they take their first item.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from crystallm.crystal.cell import Cell

FIRST = ((0.64, 0.27, 0.04), (0.02, 0.81, 0.91), (0.61, 0.73, 0.54), (0.94, 0.82, 0.0))
SECOND = ((0.59, 0.21, 0.14), (0.0, 0.98, 0.87), (0.56, 0.86, 0.46), (0.83, 0.97, 0.05))
"""Fractional coordinates of four atoms, and of the same moved so far that two want one partner: all loops are used."""


@cache
def warm_up_matcher() -> None:
    """Load and, in the first run after installation, compile the loops that compare crystals.

    Example:
        >>> warm_up_matcher()
    """
    import pymatgen.analysis.structure_matcher  # noqa: F401
    import scipy.optimize  # noqa: F401

    from crystallm.crystal.matching.displacement import rms_of_many
    from crystallm.crystal.matching.reduced_crystal import prepare
    from crystallm.crystal.matching.tolerances import STANDARD, STRICT

    first, second = (prepare(carbon(positions)) for positions in (FIRST, SECOND))
    rms_of_many([first], second, (STANDARD, STRICT))


@cache
def warm_up_pymatgen_matcher() -> None:
    """Import pymatgen's matcher and what its first comparison imports.

    Example:
        >>> warm_up_pymatgen_matcher()
    """
    from crystallm.crystal.matching.matcher import rms_distance

    rms_distance(carbon(FIRST).to_structure(), carbon(SECOND).to_structure())


def carbon(positions: tuple[tuple[float, float, float], ...]) -> Cell:
    """Carbon atoms in a cube of 5 angstrom."""
    return Cell(np.eye(3) * 5.0, np.array(positions), np.full(len(positions), 6, dtype=np.int64))
