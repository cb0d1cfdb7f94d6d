"""The mean lattices in which pymatgen's StructureMatcher measures displacements, made for many cells at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice

from crystallm.crystal.matching.pairing import UNDECIDED

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Bases:
    """LLL-reduced bases, in which nearest images are looked for."""

    matrices: Array
    """(C, 3, 3)"""
    unit: Array
    """Differences of fractional coordinates (C, 3) that stol = 1 allows."""
    nearest_square: Array
    """Squared length (C,) below which a vector between two points is shorter than those to all other images."""
    moved: Mask
    """Where (C,) they are not the lattice's own."""
    inverses: Array
    """Matrices (C, 3, 3) that take fractional coordinates to these bases."""


class Frames:
    """Mean lattices in which displacements are measured, the different ones among M; `of` (M,) tells which."""

    def __init__(self, parameters: Array, n_sites: int) -> None:
        places: dict[bytes, int] = {}
        self.of = np.array([places.setdefault(row.tobytes(), len(places)) for row in parameters], dtype=np.intp)
        self._matrices = _matrices_of(parameters[np.unique(self.of, return_index=True)[1]])
        self.normalizations = (n_sites / np.abs(np.linalg.det(self._matrices))) ** (1 / 3)
        self.unit = _reciprocal_lengths(self._matrices) / (np.pi * self.normalizations[:, None])
        """Differences of fractional coordinates (F, 3) that stol = 1 allows."""
        reduced, self._shortest_square = _lll_reduced(self._matrices)
        self._to_do, self._moved = ~reduced, np.zeros(len(reduced), dtype=bool)
        self._reduced, self._reduced_unit = self._matrices.copy(), self.unit.copy()
        self._inverses = np.tile(np.eye(3), (len(reduced), 1, 1))

    def reduced(self, frame: Indices) -> Bases:
        """The LLL-reduced bases of some frames (C,)."""
        todo = np.unique(frame[self._to_do[frame]])
        if len(todo):
            for place in todo:
                lattice = Lattice(self._matrices[place])
                self._reduced[place], self._inverses[place] = lattice.lll_matrix, lattice.lll_inverse
            self._moved[todo] = (self._inverses[todo] != np.eye(3)).any(axis=(1, 2))
            self._reduced_unit[todo] = _reciprocal_lengths(self._reduced[todo]) / (
                np.pi * self.normalizations[todo, None]
            )
            self._shortest_square[todo] = _lll_reduced(self._reduced[todo])[1]
            self._to_do[todo] = False
        return Bases(
            self._reduced[frame],
            self._reduced_unit[frame],
            self._shortest_square[frame] * (0.25 - UNDECIDED),
            self._moved[frame],
            self._inverses[frame],
        )


def parameters_of_all(matrices: Array) -> Array:
    """Cell parameters (M, 6) of lattices (M, 3, 3).

    Sums in pymatgen's order: where two images of an atom are equally near, rounding decides what is found.
    """
    lengths = np.sqrt((matrices**2).sum(axis=2))
    products = (matrices[:, (1, 2, 0)] * matrices[:, (2, 0, 1)]).sum(axis=2)
    cosines = products / (lengths[:, (1, 2, 0)] * lengths[:, (2, 0, 1)])
    return np.concatenate([lengths, np.rad2deg(np.arccos(np.clip(cosines, -1, 1)))], axis=1)


def _matrices_of(parameters: Array) -> Array:
    """Lattices (F, 3, 3) of cell parameters (F, 6), as pymatgen's `Lattice.from_parameters` makes them."""
    a, b, c = parameters[:, :3].T
    radians = np.radians(parameters[:, 3:])
    cos_alpha, cos_beta, cos_gamma = np.cos(radians).T
    sin_alpha, sin_beta, _ = np.sin(radians).T
    star = np.arccos(np.clip((cos_alpha * cos_beta - cos_gamma) / (sin_alpha * sin_beta), -1, 1))
    zero = np.zeros_like(a)
    rows = [
        [a * sin_beta, zero, a * cos_beta],
        [-b * sin_alpha * np.cos(star), b * sin_alpha * np.sin(star), b * cos_alpha],
        [zero, zero, c],
    ]
    return np.ascontiguousarray(np.moveaxis(np.array(rows), 2, 0))


def _lll_reduced(matrices: Array) -> tuple[NDArray[np.bool_], Array]:
    """Which lattices (F, 3, 3) the LLL reduction (delta 0.75) leaves as they are, beyond any rounding error.

    Also a lower bound on the square of the shortest lattice vector (F,): the least norm after orthogonalisation.
    """
    first, second, third = (matrices[:, row] for row in range(3))

    def dot(one: Array, other: Array) -> Array:
        return np.asarray((one * other).sum(axis=1))

    norm_1 = dot(first, first)
    u_21, u_31 = dot(second, first) / norm_1, dot(third, first) / norm_1
    second_star = second - u_21[:, None] * first
    norm_2 = dot(second_star, second_star)
    u_32 = dot(third, second_star) / norm_2
    third_star = third - u_31[:, None] * first - u_32[:, None] * second_star
    norm_3 = dot(third_star, third_star)
    short = [np.abs(u) < 0.5 - UNDECIDED for u in (u_21, u_31, u_32)]
    ordered = [
        norm_2 >= (0.75 - u_21**2) * norm_1 + UNDECIDED * norm_1,
        norm_3 >= (0.75 - u_32**2) * norm_2 + UNDECIDED * norm_2,
    ]
    return np.asarray(np.logical_and.reduce([*short, *ordered])), np.minimum(np.minimum(norm_1, norm_2), norm_3)


def _reciprocal_lengths(matrices: Array) -> Array:
    """Lengths (F, 3) of the reciprocal bases, factor 2 pi included, in 1/angstrom."""
    return np.asarray(2 * np.pi * np.linalg.norm(np.linalg.inv(matrices), axis=1))
