"""What is judged before and after a potential gives a number: potentials answer for any arrangement of atoms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.cell import Cell
from crystallm.crystal.formulas.composition import symbol_of
from crystallm.energy.potentials.protocol import Evaluation, NoEnergy

SHORTEST_DISTANCE = 0.5
"""Angstrom; closer atoms are no crystal's, whatever they are (CDVAE)."""

SHORTEST_SHARE = 0.5
"""Least distance of two atoms as a share of the sum of their covalent radii (Cordero et al. 2008, in ASE).

1,799 measured and computed crystals of the corpus have no pair below 0.57."""

SMALLEST_VOLUME = 0.1
"""Cubic angstrom (CDVAE)."""

LARGEST_VOLUME_RATIO = 4.0
"""A crystal that swells or shrinks by more while relaxing has left the range that a potential was fitted to."""

LARGEST_FORCE = 10.0
"""eV/angstrom; a relaxation that ends with more has found no crystal."""

ENERGY_RANGE = (-25.0, 25.0)
"""eV/atom; formation from free atoms gives no element more than the 13 of tungsten."""


def judge_arrays(cell: Cell) -> NoEnergy | None:
    """Why a cell is none: no atoms, numbers that are not finite, no volume; None if it may be one."""
    if len(cell) == 0:
        return NoEnergy("no atoms")
    if not (np.isfinite(cell.lattice).all() and np.isfinite(cell.positions).all()):
        return NoEnergy("not finite", "a cell parameter or coordinate is not a finite number")
    if not cell.volume > SMALLEST_VOLUME:
        return NoEnergy("no volume", f"the cell holds {cell.volume:g} cubic angstrom")
    return None


def judge_elements(numbers: NDArray[np.int64], known: frozenset[int]) -> NoEnergy | None:
    """Why a potential fitted to some elements cannot answer, None if it can. numbers: atomic numbers."""
    unknown = sorted(set(numbers.tolist()) - known)
    if not unknown:
        return None
    return NoEnergy("element unknown to the potential", ", ".join(map(symbol_of, unknown)))


def judge_distances(
    first: NDArray[np.int64], second: NDArray[np.int64], lengths: NDArray[np.float64]
) -> NoEnergy | None:
    """Why atoms at these distances are too close, None if they are not.

    Args:
        first: Atomic numbers (K,) of one atom of each pair.
        second: Those of the other.
        lengths: Distances (K,) in angstrom.

    Returns:
        A reason if a pair is closer than 0.5 angstrom or than half the sum of its covalent radii.
    """
    if not len(lengths):
        return None
    from ase.data import covalent_radii

    least = np.maximum(SHORTEST_SHARE * (covalent_radii[first] + covalent_radii[second]), SHORTEST_DISTANCE)
    worst = int((lengths / least).argmin())
    if lengths[worst] >= least[worst]:
        return None
    names = f"{symbol_of(int(first[worst]))}-{symbol_of(int(second[worst]))}"
    return NoEnergy("atoms too close", f"{names} {lengths[worst]:.2f} A")


def judge_cell(cell: Cell) -> NoEnergy | None:
    """Why no potential should be asked about a cell: broken arrays, atoms too close; None if one may be."""
    if (broken := judge_arrays(cell)) is not None:
        return broken
    from pymatgen.optimization.neighbors import find_points_in_spheres

    cartesian = np.ascontiguousarray(cell.positions @ cell.lattice)
    reach = 3.0  # angstrom: above half the sum of the largest radii
    first, second, shift, lengths = find_points_in_spheres(
        cartesian, cartesian, r=reach, pbc=np.ones(3, dtype=np.int64), lattice=np.ascontiguousarray(cell.lattice)
    )
    pairs = (first != second) | (shift != 0).any(axis=1)
    return judge_distances(cell.numbers[first[pairs]], cell.numbers[second[pairs]], lengths[pairs])


def judge_relaxed(energy: float, largest_force: float) -> NoEnergy | None:
    """Why what a relaxation ends with is no crystal: energy in eV/atom, force in eV/angstrom; None if it may be one."""
    low, high = ENERGY_RANGE
    if not low < energy < high:
        return NoEnergy("energy out of range", f"{energy:.3g} eV/atom")
    if not largest_force < LARGEST_FORCE:
        return NoEnergy("forces out of range", f"{largest_force:.3g} eV/A")
    return None


def judge_evaluation(evaluation: Evaluation) -> Evaluation | NoEnergy:
    """The evaluation, or the reason why it is none: numbers that are not finite."""
    if not np.isfinite(evaluation.energy):
        return NoEnergy("energy is not finite")
    if not (np.isfinite(evaluation.forces).all() and np.isfinite(evaluation.stress).all()):
        return NoEnergy("forces are not finite")
    return evaluation
