"""What every reader of structures must ask: is it an element, is it a cell. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.cell import Reason, Rejection


def atomic_number(symbol: Any) -> int | None:
    """The atomic number of an element's symbol; None for anything else, isotopes such as D included."""
    from pymatgen.core.periodic_table import Element

    if symbol not in Element.__members__ or symbol in ("D", "T"):
        return None
    return int(Element(symbol).Z)


def sensible_cell(
    lattice: NDArray[np.float64], positions: NDArray[np.float64], numbers: Sequence[int]
) -> Rejection | None:
    """Why this is no cell: no atoms, a lattice (rows, angstrom) without volume, a coordinate that is no number."""
    if not len(numbers):
        return Rejection(Reason.EMPTY, "the list of sites is empty")
    if lattice.shape != (3, 3) or not np.isfinite(lattice).all() or abs(np.linalg.det(lattice)) < 1.0:
        return Rejection(Reason.BAD_CELL, f"lattice {lattice.tolist()} has no sensible volume")
    if not np.isfinite(positions).all():
        return Rejection(Reason.UNREADABLE, "a coordinate is not a finite number")
    return None
