"""A first guess of how stiff a crystal is: springs between neighbours, weaker the longer they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crystallm.energy.potentials.graph import bond_graph
from crystallm.energy.relaxation.free_parameters import FreeParameters

REACH = 1.6
"""Springs reach so many times the sum of two covalent radii; beyond they are too weak to matter."""

STIFFNESS = 12.0
"""eV/angstrom^2 of a spring as long as the sum of two covalent radii."""

DECAY = 6.0
"""How fast springs get weaker with their length over that sum."""

ACROSS = 0.15
"""Stiffness across a spring as a share of that along it: angles resist, too."""

SOFTEST = 0.5
"""eV/angstrom^2 for each atom of an orbit, and eV/angstrom^3 of volume for strain: nothing is softer than a share."""


def spring_hessian(parameters: FreeParameters) -> NDArray[np.float64]:
    """Second derivative (P, P) of the energy of springs by the free parameters, in eV and angstrom.

    After the preconditioner of Packwood et al., J. Chem. Phys. 144, 164109 (2016), here with covalent radii.
    """
    from ase.data import covalent_radii

    crystal = parameters.given
    reach = REACH * 2 * float(covalent_radii[crystal.numbers].max())
    graph = bond_graph(crystal, bond_cutoff=reach, angle_cutoff=0.0)
    vectors = graph.vectors(crystal)
    lengths = np.linalg.norm(vectors, axis=1)
    start = crystal.first[graph.center]
    share = lengths / (covalent_radii[crystal.numbers[start]] + covalent_radii[crystal.numbers[graph.neighbor]])
    stiffness = STIFFNESS * np.exp(DECAY * (1 - np.maximum(share, 0.8))) * graph.edge_count
    stiffness = stiffness * crystal.multiplicities[graph.center] / 2
    jacobian = _vector_slopes(parameters, graph.center, graph.neighbor, vectors)
    along = np.einsum("ki,kip->kp", vectors / lengths[:, None], jacobian)
    hessian = (1 - ACROSS) * (along.T * stiffness) @ along
    hessian += ACROSS * np.einsum("k,kip,kiq->pq", stiffness, jacobian, jacobian, optimize=True)
    strains = len(parameters.strains)
    hessian[np.diag_indices(len(parameters))] += np.concatenate(
        [
            np.full(strains, 0.1 * SOFTEST * crystal.cell.volume),
            SOFTEST * crystal.multiplicities[parameters.orbit],
        ]
    )
    return np.asarray(hessian)


def _vector_slopes(
    parameters: FreeParameters,
    center: NDArray[np.int64],
    neighbor: NDArray[np.int64],
    vectors: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Derivative (K, 3, P) of vectors between atoms by the free parameters."""
    crystal = parameters.given
    strains = len(parameters.strains)
    slopes = np.zeros((len(vectors), 3, len(parameters)))
    slopes[:, :, :strains] = np.einsum("ki,pij->kjp", vectors, parameters.strains)
    for place, (orbit, direction) in enumerate(zip(parameters.orbit, parameters.directions, strict=True)):
        column = slopes[:, :, strains + place]
        moves = crystal.orbit[neighbor] == orbit
        column[moves] += crystal.rotations[neighbor[moves]] @ direction @ crystal.lattice
        column[center == orbit] -= direction @ crystal.lattice
    return slopes
