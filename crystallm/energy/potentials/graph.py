"""Bonds and angles of a crystal, one of each kind that symmetry makes equal, with how often it occurs.

A network of interatomic messages gives equal features to what symmetry makes equal. It is enough to compute them once
for each orbit of atoms, bonds and angles, and to count messages as often as they occur: the energy is the same, and so
is its derivative with respect to whatever keeps the symmetry.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crystallm.energy.potentials.orbits import SymmetricCrystal

BASE = 128
"""Lattice translations of neighbours are written with digits from -64 to 63."""

EDGE_SLACK = 1e-4
"""Angstrom beyond the cutoff up to which neighbours are looked for, so that equal bonds are found together."""


@dataclass(frozen=True, eq=False)
class BondGraph:
    """What messages pass between, by index; nothing here changes while atoms move and their neighbours stay.

    Edges (K) lead from the first atom of an orbit, `center`, to atom `neighbor` of the cell translated by `shift`.
    Bonds (U) are written by one edge each. Messages (D) pass to atoms along bonds; angles (T) lie between two edges of
    one center, and pass messages to the bond of the first.
    """

    center: NDArray[np.int64]
    neighbor: NDArray[np.int64]
    shift: NDArray[np.float64]
    bond_edge: NDArray[np.int64]
    """(U,) the edge that gives the length of a bond."""
    message_atom: NDArray[np.int64]
    """(D,) orbit that receives."""
    message_neighbor: NDArray[np.int64]
    message_bond: NDArray[np.int64]
    message_count: NDArray[np.int64]
    angle_atom: NDArray[np.int64]
    """(T,) orbit of the center."""
    angle_edges: NDArray[np.int64]
    """(T, 2)."""
    angle_bonds: NDArray[np.int64]
    """(T, 2)."""
    angle_count: NDArray[np.int64]
    edge_count: NDArray[np.int64]
    """(K,) how many edges of the center an edge stands for; 0 where another one does it."""
    isolated: int
    """Orbits without any neighbour."""

    def vectors(self, crystal: SymmetricCrystal) -> NDArray[np.float64]:
        """From the center of each edge to its neighbour (K, 3) in angstrom."""
        ends = crystal.positions[self.neighbor] + self.shift
        return np.asarray((ends - crystal.positions[crystal.first[self.center]]) @ crystal.lattice)


def bond_graph(crystal: SymmetricCrystal, *, bond_cutoff: float, angle_cutoff: float) -> BondGraph:
    """Bonds up to one distance, angles between bonds up to another, both in angstrom; see `BondGraph`."""
    center, neighbor, shift, length = _neighbours(crystal, bond_cutoff)
    kind = _Edges(crystal, center, neighbor, shift)
    table, operation, of_edge = kind.images_under_stabilisers()
    # Equal edges of one atom are written by the first of them.
    leader = np.arange(len(center))
    np.minimum.at(leader, of_edge, table)
    lead = np.flatnonzero(leader == np.arange(len(center)))
    count = np.bincount(leader, minlength=len(center))
    reverse = leader[kind.reversed(lead)]
    bond_of = np.full(len(center), -1)
    bond_edge = lead[lead <= reverse]
    bond_of[bond_edge] = np.arange(len(bond_edge))
    bond_of[lead] = np.where(bond_of[lead] >= 0, bond_of[lead], bond_of[np.minimum(lead, reverse)])
    bond_of = bond_of[leader]
    angles = _angles(center, lead, length < angle_cutoff, table, operation, of_edge)
    first, second, times = angles
    # A bond whose two directions are equal by symmetry receives what both of its ends send.
    both = np.full(len(center), 1)
    both[lead[reverse == lead]] = 2
    used = np.unique(np.concatenate([bond_edge, first, second]))
    place = np.full(len(center), -1)
    place[used] = np.arange(len(used))
    return BondGraph(
        center=center[used],
        neighbor=neighbor[used],
        shift=shift[used].astype(np.float64),
        bond_edge=place[bond_edge],
        message_atom=center[lead],
        message_neighbor=crystal.orbit[neighbor[lead]],
        message_bond=bond_of[lead],
        message_count=count[lead],
        angle_atom=center[first],
        angle_edges=np.stack([place[first], place[second]], axis=1),
        angle_bonds=np.stack([bond_of[first], bond_of[second]], axis=1),
        angle_count=times * both[first],
        edge_count=np.where(leader == np.arange(len(center)), count, 0)[used],
        isolated=len(crystal.first) - len(np.unique(center)),
    )


def _neighbours(
    crystal: SymmetricCrystal, cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Centers as orbits, neighbours as atoms, their translations, and lengths in angstrom, sorted."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    cartesian = crystal.positions @ crystal.lattice
    center, neighbor, images, length = find_points_in_spheres(
        np.ascontiguousarray(cartesian),
        np.ascontiguousarray(cartesian[crystal.first]),
        r=cutoff + EDGE_SLACK,
        pbc=np.ones(3, dtype=np.int64),
        lattice=np.ascontiguousarray(crystal.lattice),
        tol=1e-8,
    )
    others = np.flatnonzero((crystal.first[center] != neighbor) | (images != 0).any(axis=1))
    shift = images.astype(np.int64)
    order = others[np.argsort(_codes(center[others], neighbor[others], shift[others]))]
    return center[order], neighbor[order], shift[order], length[order]


def _codes(center: NDArray[np.int64], neighbor: NDArray[np.int64], shift: NDArray[np.int64]) -> NDArray[np.int64]:
    """A whole number for each edge."""
    digits = shift + BASE // 2
    code = (digits[..., 0] * BASE + digits[..., 1]) * BASE + digits[..., 2]
    return np.asarray((center * 4096 + neighbor) * BASE**3 + code)


class _Edges:
    """Edges from first atoms, sorted by their codes, and where operations put them."""

    def __init__(
        self,
        crystal: SymmetricCrystal,
        center: NDArray[np.int64],
        neighbor: NDArray[np.int64],
        shift: NDArray[np.int64],
    ) -> None:
        self.crystal, self.center, self.neighbor, self.shift = crystal, center, neighbor, shift
        self.codes = _codes(center, neighbor, shift)

    def images_under_stabilisers(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Images of edges under the operations that keep their center: (P,) image, operation and edge of each pair.

        The image of an edge at the very end of the range may not have been found; it counts as its own image.
        """
        crystal = self.crystal
        keeps = crystal.images[:, crystal.first] == crystal.first  # (G, A)
        operations = [np.flatnonzero(keeps[:, orbit]) for orbit in range(len(crystal.first))]
        sizes = np.array([len(found) for found in operations])[self.center]
        edge = np.repeat(np.arange(len(self.center)), sizes)
        operation = np.concatenate([operations[orbit] for orbit in self.center]) if len(edge) else edge
        if len(crystal.group_rotations) == 1:
            return edge, operation, edge
        atom, moved = self._apply(operation, self.neighbor[edge], self.shift[edge])
        origin = self.crystal.first[self.center[edge]]
        _, own = self._apply(operation, origin, np.zeros((len(edge), 3), dtype=np.int64))
        return self._find(self.center[edge], atom, moved - own, edge), operation, edge

    def reversed(self, edges: NDArray[np.int64]) -> NDArray[np.int64]:
        """The edge from the first atom of the neighbour's orbit that equals an edge taken backwards."""
        crystal = self.crystal
        neighbor = self.neighbor[edges]
        operation = crystal.operation[neighbor]
        center = crystal.first[self.center[edges]]
        # The operation that made the neighbour of the first atom of its orbit, undone.
        row = crystal.images[operation]
        atom = (row == center[:, None]).argmax(axis=1)
        _, shift = self._apply(operation, atom, np.zeros((len(edges), 3), dtype=np.int64))
        inverse = np.rint(np.linalg.inv(crystal.group_rotations))[operation]
        back = -np.einsum("eij,ej->ei", inverse, shift + self.shift[edges])
        return self._find(crystal.orbit[neighbor], atom, np.rint(back).astype(np.int64), edges)

    def _apply(
        self, operation: NDArray[np.int64], atom: NDArray[np.int64], shift: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where operations put atoms translated by shifts (P, 3): the atom, and its translation."""
        crystal = self.crystal
        image = crystal.images[operation, atom]
        rotation = crystal.group_rotations[operation]
        point = np.einsum("pij,pj->pi", rotation, crystal.positions[atom] + shift)
        apart = point + crystal.group_translations[operation] - crystal.positions[image]
        return image, np.rint(apart).astype(np.int64)

    def _find(
        self,
        center: NDArray[np.int64],
        neighbor: NDArray[np.int64],
        shift: NDArray[np.int64],
        otherwise: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        code = _codes(center, neighbor, shift)
        place = np.minimum(np.searchsorted(self.codes, code), len(self.codes) - 1)
        return np.asarray(np.where(self.codes[place] == code, place, otherwise))


def _angles(
    center: NDArray[np.int64],
    lead: NDArray[np.int64],
    short: NDArray[np.bool_],
    table: NDArray[np.int64],
    operation: NDArray[np.int64],
    of_edge: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of different short edges of one center, the first a leading one, and how often each occurs."""
    leads = lead[short[lead]]
    firsts, seconds = _pairs(center, leads, np.flatnonzero(short))
    if len(table) == len(center):  # the identity alone
        return firsts, seconds, np.ones(len(firsts), dtype=np.int64)
    # Operations that keep the first edge make second edges equal.
    where = np.full((int(operation.max()) + 1, len(center)), -1)
    where[operation, of_edge] = table
    keeping = where[:, leads] == leads
    which, lead_place = np.nonzero(keeping)
    base = len(center)
    smallest = np.full(len(firsts), base)
    starts = np.searchsorted(firsts, leads)
    sizes = np.searchsorted(firsts, leads, side="right") - starts
    repeats = sizes[lead_place]
    offset = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    pair = np.repeat(starts[lead_place], repeats) + offset
    np.minimum.at(smallest, pair, where[np.repeat(which, repeats), seconds[pair]])
    codes, counts = np.unique(firsts * base + smallest, return_counts=True)
    return codes // base, codes % base, counts


def _pairs(
    center: NDArray[np.int64], leads: NDArray[np.int64], short: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of a leading edge and another short edge of its center, sorted by the leading edge."""
    owner = center[short]
    starts = np.searchsorted(owner, center[leads])
    sizes = np.searchsorted(owner, center[leads], side="right") - starts
    first = np.repeat(leads, sizes)
    second = short[np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(starts, sizes)]
    different = first != second
    return first[different], second[different]
