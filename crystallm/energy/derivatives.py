"""Derivatives of an energy by what keeps the symmetry of a crystal, and the forces and stress that they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crystallm.energy.graph import BondGraph
from crystallm.energy.orbits import SymmetricCrystal


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
