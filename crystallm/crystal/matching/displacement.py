"""How far prepared crystals are from a true one: the rms displacement that pymatgen's StructureMatcher finds.

Every cell of a crystal that looks like the cell of the truth, and every way to lay the rarest element of one on that of
the other, is a candidate. The matcher judges them one by one; here all candidates of all samples of a target are judged
together, since numpy takes as long for one as for many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.matching.mean_lattices import Frames, parameters_of_all
from crystallm.crystal.matching.own_symmetry import is_first
from crystallm.crystal.matching.pairing import (
    CLEAR,
    OPEN,
    UNDECIDED,
    costs_of,
    near_pairs,
    nearest_partners,
    needed_stol,
)
from crystallm.crystal.matching.reduced_cells import points_in_sphere
from crystallm.crystal.matching.reduced_crystal import Prepared
from crystallm.crystal.matching.tolerances import Tolerances

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]

FORBIDDEN = 1e20
"""Cost of a pair of atoms that are too far apart; as pymatgen has it."""

AT_ONCE = 100_000
"""Pairs of atoms looked at together; more would leave the processor's cache."""


def rms_of(crystal: Prepared, truth: Prepared, tolerances: Tolerances) -> float | None:
    """Root mean square distance of matched atoms over (volume / atoms)^(1/3); None where the two do not match."""
    return rms_of_many([crystal], truth, [tolerances])[0][0]


def rms_of_many(
    crystals: Sequence[Prepared], truth: Prepared, tolerances: Sequence[Tolerances]
) -> list[list[float | None]]:
    """`rms_of` for each crystal under each of several tolerances, at little more than the cost of the widest.

    Where pymatgen stops at the first rms below 1e-5, this is the smallest there is.
    """
    found: list[list[float | None]] = [[None] * len(tolerances) for _ in crystals]
    alike: dict[bytes, list[int]] = {}
    for place, crystal in enumerate(crystals):
        if crystal.amounts == truth.amounts and len(crystal) == len(truth):
            alike.setdefault(crystal.numbers.tobytes(), []).append(place)
    for places in alike.values():
        some = [crystals[place] for place in places]
        mappings = _Mappings(some, truth, tolerances)
        if len(mappings.bases):
            best = _Candidates(some, truth, mappings).best([t.stol for t in tolerances])
            for place, values in zip(places, best, strict=True):
                found[place] = [float(v) if v < t.stol else None for v, t in zip(values, tolerances, strict=True)]
    return found


class _Mappings:
    """Bases of the lattices of crystals that look like that of the truth, each pair scaled to one volume.

    matrices (B, 3, 3) of the crystals and parameters (B, 6) of the truth as scaled; owner (M,): index of the crystal
    that a basis belongs to; bases (M, 3, 3), and whole (M, 3, 3): the same in vectors of its cell; within (T, M): which
    are within each of the tolerances.
    """

    def __init__(self, crystals: Sequence[Prepared], truth: Prepared, tolerances: Sequence[Tolerances]) -> None:
        ratios = np.array([(truth.lattice.volume / crystal.lattice.volume) ** (1 / 6) for crystal in crystals])
        self.matrices = np.array([crystal.lattice.matrix for crystal in crystals]) * ratios[:, None, None]
        self.parameters = parameters_of_all(truth.lattice.matrix / ratios[:, None, None])
        ltol, limit = max(t.ltol for t in tolerances), max(t.angle_tol for t in tolerances)
        radii = self.parameters[:, :3].max(axis=1) * (1 + ltol)
        points = [points_in_sphere(matrix, radius) for matrix, radius in zip(self.matrices, radii, strict=True)]
        fractions, cartesian, distances = (np.concatenate(column) for column in zip(*points, strict=True))
        owner = np.repeat(np.arange(len(crystals)), [len(found) for _, _, found in points])
        parameters = self.parameters[owner]
        ratio = distances[:, None] / parameters[:, :3]
        a, b, c = (np.flatnonzero(row) for row in ((ratio < 1 + ltol) & (ratio > 1 / (1 + ltol))).T)
        norms = np.sqrt((cartesian * cartesian).sum(axis=1))

        def off(left: Indices, right: Indices, which: int) -> Array:
            """How far the angles of pairs of vectors are off, in degrees."""
            cosines = (cartesian[left] * cartesian[right]).sum(axis=1) / norms[left] / norms[right]
            return np.asarray(np.abs(np.degrees(np.arccos(np.clip(cosines, -1, 1))) - parameters[left, 3 + which]))

        def near(left: Indices, right: Indices, which: int) -> Mask:
            """Pairs (L, R) of vectors of one crystal that enclose an angle within tolerance."""
            i, j = np.nonzero(owner[left][:, None] == owner[right])
            pairs = np.zeros((len(left), len(right)), dtype=bool)
            pairs[i, j] = off(left[i], right[j], which) <= limit
            return pairs

        i, j = np.nonzero(near(a, b, 2))
        pair, k = np.nonzero(near(a, c, 1)[i] & near(b, c, 0)[j])
        vectors = np.stack([a[i[pair]], b[j[pair]], c[k]], axis=1)
        vectors = vectors[np.abs(np.abs(np.linalg.det(fractions[vectors])) - 1) <= 0.5]
        self.owner, self.bases = owner[vectors[:, 0]], cartesian[vectors]
        self.whole = np.rint(fractions[vectors]).astype(np.int64)
        first, second, third = vectors.T
        angles = np.stack([off(second, third, 0), off(first, third, 1), off(first, second, 2)], axis=1)
        lengths = ratio[vectors, np.arange(3)]
        self.within = np.stack([_within(lengths, angles, t) for t in tolerances])


def _within(ratios: Array, angles: Array, tolerances: Tolerances) -> Mask:
    lengths = (ratios < 1 + tolerances.ltol) & (ratios > 1 / (1 + tolerances.ltol))
    return np.asarray(lengths.all(axis=1) & (angles <= tolerances.angle_tol).all(axis=1))


class _Candidates:
    """Ways to lay the truth on crystals of the same order of elements: a basis m, and a site p for the rarest element.

    Arrays of coordinates have the axis first, shape (3, C, N) for C candidates of N sites.
    """

    def __init__(self, crystals: Sequence[Prepared], truth: Prepared, mappings: _Mappings) -> None:
        self._owner, self._within, bases = mappings.owner, mappings.within, mappings.bases
        means = (parameters_of_all(bases) + mappings.parameters[self._owner]) / 2
        self._frames = Frames(means, len(truth))
        cartesian = np.matmul(np.array([crystal.positions for crystal in crystals]), mappings.matrices)
        positions_MN3 = np.matmul(cartesian[self._owner], np.linalg.inv(bases))
        positions_MN3 -= np.floor(positions_MN3)
        self._positions = np.ascontiguousarray(np.moveaxis(positions_MN3, 2, 0))
        self._truth = np.ascontiguousarray(truth.positions.T)
        same = truth.numbers[:, None] == crystals[0].numbers
        # The site of the rarest element, the first of those; laid on each such site of the crystal.
        self._anchor = int(same.sum(axis=1).argmin())
        self._partners = np.flatnonzero(same[self._anchor])
        self._others = np.ascontiguousarray(np.nonzero(same)[1])
        """Sites of the crystal (K,) with the element of each site of the truth, one after the other."""
        self._starts = np.concatenate([[0], np.cumsum(same.sum(axis=1))])
        self._n_crystals = len(crystals)
        self._different = np.ones((len(bases), len(self._partners)), dtype=bool)
        """Pairs of basis and partner but for those that the symmetry of a crystal makes of others."""
        for place, crystal in enumerate(crystals):
            own = np.flatnonzero(self._owner == place)
            if crystal.symmetry is not None and len(own):
                self._different[own] = is_first(crystal.symmetry, mappings.whole[own], self._partners)

    def best(self, stols: Sequence[float]) -> Array:
        """The smallest normalised rms (crystals, tolerances) below each stol; stol itself where there is none."""
        best = np.tile(np.array(stols), (self._n_crystals, 1))
        basis, place = np.nonzero(self._different)
        partner = self._partners[place]
        step = max(1, AT_ONCE // len(self._others))
        for start in range(0, len(basis), step):
            self._improve(best, basis[start : start + step], partner[start : start + step], stols)
        return best

    def _improve(self, best: Array, basis: Indices, partner: Indices, stols: Sequence[float]) -> None:
        """Lower `best` where a candidate is nearer: one in which every site gets a partner."""
        most, frame = max(stols), self._frames.of[basis]
        truth, sites = self._truth, (self._starts, self._others)
        unit = self._frames.unit[frame]
        needed = needed_stol(truth, self._positions, basis, partner, self._anchor, *sites, unit, most)
        kept = np.flatnonzero(needed <= most)
        if len(kept) == 0:
            return
        basis, partner, frame, unit, needed = basis[kept], partner[kept], frame[kept], unit[kept], needed[kept]
        positions = np.ascontiguousarray(self._positions[:, basis])
        shift = self._positions[:, basis, partner] - truth[:, self._anchor, None]
        laid = np.ascontiguousarray(truth[:, None] + shift[..., None])
        bases = self._frames.reduced(frame)
        if len(moved := np.flatnonzero(bases.moved)):
            inverses = bases.inverses[moved]
            laid[:, moved], positions[:, moved] = (_transformed(x[:, moved], inverses) for x in (laid, positions))
            unit[moved] = bases.unit[moved]
        pairs = Pairs(*near_pairs(laid, positions, *sites, unit, bases.matrices, bases.nearest_square, most))
        owner, scale = self._owner[basis], self._frames.normalizations[frame]
        for column, (stol, within) in enumerate(zip(stols, self._within[:, basis], strict=True)):
            possible = within & (needed <= stol)
            some = pairs.of((pairs.reaches <= stol) & possible[pairs.places[:, 0]])
            some.improve(best[:, column], owner, scale, len(truth[0]))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of sites that can be partners, as `pairing.near_pairs` finds them."""

    places: Indices
    reaches: Array
    vectors: Array
    squares: Array

    def of(self, which: Mask) -> Pairs:
        """Some of the pairs."""
        if which.all():
            return self
        return Pairs(self.places[which], self.reaches[which], self.vectors[:, which], self.squares[which])

    def improve(self, best: Array, owner: Indices, scale: Array, n_sites: int) -> None:
        """Lower the smallest rms of each crystal; candidate c belongs to the crystal owner[c], and its displacements
        are measured in units of 1 / scale[c].

        Sites are assigned at least total square. Where that is not clear at once, it is done only for candidates that
        can be nearer than what has been found.
        """
        # One layout in memory, so that the loop is compiled once, before any clock starts (`warm_up.py`).
        vectors = np.ascontiguousarray(self.vectors)
        states, bounds, nearest, least = nearest_partners(self.places, vectors, self.squares, len(owner), n_sites)
        clear, unclear = np.flatnonzero(states == CLEAR), np.flatnonzero(states == OPEN)
        np.minimum.at(best, owner[clear], self._rms(nearest[clear]) * scale[clear])
        least = np.sqrt(least) * scale * (1 - UNDECIDED)
        if not len(unclear):
            return
        from scipy.optimize import linear_sum_assignment  # takes longer to import than most comparisons

        for candidate in unclear[np.argsort(least[unclear])].tolist():
            if least[candidate] < best[owner[candidate]]:
                own = slice(bounds[candidate], bounds[candidate + 1])
                costs, numbers = costs_of(self.places[own], self.squares[own], n_sites, FORBIDDEN)
                chosen = numbers[linear_sum_assignment(costs)]
                if chosen.min() >= 0:
                    rms = self._rms(bounds[candidate] + chosen[None])[0] * scale[candidate]
                    best[owner[candidate]] = min(best[owner[candidate]], rms)

    def _rms(self, chosen: Indices) -> Array:
        """Root mean square (D,) of the displacements of chosen pairs (D, N) from their mean."""
        paired = self.vectors[:, chosen]
        paired -= (np.add.reduce(paired, axis=2) / paired.shape[2])[..., None]
        x, y, z = paired
        return np.asarray(np.sqrt(np.add.reduce(x * x + y * y + z * z, axis=1) / paired.shape[2]))


def _transformed(fractional: Array, inverses: Array) -> Array:
    """Fractional coordinates (3, C, N) in other bases, by matrices (C, 3, 3)."""
    return np.ascontiguousarray(np.moveaxis(np.matmul(np.moveaxis(fractional, 0, 2), inverses), 2, 0))
