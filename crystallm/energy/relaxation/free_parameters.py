"""What may change in a crystal while its space group stays: the free cell parameters and the free coordinates."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.cell import parameters_of
from crystallm.crystal.description import Description
from crystallm.crystal.wyckoff import space_group
from crystallm.energy.potentials.derivatives import Derivatives
from crystallm.energy.potentials.orbits import SymmetricCrystal, with_symmetry

DIGITS = 8
"""Decimals of a relaxed cell: below, lengths and angles that symmetry makes equal differ by rounding."""


@dataclass(frozen=True, eq=False)
class FreeParameters:
    """Coordinates of a crystal in the space of what its symmetry leaves free, all zero for the crystal given.

    The first K are strains of the lattice given, lattice = given @ (1 + sum of strain * basis); the others are
    displacements of first atoms in angstrom along directions of their own.
    """

    given: SymmetricCrystal
    strains: NDArray[np.float64]
    """(K, 3, 3) symmetric tensors that the group leaves as they are, orthonormal."""
    directions: NDArray[np.float64]
    """(F, 3) fractional displacement of a first atom for one angstrom along each direction."""
    orbit: NDArray[np.int64]
    """(F,) the orbit that each direction moves."""

    def __len__(self) -> int:
        return len(self.strains) + len(self.orbit)

    def strain(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Strain (3, 3) of the lattice given."""
        return np.asarray(np.tensordot(values[: len(self.strains)], self.strains, axes=1))

    def firsts(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fractional coordinates (A, 3) of the first atoms."""
        firsts = self.given.positions[self.given.first].copy()
        np.add.at(firsts, self.orbit, values[len(self.strains) :, None] * self.directions)
        return firsts

    def crystal(self, values: NDArray[np.float64]) -> SymmetricCrystal:
        """The crystal at the values (K + F,) of the parameters."""
        return self.given.moved(self.given.lattice @ (np.eye(3) + self.strain(values)), self.firsts(values))

    def slope(self, derivatives: Derivatives, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Derivative (K + F,) of the energy of the cell by the parameters, in eV and eV/angstrom."""
        of_strain = np.linalg.inv(np.eye(3) + self.strain(values)).T @ derivatives.strain
        return np.concatenate(
            [
                np.tensordot(self.strains, of_strain, axes=2),
                (derivatives.firsts[self.orbit] * self.directions).sum(axis=1),
            ]
        )


def free_parameters(crystal: SymmetricCrystal) -> FreeParameters:
    """The free parameters of a crystal: strains and displacements that every operation of its group leaves alone."""
    cartesian = crystal.lattice.T @ crystal.group_rotations @ np.linalg.inv(crystal.lattice.T)
    directions, orbits = [], []
    to_fractional = np.linalg.inv(crystal.lattice)
    for orbit, first in enumerate(crystal.first):
        mean = cartesian[crystal.images[:, first] == first].mean(axis=0)
        free = _kept(mean)
        directions.append(free @ to_fractional)
        orbits += [orbit] * len(free)
    return FreeParameters(
        given=crystal,
        strains=_strains(cartesian),
        directions=np.concatenate(directions),
        orbit=np.array(orbits, dtype=np.int64),
    )


def described(description: Description, parameters: FreeParameters, values: NDArray[np.float64]) -> Description:
    """The description at other values of the free parameters; group, letters and the origin stay."""
    group = space_group(description.space_group)
    crystal = parameters.crystal(values)
    moved = crystal.positions[crystal.first] - parameters.given.positions[parameters.given.first]
    moved[:, group.polar_axes] -= moved[0, group.polar_axes]
    sites = tuple(
        replace(site, free=tuple(_wrapped(np.array(site.free) + group.positions[site.letter].inverse @ shift)))
        for site, shift in zip(description.sites, moved, strict=True)
    )
    cell = tuple(round(value, DIGITS) for value in parameters_of(crystal.lattice))
    a, b, c, alpha, beta, gamma = cell
    return replace(description, cell=(a, b, c, alpha, beta, gamma), sites=sites)


def parameters_of_description(description: Description) -> FreeParameters:
    """The free parameters of a description."""
    return free_parameters(with_symmetry(description))


def _wrapped(values: NDArray[np.float64]) -> list[float]:
    wrapped = values - np.floor(values)
    wrapped[wrapped >= 1.0] = 0.0
    return [float(value) for value in wrapped]


def _kept(mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal directions (F, 3) that a mean of rotations (3, 3) leaves as they are."""
    if np.allclose(mean, np.eye(3)):
        return np.eye(3)
    values, vectors = np.linalg.eigh((mean + mean.T) / 2)
    return np.asarray(vectors[:, values > 0.5].T)


def _strains(cartesian: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal symmetric tensors (K, 3, 3) that rotations (G, 3, 3) leave as they are."""
    basis = np.zeros((6, 3, 3))
    for place, (row, column) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        basis[place, row, column] = basis[place, column, row] = 1.0 if row == column else np.sqrt(0.5)
    turned = np.einsum("gij,bjk,glk->bil", cartesian, basis, cartesian, optimize=True) / len(cartesian)
    mean = np.tensordot(basis, turned, axes=([1, 2], [1, 2]))
    values, vectors = np.linalg.eigh((mean + mean.T) / 2)
    return np.asarray(np.tensordot(vectors[:, values > 0.5].T, basis, axes=1))
