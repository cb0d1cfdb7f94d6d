"""Derivatives of an energy by what keeps the symmetry of a crystal, and the forces and stress that they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from crystallm.energy.potentials.graph import BondGraph
from crystallm.energy.potentials.orbits import SymmetricCrystal
from crystallm.energy.potentials.protocol import NoEnergy, Potential


@dataclass(frozen=True, eq=False)
class Derivatives:
    """Energy in eV of the whole cell and its slopes.

    firsts: (A, 3) by the fractional coordinates of the first atom of each orbit, the others moving with it, in eV.
    strain: (3, 3) by strain in the Cartesian frame, in eV: volume times stress.
    """

    energy: float
    firsts: NDArray[np.float64]
    strain: NDArray[np.float64]

    def forces(self, crystal: SymmetricCrystal) -> NDArray[np.float64]:
        """Forces (N, 3) in eV/angstrom on all atoms of the cell."""
        inverse = np.linalg.inv(crystal.lattice)
        # A displacement of a first atom is one of all atoms of its orbit, which all gain the same.
        fractional = -self.firsts / crystal.multiplicities[:, None]
        on_all = np.einsum("nji,nj->ni", np.linalg.inv(crystal.rotations), fractional[crystal.orbit])
        return np.asarray(on_all @ inverse.T)


@runtime_checkable
class OrbitPotential(Protocol):
    """A potential that computes once what symmetry makes equal."""

    def derivatives(self, crystals: Sequence[SymmetricCrystal]) -> list[Derivatives | NoEnergy]:
        """Energies and derivatives of crystals, in order."""

    def energies_of_orbits(self, crystals: Sequence[SymmetricCrystal]) -> list[float | NoEnergy]:
        """Energies of crystals in eV/atom, in order."""


def from_edges(
    crystal: SymmetricCrystal,
    graph: BondGraph,
    vectors: NDArray[np.float64],
    slopes: NDArray[np.float64],
    energy: float,
) -> Derivatives:
    """Derivatives from those by the vectors of edges, slopes (K, 3) in eV/angstrom; energy in eV of the cell."""
    fractional = slopes @ crystal.lattice.T
    firsts = np.zeros((len(crystal.first), 3))
    ends = np.einsum("kji,kj->ki", crystal.rotations[graph.neighbor], fractional)
    np.add.at(firsts, crystal.orbit[graph.neighbor], ends)
    np.subtract.at(firsts, graph.center, fractional)
    return Derivatives(energy, crystal.symmetric_slopes(firsts), crystal.symmetric_strain(vectors.T @ slopes))


def from_forces(
    crystal: SymmetricCrystal, forces: NDArray[np.float64], strain: NDArray[np.float64], energy: float
) -> Derivatives:
    """Derivatives from forces (N, 3) in eV/angstrom on all atoms of the cell; energy and strain slope in eV."""
    fractional = -forces @ crystal.lattice.T
    firsts = np.zeros((len(crystal.first), 3))
    np.add.at(firsts, crystal.orbit, np.einsum("nji,nj->ni", crystal.rotations, fractional))
    return Derivatives(energy, crystal.symmetric_slopes(firsts), crystal.symmetric_strain(strain))


def derivatives_of(potential: Potential, crystals: Sequence[SymmetricCrystal]) -> list[Derivatives | NoEnergy]:
    """Energies and derivatives by a potential: by orbits where it can, else from the primitive cell."""
    if isinstance(potential, OrbitPotential):
        return potential.derivatives(crystals)
    return [_from_primitive(potential, crystal) for crystal in crystals]


def energies_of(potential: Potential, crystals: Sequence[SymmetricCrystal]) -> list[float | NoEnergy]:
    """Energies in eV/atom by a potential: by orbits where it can, else of the primitive cells."""
    if isinstance(potential, OrbitPotential):
        return potential.energies_of_orbits(crystals)
    return potential.energies([crystal.primitive[0] for crystal in crystals])


def _from_primitive(potential: Potential, crystal: SymmetricCrystal) -> Derivatives | NoEnergy:
    cell, atoms = crystal.primitive
    found = potential.evaluate(cell)
    if isinstance(found, NoEnergy):
        return found
    # What a translation of the centring takes into each other feels the same force.
    return from_forces(
        crystal,
        found.forces[atoms],
        found.stress * crystal.cell.volume,
        found.energy * len(crystal.numbers),
    )
