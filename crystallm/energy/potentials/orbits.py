"""A crystal as orbits of a space group: one atom of each, and the operations that make the others of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.cell import Cell, lattice_from_parameters
from crystallm.crystal.description import Description
from crystallm.crystal.formulas.composition import element_order
from crystallm.crystal.wyckoff import REPEAT_STEPS, SpaceGroup, space_group

GENERIC = np.array([0.1327, 0.2719, 0.3941])
"""Free coordinates that put a site on no position of higher symmetry than its own."""


@dataclass(frozen=True, eq=False)
class SymmetricCrystal:
    """All atoms of a cell, each made of the first atom of its orbit by an operation of the group.

    lattice: (3, 3) rows in angstrom. positions: (N, 3) fractional, not wrapped: `rotations[j] @ first +
    translations[j]` exactly. numbers: (N,). orbit: (N,) index of the orbit of each atom. first: (A,) the atom that
    stands for each orbit. rotations: (N, 3, 3). operation: (N,) index of that operation in the group.
    """

    lattice: NDArray[np.float64]
    positions: NDArray[np.float64]
    numbers: NDArray[np.int64]
    orbit: NDArray[np.int64]
    first: NDArray[np.int64]
    rotations: NDArray[np.float64]
    operation: NDArray[np.int64]
    group_rotations: NDArray[np.float64]
    """(G, 3, 3): all operations of the group, the identity among them."""
    group_translations: NDArray[np.float64]
    """(G, 3)."""
    images: NDArray[np.int64]
    """(G, N): the atom on which an operation puts an atom, lattice translations left out."""

    @property
    def multiplicities(self) -> NDArray[np.int64]:
        """Atoms of each orbit, shape (A,)."""
        return np.bincount(self.orbit, minlength=len(self.first))

    @property
    def cell(self) -> Cell:
        """The cell with all its atoms."""
        return Cell(self.lattice, self.positions, self.numbers)

    @property
    def primitive(self) -> tuple[Cell, NDArray[np.int64]]:
        """A primitive cell, and for each atom (N,) of the whole cell the one of the primitive cell that it repeats."""
        centring = (self.group_rotations == np.eye(3)).all(axis=(1, 2))
        lowest = self.images[centring].min(axis=0)
        kept, place = np.unique(lowest, return_inverse=True)
        basis = _primitive_basis(self.group_translations[centring])
        cell = Cell(basis @ self.lattice, self.positions[kept] @ np.linalg.inv(basis), self.numbers[kept])
        return cell, place

    def moved(self, lattice: NDArray[np.float64], firsts: NDArray[np.float64]) -> SymmetricCrystal:
        """The crystal with another lattice (3, 3) and its first atoms displaced to fractional coordinates (A, 3)."""
        shift = firsts - self.positions[self.first]
        positions = self.positions + np.einsum("nij,nj->ni", self.rotations, shift[self.orbit])
        return replace(self, lattice=lattice, positions=positions)

    def symmetric_slopes(self, firsts: NDArray[np.float64]) -> NDArray[np.float64]:
        """The part of slopes (A, 3) by coordinates of first atoms that keeps each on its position."""
        if len(self.group_rotations) == 1:
            return firsts
        keeps = self.images[:, self.first] == self.first  # (G, A)
        mean = (
            np.einsum("ga,gij->aij", keeps.astype(np.float64), self.group_rotations) / keeps.sum(axis=0)[:, None, None]
        )
        return np.asarray(np.einsum("aji,aj->ai", mean, firsts))

    def symmetric_strain(self, strain: NDArray[np.float64]) -> NDArray[np.float64]:
        """The part (3, 3) of a tensor in the Cartesian frame that the group leaves as it is, made symmetric."""
        strain = (strain + strain.T) / 2
        if len(self.group_rotations) == 1:
            return strain
        cartesian = self.lattice.T @ self.group_rotations @ np.linalg.inv(self.lattice.T)
        return np.asarray((cartesian @ strain @ cartesian.transpose(0, 2, 1)).mean(axis=0))


def without_symmetry(cell: Cell) -> SymmetricCrystal:
    """A cell in which every atom is an orbit of its own."""
    count = len(cell)
    every = np.arange(count)
    return SymmetricCrystal(
        lattice=cell.lattice,
        positions=cell.positions,
        numbers=cell.numbers,
        orbit=every,
        first=every,
        rotations=np.broadcast_to(np.eye(3), (count, 3, 3)),
        operation=np.zeros(count, dtype=np.int64),
        group_rotations=np.eye(3)[None],
        group_translations=np.zeros((1, 3)),
        images=every[None],
    )


def with_symmetry(description: Description) -> SymmetricCrystal:
    """The conventional cell of a description, its orbits in the order of the sites."""
    group = space_group(description.space_group)
    positions, rotations, operations, images, numbers, counts = [], [], [], [], [], []
    start = 0
    for site in description.sites:
        which, permutation = orbit_table(group.number, site.letter)
        point = group.positions[site.letter].point(site.free)
        positions.append(group.rotations[which] @ point + group.translations[which])
        rotations.append(group.rotations[which])
        operations.append(which)
        images.append(permutation + start)
        numbers.append(np.full(len(which), element_order(site.element)[1]))
        counts.append(len(which))
        start += len(which)
    ends = np.cumsum(counts)
    return SymmetricCrystal(
        lattice=lattice_from_parameters(description.cell),
        positions=np.concatenate(positions),
        numbers=np.concatenate(numbers),
        orbit=np.repeat(np.arange(len(counts)), counts),
        first=ends - np.array(counts),
        rotations=np.concatenate(rotations),
        operation=np.concatenate(operations),
        group_rotations=group.rotations,
        group_translations=group.translations,
        images=np.concatenate(images, axis=1),
    )


@cache
def orbit_table(number: int, letter: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Operations (M,) that make the M points of a Wyckoff position of its representative, the identity first, and
    (G, M) the point on which each of the G operations of the group puts each of them."""
    group: SpaceGroup = space_group(number)
    position = group.positions[letter]
    point = position.point(GENERIC[list(position.free_axes)])
    codes = _codes(group.rotations @ point + group.translations)
    _, which = np.unique(codes, return_index=True)
    which = np.sort(which)
    points = group.rotations[which] @ point + group.translations[which]
    moved = np.einsum("gij,mj->gmi", group.rotations, points) + group.translations[:, None]
    known = _codes(points)
    order = np.argsort(known)
    return which, order[np.searchsorted(known[order], _codes(moved))]


def _primitive_basis(centring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows (3, 3) that span the lattice of centring translations (C, 3), in units of the conventional cell."""
    if len(centring) == 1:
        return np.eye(3)
    grid = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    shifts = centring - np.rint(centring)
    points = (shifts[:, None] + grid).reshape(-1, 3)
    order = np.lexsort((*(-points.T[::-1]), np.round((points**2).sum(axis=1), 9)))
    for rows in combinations(points[order][1:24], 3):
        if abs(np.linalg.det(rows) * len(centring) - 1) < 1e-6:
            return np.array(rows)
    raise AssertionError(f"no primitive basis for {centring.tolist()}")


def _codes(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """A whole number for each point (..., 3), the same for points that differ by a lattice translation."""
    steps = np.rint(points * REPEAT_STEPS).astype(np.int64) % REPEAT_STEPS
    return np.asarray((steps[..., 0] * REPEAT_STEPS + steps[..., 1]) * REPEAT_STEPS + steps[..., 2])
