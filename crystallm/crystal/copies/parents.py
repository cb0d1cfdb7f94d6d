"""Parents of a crystal: what it becomes when it is moved onto a symmetry that it nearly has.

A search for symmetry takes a tolerance, but the atoms may then move further than that. So the search is made at several
tolerances and the way is measured afterwards (`Parent.distance_angstrom`). The field calls a crystal that nearly has a
higher symmetry pseudosymmetric, and the one of higher symmetry its parent (aristotype).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.description import Description, describe, expand
from crystallm.crystal.matching.reduced_cells import niggli
from crystallm.crystal.symmetry import Idealized, idealize, primitive
from crystallm.crystal.wyckoff import space_group

SEARCHES_ANGSTROM = (0.001, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6)
"""Tolerances at which symmetry is looked for; those up to twice the distance allowed are tried."""

TIGHT_ANGSTROM = 1e-3
"""Tolerance of the crystal's own symmetry, which a description has to all its digits."""

EXPRESSIBLE_ANGSTROM = 1e-2
"""Tolerance with which an idealized crystal is described: rounding errors only."""


@dataclass(frozen=True, eq=False)
class Parent:
    """A crystal moved onto a higher symmetry, and how far that was."""

    space_group: int
    n_operations: int
    """Of the primitive cell of the crystal that was moved."""
    cell: Cell
    """Idealized; its volume is that of the crystal but for second order in the strain."""
    displacement_angstrom: float
    """The largest displacement of an atom beside the strain, the mean displacement taken away."""
    strain_angstrom: float
    """How far the end of a basis vector of the reduced primitive cell moves at most, by a strain without rotation."""

    @property
    def distance_angstrom(self) -> float:
        """How far the crystal is from its parent: the larger of the two."""
        return max(self.displacement_angstrom, self.strain_angstrom)

    @cached_property
    def description(self) -> Description | Rejection:
        """In the standard setting of the higher group."""
        return describe(self.cell, symprec_angstrom=EXPRESSIBLE_ANGSTROM)


def parents(crystal: Description | Cell, tolerance_angstrom: float) -> list[Parent]:
    """All parents of a crystal within a distance, those of highest symmetry first.

    Args:
        crystal: A crystal. Its own symmetry is the one that it is written in; of a cell, what it has to 0.001 A.
        tolerance_angstrom: The largest distance; see `Parent.distance_angstrom`.

    Returns:
        One parent of each space group and number of operations, the nearest; none where the crystal has none.

    Example:
        >>> squeezed = Description((("Al", 1),), 1, 139, (2.86, 2.86, 4.1, 90.0, 90.0, 90.0), (Site("Al", "a", ()),))
        >>> [parent.space_group for parent in parents(squeezed, 0.1)]
        [225]
    """
    cell = primitive(crystal if isinstance(crystal, Cell) else expand(crystal))
    lattice, positions = niggli(cell.lattice, cell.positions)
    cell = Cell(lattice, positions, cell.numbers)
    own = _own_operations(crystal, cell)
    found: dict[tuple[int, int], Parent] = {}
    for ideal in _idealized(cell, 2 * tolerance_angstrom):
        if ideal.n_operations / len(cell) <= own:
            continue
        parent = _measured(ideal, cell)
        key = (ideal.n_operations, ideal.space_group)
        if parent.distance_angstrom <= tolerance_angstrom and (
            key not in found or parent.distance_angstrom < found[key].distance_angstrom
        ):
            found[key] = parent
    return [found[key] for key in sorted(found, reverse=True)]


def parent(crystal: Description | Cell, tolerance_angstrom: float) -> Parent | None:
    """The parent of highest symmetry within a distance; None where the crystal has none."""
    return next(iter(parents(crystal, tolerance_angstrom)), None)


def _own_operations(crystal: Description | Cell, cell: Cell) -> float:
    """Operations for each atom, whatever cell they are counted in."""
    if isinstance(crystal, Description):
        group = space_group(crystal.space_group)
        return len(group.rotations) / group.centring_order / crystal.n_sites
    own = idealize(cell, symprec_angstrom=TIGHT_ANGSTROM)
    return (1 if isinstance(own, Rejection) else own.n_operations) / len(cell)


def _idealized(cell: Cell, widest: float) -> Iterator[Idealized]:
    for symprec in SEARCHES_ANGSTROM:
        if symprec <= max(widest, SEARCHES_ANGSTROM[1]):
            ideal = idealize(cell, symprec_angstrom=symprec)
            if isinstance(ideal, Idealized):
                yield ideal


def _measured(ideal: Idealized, cell: Cell) -> Parent:
    moves: NDArray[np.float64] = (ideal.cell.positions - cell.positions) @ ideal.cell.lattice
    moves -= moves.mean(axis=0)  # the origin is free
    strain = np.linalg.norm(ideal.cell.lattice - cell.lattice, axis=1).max()
    displacement = np.linalg.norm(moves, axis=1).max()
    return Parent(ideal.space_group, ideal.n_operations, ideal.cell, float(displacement), float(strain))
