"""CHGNet without ASE and pymatgen's structures: bond graphs of orbits, many crystals in one pass."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crystallm.base.errors import ConfigError
from crystallm.crystal.cell import Cell
from crystallm.energy.potentials.chgnet_network import ANGLE_CUTOFF, BOND_CUTOFF, ChgnetNetwork, join
from crystallm.energy.potentials.derivatives import Derivatives, from_edges
from crystallm.energy.potentials.graph import BondGraph, bond_graph
from crystallm.energy.potentials.judgement import judge_arrays, judge_distances, judge_elements, judge_evaluation
from crystallm.energy.potentials.orbits import SymmetricCrystal, without_symmetry
from crystallm.energy.potentials.protocol import CHGNET, Evaluation, NoEnergy, identity

ELEMENTS = frozenset(range(1, 95)) - {84, 85, 86, 87, 88}
"""The 89 elements of MPtrj, on which CHGNet was trained: up to Pu without Po, At, Rn, Fr and Ra.

The network has rows for 94 elements and answers for those five with weights that nothing has trained."""

WEIGHTS = "pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar"

LARGEST_BATCH = 4096
"""Messages and angles in one pass; more would leave the processor's caches."""


class ChgnetPotential:
    """CHGNet 0.3.0 on one processor core.

    Raises:
        ConfigError: The installed chgnet does not hold these weights.
    """

    def __init__(self) -> None:
        self.name = identity(CHGNET)
        self._network = _network()

    def energies(self, cells: Sequence[Cell]) -> list[float | NoEnergy]:
        """Energies in eV/atom of cells as they are, in order."""
        return self.energies_of_orbits([without_symmetry(cell) for cell in cells])

    def evaluate(self, cell: Cell) -> Evaluation | NoEnergy:
        """Energy, forces and stress of a cell as it is."""
        crystal = without_symmetry(cell)
        (found,) = self.derivatives([crystal])
        if isinstance(found, NoEnergy):
            return found
        return judge_evaluation(Evaluation(found.energy / len(cell), found.forces(crystal), found.strain / cell.volume))

    def energies_of_orbits(self, crystals: Sequence[SymmetricCrystal]) -> list[float | NoEnergy]:
        """Energies in eV/atom, computed once for what symmetry makes equal."""
        prepared = [self._prepare(crystal) for crystal in crystals]
        found: list[float | NoEnergy] = [p if isinstance(p, NoEnergy) else np.nan for p in prepared]
        for places in _batches(prepared):
            chosen = [p for place in places if not isinstance(p := prepared[place], NoEnergy)]
            inputs = join([graph for graph, _ in chosen], *_orbits_of([crystals[place] for place in places]))
            energies = self._network.energies(inputs, np.concatenate([vectors for _, vectors in chosen]))
            for place, energy in zip(places, energies.tolist(), strict=True):
                finite = np.isfinite(energy)
                found[place] = energy / len(crystals[place].numbers) if finite else NoEnergy("energy is not finite")
        return found

    def derivatives(self, crystals: Sequence[SymmetricCrystal]) -> list[Derivatives | NoEnergy]:
        """Energies and derivatives by what keeps the symmetry, computed once for what symmetry makes equal."""
        prepared = [self._prepare(crystal) for crystal in crystals]
        found: list[Derivatives | NoEnergy] = [
            p if isinstance(p, NoEnergy) else NoEnergy("energy is not finite") for p in prepared
        ]
        for places in _batches(prepared):
            chosen = [p for place in places if not isinstance(p := prepared[place], NoEnergy)]
            inputs = join([graph for graph, _ in chosen], *_orbits_of([crystals[place] for place in places]))
            energies, slopes = self._network.gradients(inputs, np.concatenate([vectors for _, vectors in chosen]))
            of_crystals = np.split(slopes, np.cumsum(inputs.edges)[:-1])
            for place, (graph, vectors), energy, own in zip(places, chosen, energies, of_crystals, strict=True):
                if np.isfinite(energy) and np.isfinite(own).all():
                    found[place] = from_edges(crystals[place], graph, vectors, own, float(energy))
        return found

    def _prepare(self, crystal: SymmetricCrystal) -> tuple[BondGraph, NDArray[np.float64]] | NoEnergy:
        """The bond graph of a crystal and the vectors of its edges, or why the network is not asked."""
        broken = judge_arrays(crystal.cell) or judge_elements(crystal.numbers, ELEMENTS)
        if broken is not None:
            return broken
        graph = bond_graph(crystal, bond_cutoff=BOND_CUTOFF, angle_cutoff=ANGLE_CUTOFF)
        if graph.isolated:
            return NoEnergy("isolated atoms", f"nothing within {BOND_CUTOFF:g} A of {graph.isolated} sites")
        vectors = graph.vectors(crystal)
        ends = crystal.numbers[crystal.first[graph.center]], crystal.numbers[graph.neighbor]
        close = judge_distances(*ends, np.linalg.norm(vectors, axis=1))
        return (graph, vectors) if close is None else close


def _orbits_of(crystals: Sequence[SymmetricCrystal]) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    return [c.numbers[c.first] for c in crystals], [c.multiplicities for c in crystals]


def _batches(prepared: Sequence[tuple[BondGraph, NDArray[np.float64]] | NoEnergy]) -> Iterator[list[int]]:
    """Places of graphs that go through the network together, in order."""
    places: list[int] = []
    size = 0
    for place, found in enumerate(prepared):
        if isinstance(found, NoEnergy):
            continue
        own = len(found[0].message_atom) + len(found[0].angle_atom)
        if places and size + own > LARGEST_BATCH:
            yield places
            places, size = [], 0
        places.append(place)
        size += own
    if places:
        yield places


def _network() -> ChgnetNetwork:
    """The network with the weights that lie in the installed chgnet, which itself is not imported."""
    import torch

    found = importlib.util.find_spec("chgnet")
    path = Path(found.origin or "").parent / WEIGHTS if found else Path(WEIGHTS)
    if not path.is_file():
        raise ConfigError(f"the installed chgnet has no {WEIGHTS}; install chgnet 0.4")
    return ChgnetNetwork(torch.load(path, map_location="cpu", weights_only=True)["model"]["state_dict"])
