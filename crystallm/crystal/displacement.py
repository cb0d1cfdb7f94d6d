"""How far prepared crystals are from a true one: the rms displacement that pymatgen's StructureMatcher finds.

Every cell of a crystal that looks like the cell of the truth, and every way to lay the rarest element of one on that of
the other, is a candidate. The matcher judges them one by one; here all candidates of all samples of a target are judged
together, since numpy takes as long for one as for many.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from crystallm.crystal.mean_lattices import UNDECIDED, Bases, Frames, parameters_of_all
from crystallm.crystal.prepared import Prepared, Tolerances
from crystallm.crystal.reduction import points_in_sphere

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]

FORBIDDEN = 1e20
"""Cost of a pair of atoms that are too far apart; as pymatgen has it."""

AT_ONCE = 100_000
"""Pairs of atoms looked at together; more would leave the processor's cache."""

IMAGES = np.array([(i, j, k) for i in (-1.0, 0.0, 1.0) for j in (-1.0, 0.0, 1.0) for k in (-1.0, 0.0, 1.0)])
"""Neighbouring cells (27, 3), in pymatgen's order: of two equally near images the first is taken."""


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
    that a basis belongs to; bases (M, 3, 3); within (T, M): which are within each of the tolerances.
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
        self._truth = truth.positions.T
        same = truth.numbers[:, None] == crystals[0].numbers
        # The site of the rarest element, the first of those; laid on each such site of the crystal.
        self._anchor = int(same.sum(axis=1).argmin())
        self._partners = np.flatnonzero(same[self._anchor])
        self._one, self._other = np.nonzero(same)
        """Pairs (K,) of sites of one element, of the truth and of the crystal; in order of the former."""
        self._starts = np.flatnonzero(np.diff(self._one, prepend=-1))
        self._n_crystals = len(crystals)

    def best(self, stols: Sequence[float]) -> Array:
        """The smallest normalised rms (crystals, tolerances); infinite where nothing matches."""
        best = np.full((self._n_crystals, len(stols)), np.inf)
        n_bases = len(self._owner)
        basis, partner = np.repeat(np.arange(n_bases), len(self._partners)), np.tile(self._partners, n_bases)
        step = max(1, AT_ONCE // len(self._one))
        for start in range(0, len(basis), step):
            some = slice(start, start + step)
            for column, (which, values) in enumerate(self._rms(basis[some], partner[some], stols)):
                np.minimum.at(best[:, column], self._owner[which], values)
        return best

    def _rms(self, basis: Indices, partner: Indices, stols: Sequence[float]) -> list[tuple[Indices, Array]]:
        """For each stol the bases of the candidates in which every site gets a partner, and their normalised rms."""
        positions = self._positions[:, basis]
        shift = self._positions[:, basis, partner] - self._truth[:, self._anchor, None]
        laid = self._truth[:, None] + shift[..., None]
        frame = self._frames.of[basis]
        reach = self._reach(laid, positions, self._frames.unit[frame])
        # From this stol (C,) on every site of the truth has some partner.
        needed = np.minimum.reduceat(reach, self._starts, axis=1).max(axis=1)
        kept = np.flatnonzero(needed <= max(stols))
        if len(kept) == 0:
            return []
        if len(kept) < len(frame):
            basis, frame, reach, needed = basis[kept], frame[kept], reach[kept], needed[kept]
            laid, positions = laid[:, kept], positions[:, kept]
        bases = self._frames.reduced(frame)
        if len(moved := np.flatnonzero(bases.moved)):
            inverses = bases.inverses[moved]
            laid[:, moved], positions[:, moved] = (_transformed(x[:, moved], inverses) for x in (laid, positions))
            reach[moved] = self._reach(laid[:, moved], positions[:, moved], bases.unit[moved])
        which, pair = np.nonzero(reach <= max(stols))
        one, other, reach_of = self._one[pair], self._other[pair], reach[which, pair]
        vectors, squares = _shortest(laid % 1, positions % 1, bases, which, one, other)
        found = []
        for stol, within in zip(stols, self._within[:, basis], strict=True):
            some = np.flatnonzero((reach_of <= stol) & (within & (needed <= stol))[which])
            sets, chosen = _assigned(which[some], one[some], other[some], squares[some], laid.shape[1:])
            paired = vectors[:, some[chosen]]
            paired -= (np.add.reduce(paired, axis=2) / paired.shape[2])[..., None]
            means = np.add.reduce(_squares(paired), axis=1) / paired.shape[2]
            found.append((basis[sets], np.sqrt(means) * self._frames.normalizations[frame[sets]]))
        return found

    def _reach(self, laid: Array, positions: Array, unit: Array) -> Array:
        """stol from which on pairs (C, K) of sites, images included, are near each other along each axis.

        unit: differences of fractional coordinates (C, 3) that stol = 1 allows.
        """
        reach: Array | None = None
        for axis in range(3):
            difference = laid[axis][:, self._one]
            difference -= positions[axis][:, self._other]
            difference -= np.rint(difference)
            np.abs(difference, out=difference)
            difference /= unit[:, axis, None]
            reach = difference if reach is None else np.maximum(reach, difference, out=reach)
        assert reach is not None
        return reach


def _assigned(
    which: Indices, one: Indices, other: Indices, squares: Array, shape: tuple[int, ...]
) -> tuple[Indices, Indices]:
    """The sets that can be assigned (D,), and the pairs that assign each of their sites (D, N) at least total square.

    Pairs (S,) of a site `one` with a site `other` in set `which`, in order of set and site; shape: sets C, sites N.
    """
    n_sets, n_sites = shape
    starts = np.flatnonzero(np.diff(which * n_sites + one, prepend=-1))
    full = np.bincount(which[starts], minlength=n_sets) == n_sites
    least = np.minimum.reduceat(squares, starts)
    lengths = np.diff(starts, append=len(which))
    lowest = np.flatnonzero(squares <= np.repeat(least * (1 + UNDECIDED) + UNDECIDED**2, lengths))
    # Where the nearest partners of all sites differ, they are the assignment; `clear` if none is as near as another.
    clear = full & (np.bincount(which[lowest], minlength=n_sets) == n_sites)
    taken = np.bincount(which[lowest] * n_sites + other[lowest], minlength=n_sets * n_sites).reshape(n_sets, n_sites)
    clear &= (taken == 1).all(axis=1)
    sets, chosen = [np.flatnonzero(clear)], [lowest[clear[which[lowest]]].reshape(-1, n_sites)]
    for place in np.flatnonzero(full & ~clear):
        start, stop = np.searchsorted(which, [place, place + 1])
        found = _assign(one[start:stop], other[start:stop], squares[start:stop], n_sites)
        if found is not None:
            sets.append(np.array([place]))
            chosen.append(start + found[None])
    return np.concatenate(sets), np.concatenate(chosen)


def _assign(one: Indices, other: Indices, squares: Array, n_sites: int) -> Indices | None:
    """The pairs (one, other) that give each site its partner at least total squared distance; None if none do."""
    costs = np.full((n_sites, n_sites), FORBIDDEN)
    number = np.full((n_sites, n_sites), -1, dtype=np.intp)
    costs[one, other] = squares
    number[one, other] = np.arange(len(one))
    chosen = number[linear_sum_assignment(costs)]
    return chosen if chosen.min() >= 0 else None


def _shortest(
    laid: Array, positions: Array, bases: Bases, which: Indices, one: Indices, other: Indices
) -> tuple[Array, Array]:
    """Shortest vectors (3, S) from sites `one` to the images of sites `other` in sets `which`, and their squares (S,).

    What pymatgen's compiled code finds, which looks at the 27 nearest cells and takes the first of equals. Coordinates
    (3, C, N) are fractional, in 0 to 1.
    """
    apart = positions[:, which, other] - laid[:, which, one]
    plain = _cartesian(positions, bases.matrices)[:, which, other] - _cartesian(laid, bases.matrices)[:, which, one]
    images = _cartesian(IMAGES.T[:, None], bases.matrices)
    place = 13 - np.rint(apart).astype(np.intp).T @ (9, 3, 1)
    vectors = plain + images[:, which, place]
    squares = _squares(vectors)
    # Every other image is at least a shortest lattice vector away from this one.
    unsure = np.flatnonzero(squares >= bases.nearest_square[which])
    if len(unsure):
        few = plain[:, unsure, None] + images[:, which[unsure]]
        squares_of = _squares(few)
        nearest = squares_of.argmin(axis=1)
        row = np.arange(len(unsure))
        vectors[:, unsure], squares[unsure] = few[:, row, nearest], squares_of[row, nearest]
    return vectors, squares


def _squares(vectors: Array) -> Array:
    """Squared lengths of vectors (3, ...)."""
    x, y, z = vectors
    return np.asarray(x * x + y * y + z * z)


def _cartesian(fractional: Array, matrices: Array) -> Array:
    """Cartesian coordinates of fractional ones (3, C, N) in bases (C, 3, 3), summed in the order of pymatgen."""
    x, y, z = fractional
    m = matrices.transpose(1, 2, 0)[..., None]
    return np.stack([x * m[0, axis] + y * m[1, axis] + z * m[2, axis] for axis in range(3)])


def _transformed(fractional: Array, inverses: Array) -> Array:
    """Fractional coordinates (3, C, N) in other bases, by matrices (C, 3, 3)."""
    return np.ascontiguousarray(np.moveaxis(np.matmul(np.moveaxis(fractional, 0, 2), inverses), 2, 0))
