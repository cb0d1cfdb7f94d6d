"""Whether a crystal has no symmetry but that of the space group it is written in, decided fast where it is clear.

The group that a crystal was built in is part of its symmetry, so it is the whole of it if there are no more operations
than it has. These are counted, which is one loop over rotations of the lattice and pairs of atoms, at a tolerance wider
than that of the symmetry finders, and if that gives more, at a narrower one; only between the two a finder is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import spglib
from numpy.typing import NDArray

from crystallm.base.compiling import compiled
from crystallm.crystal.cell import Cell
from crystallm.crystal.symmetry import SYMPREC_ANGSTROM, has_space_group
from crystallm.crystal.wyckoff import space_group

WIDER, NARROWER = 2.0, 0.5
"""Tolerances in units of that of the symmetry finders."""

PRIMITIVE = {
    "P": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "A": ((1, 0, 0), (0, 1 / 2, 1 / 2), (0, -1 / 2, 1 / 2)),
    "C": ((1 / 2, -1 / 2, 0), (1 / 2, 1 / 2, 0), (0, 0, 1)),
    "I": ((-1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (1 / 2, 1 / 2, -1 / 2)),
    "F": ((0, 1 / 2, 1 / 2), (1 / 2, 0, 1 / 2), (1 / 2, 1 / 2, 0)),
    "R": ((2 / 3, 1 / 3, 1 / 3), (-1 / 3, 1 / 3, 1 / 3), (-1 / 3, -2 / 3, 1 / 3)),
}
"""Vectors of a primitive cell in those of the conventional one, by the letter of the centring (R on hexagonal axes,
obverse)."""


def is_written_in(cell: Cell, number: int) -> bool:
    """The verdict of `symmetry.has_space_group` on a crystal built in a space group, found without a symmetry finder
    where the crystal is clearly more symmetrical than that, or clearly not.

    cell: conventional, in the standard setting, built by the operations of the group.
    """
    verdict = has_more_operations(cell, number)
    return has_space_group(cell, number) if verdict is None else not verdict


def has_more_operations(cell: Cell, number: int) -> bool | None:
    """Whether a crystal built in a space group has operations that are not of the group; None if it is not clear."""
    primitive = _primitive(number)
    n_operations = primitive.n_operations
    lattice, positions = primitive.basis @ cell.lattice, cell.positions @ primitive.inverse
    if not primitive.is_reduced:
        # Niggli's reduced cell: rotations that keep it are matrices of -1, 0 and 1.
        try:
            reduced = spglib.niggli_reduce(lattice)
        except spglib.SpglibError:
            return None
        if reduced is None:  # the same in older releases
            return None
        lattice, positions = reduced, positions @ lattice @ np.linalg.inv(reduced)
    n_atoms = len(cell.numbers) * n_operations // len(space_group(number).rotations)

    def count(factor: float) -> int:
        tolerance = factor * SYMPREC_ANGSTROM
        return count_operations(lattice, positions, cell.numbers, n_atoms, tolerance, n_operations)

    if count(WIDER) == n_operations:
        return False
    return True if count(NARROWER) > n_operations else None


@dataclass(frozen=True, eq=False)
class Primitive:
    """A primitive basis (3, 3) of a space group in vectors of the conventional one, and its inverse."""

    basis: NDArray[np.float64]
    inverse: NDArray[np.float64]
    is_reduced: bool
    """Whether rotations that keep the lattice are matrices of -1, 0 and 1 in this basis, whatever the cell: those of an
    orthogonal lattice change the signs and places of its vectors, those of a hexagonal or cubic one are its own."""
    n_operations: int
    """Operations up to lattice translations."""


@cache
def _primitive(number: int) -> Primitive:
    group = space_group(number)
    basis = np.array(PRIMITIVE[group.symbol[0]], dtype=np.float64)
    is_plain = group.symbol[0] == "P" and group.crystal_system not in ("triclinic", "monoclinic")
    is_reduced = is_plain or group.crystal_system == "cubic"
    n_operations = len(group.rotations) // group.centring_order
    return Primitive(basis, np.asarray(np.linalg.inv(basis), dtype=np.float64), is_reduced, n_operations)


@compiled
def count_operations(lattice: Any, positions: Any, numbers: Any, n_atoms: Any, tolerance: Any, enough: Any) -> int:
    """How many operations map a crystal onto itself, up to lattice translations; the count ends beyond `enough`.

    lattice: reduced, rows in angstrom. positions (N, 3): fractional, of at least one of each of the `n_atoms` atoms of
    its cell. tolerance: by which lattice vectors and atoms may miss, angstrom. -1 where the atoms are not that many.
    """
    # One atom of each set that differs by lattice vectors.
    atoms, kinds = np.empty((n_atoms, 3)), np.empty(n_atoms, np.int64)
    found = 0
    for n in range(len(positions)):
        known = False
        for m in range(found):
            if kinds[m] == numbers[n]:
                square = 0.0
                for axis in range(3):
                    offset = positions[n, axis] - atoms[m, axis]
                    square += (offset - np.rint(offset)) ** 2
                known |= square < SAME_ATOM
        if not known:
            if found == n_atoms:
                return -1
            for axis in range(3):
                atoms[found, axis] = positions[n, axis]
            kinds[found] = numbers[n]
            found += 1
    if found < n_atoms:
        return -1
    # Of the rarest kind one atom is followed: it must come to stand on one of them.
    first, fewest = 0, n_atoms + 1
    for n in range(n_atoms):
        alike = 0
        for m in range(n_atoms):
            alike += kinds[m] == kinds[n]
        if alike < fewest:
            first, fewest = n, alike
    # Lattice vectors as long as each of the three.
    metric = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for axis in range(3):
                metric[i, j] += lattice[i, axis] * lattice[j, axis]
    vectors = np.empty((3, 26, 3))
    n_vectors = np.zeros(3, np.int64)
    for a in range(-1, 2):
        for b in range(-1, 2):
            for c in range(-1, 2):
                square = 0.0
                for axis in range(3):
                    square += (a * lattice[0, axis] + b * lattice[1, axis] + c * lattice[2, axis]) ** 2
                length = np.sqrt(square)
                for axis in range(3):
                    if abs(length - np.sqrt(metric[axis, axis])) < tolerance and length > tolerance:
                        vectors[axis, n_vectors[axis], 0] = a
                        vectors[axis, n_vectors[axis], 1] = b
                        vectors[axis, n_vectors[axis], 2] = c
                        n_vectors[axis] += 1
    count = 0
    turned, moved, shift = np.empty((3, 3)), np.empty((n_atoms, 3)), np.empty(3)
    for i in range(n_vectors[0]):
        _set(turned, 0, vectors, i)
        for j in range(n_vectors[1]):
            _set(turned, 1, vectors, j)
            if not _as_far_apart(turned, 0, 1, metric, tolerance):
                continue
            for k in range(n_vectors[2]):
                _set(turned, 2, vectors, k)
                if not _as_far_apart(turned, 0, 2, metric, tolerance):
                    continue
                if not _as_far_apart(turned, 1, 2, metric, tolerance):
                    continue
                if abs(abs(_determinant(turned)) - 1) > 0.5:
                    continue
                for n in range(n_atoms):
                    for axis in range(3):
                        moved[n, axis] = (
                            atoms[n, 0] * turned[0, axis]
                            + atoms[n, 1] * turned[1, axis]
                            + atoms[n, 2] * turned[2, axis]
                        )
                for target in range(n_atoms):
                    if kinds[target] == kinds[first]:
                        for axis in range(3):
                            shift[axis] = atoms[target, axis] - moved[first, axis]
                        if _maps(moved, shift, atoms, kinds, lattice, tolerance):
                            count += 1
                            if count > enough:
                                return count
    return count


SAME_ATOM = 1e-8
"""Squared difference of fractional coordinates below which two atoms differ by a lattice vector: rounding."""


@compiled
def _set(turned: Any, place: Any, vectors: Any, which: Any) -> None:
    """Let a vector be one of those as long as it. Loops, here and above: numba compiles them far faster than arrays."""
    for axis in range(3):
        turned[place, axis] = vectors[place, which, axis]


@compiled
def _as_far_apart(turned: Any, i: Any, j: Any, metric: Any, tolerance: Any) -> bool:
    """Whether the ends of two turned vectors are as far apart as those of the vectors themselves."""
    square = 0.0
    for a in range(3):
        for b in range(3):
            square += (turned[i, a] - turned[j, a]) * metric[a, b] * (turned[i, b] - turned[j, b])
    before = np.sqrt(max(metric[i, i] + metric[j, j] - 2 * metric[i, j], 0.0))
    return bool(abs(np.sqrt(max(square, 0.0)) - before) < tolerance)


@compiled
def _determinant(m: Any) -> float:
    return float(
        m[0, 0] * (m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1])
        - m[0, 1] * (m[1, 0] * m[2, 2] - m[1, 2] * m[2, 0])
        + m[0, 2] * (m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0])
    )


@compiled
def _maps(moved: Any, shift: Any, atoms: Any, kinds: Any, lattice: Any, tolerance: Any) -> bool:
    """Whether each moved atom comes to stand on one of its kind."""
    for n in range(len(moved)):
        lands = False
        for m in range(len(atoms)):
            if kinds[m] != kinds[n]:
                continue
            x = moved[n, 0] + shift[0] - atoms[m, 0]
            y = moved[n, 1] + shift[1] - atoms[m, 1]
            z = moved[n, 2] + shift[2] - atoms[m, 2]
            x, y, z = x - np.rint(x), y - np.rint(y), z - np.rint(z)
            square = 0.0
            for axis in range(3):
                square += (x * lattice[0, axis] + y * lattice[1, axis] + z * lattice[2, axis]) ** 2
            if square < tolerance**2:
                lands = True
                break
        if not lands:
            return False
    return True
