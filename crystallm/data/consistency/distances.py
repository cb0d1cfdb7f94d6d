"""Atoms that are closer than any bond, and hydrogen that is bonded to nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.cell import Cell
from crystallm.crystal.checks.fast_bonds import neighbours_within
from crystallm.crystal.formulas.composition import symbol_of
from crystallm.data.consistency.findings import Contradiction, Finding

REACH_ANGSTROM = 3.2

NONMETALS = (1, 2, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 32, 33, 34, 35, 36, 51, 52, 53, 54, 85, 86)
"""Atomic numbers, metalloids included."""

ACTINIDES = range(89, 104)

SHORTEST_NONMETALS = 0.72
"""Least part of the sum of covalent radii (Cordero et al., Dalton Trans. 2832 (2008)) at which two atoms stand. The
shortest bonds there are: nitrogen 0.77, carbon monoxide 0.79, hydroxide as X-rays see it 0.82."""

SHORTEST_MIXED = 0.69
"""Metal and nonmetal: vanadyl 0.72. Not actinides: uranyl has 0.67."""

SHORTEST_METALS = 0.65
"""Two metals, and actinides: alpha plutonium and uranyl have 0.67."""

HYDROGEN_TO_NONMETAL_ANGSTROM = 1.6
HYDROGEN_TO_METAL_ANGSTROM = 2.4
"""Beyond both, hydrogen is bonded to nothing; hydrides of large metals reach further and have many neighbours."""

HYDRIDE_RADII = 1.45
"""A metal is a neighbour of hydrogen up to this multiple of the sum of covalent radii, too: KH has 1.23, CsH 1.16."""

HYDROGEN_MOLECULE_ANGSTROM = 0.6
"""The molecule has 0.74."""


def check_distances(id_: str, cell: Cell, *, measured: bool) -> Iterator[Finding]:
    """Contradictions in the distances of one crystal; certain are those of measured crystals, and what no potential
    could hold: the calculated ones may be hypothetical."""
    first, second, distances = _pairs(cell)
    radii = _radii()[cell.numbers]
    closeness = distances / (radii[first] + radii[second]) if len(distances) else np.ones(0)
    shortest = _shortest(cell.numbers[first], cell.numbers[second])
    if len(distances) and (closeness < shortest).any():
        worst = int((closeness / shortest).argmin())
        a, b = (symbol_of(int(cell.numbers[pairs[worst]])) for pairs in (first, second))
        detail = f"{a}-{b} {distances[worst]:.3f} angstrom, {closeness[worst]:.2f} of the covalent radii"
        yield Finding(id_, Contradiction.TOO_CLOSE, detail, measured or bool(closeness[worst] < 0.5))
    yield from _check_hydrogen(id_, cell, first, second, distances, closeness, measured)


def _check_hydrogen(
    id_: str,
    cell: Cell,
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    distances: NDArray[np.float64],
    closeness: NDArray[np.float64],
    measured: bool,
) -> Iterator[Finding]:
    hydrogens = np.flatnonzero(cell.numbers == 1)
    if not len(hydrogens) or len(np.unique(cell.numbers)) == 1:
        return
    other = cell.numbers[second]
    nonmetal = np.isin(other, NONMETALS)
    near = nonmetal & (distances <= HYDROGEN_TO_NONMETAL_ANGSTROM)
    near |= ~nonmetal & ((distances <= HYDROGEN_TO_METAL_ANGSTROM) | (closeness <= HYDRIDE_RADII))
    lonely = np.setdiff1d(hydrogens, first[near])
    if len(lonely):
        detail = f"{len(lonely)} of {len(hydrogens)} hydrogen atoms"
        yield Finding(id_, Contradiction.LONELY_HYDROGEN, detail, measured)
    both = (cell.numbers[first] == 1) & (other == 1)
    if both.any() and distances[both].min() < HYDROGEN_MOLECULE_ANGSTROM:
        yield Finding(id_, Contradiction.CLOSE_HYDROGEN, f"{distances[both].min():.3f} angstrom", True)


def _pairs(cell: Cell) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Sites (P,), their neighbours (P,) and distances (P,) within reach, each pair both ways."""
    first, second, _, distances = neighbours_within(cell, cell.positions @ cell.lattice, REACH_ANGSTROM)
    others = distances > 1e-6
    return first[others], second[others], distances[others]


def _radii() -> NDArray[np.float64]:
    from ase.data import covalent_radii

    return np.asarray(covalent_radii)


def _shortest(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """The least part of the sum of covalent radii for each pair of atomic numbers."""
    nonmetals = np.isin(first, NONMETALS).astype(int) + np.isin(second, NONMETALS)
    actinide = np.isin(first, ACTINIDES) | np.isin(second, ACTINIDES)
    shortest = np.array([SHORTEST_METALS, SHORTEST_MIXED, SHORTEST_NONMETALS])[nonmetals]
    return np.where(actinide, SHORTEST_METALS, shortest)
