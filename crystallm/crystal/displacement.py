"""How far two prepared crystals are apart: the rms displacement that pymatgen's StructureMatcher finds, many cells at once.

Every cell of the first crystal that looks like the cell of the second, and every way to lay the rarest element of one on
that of the other, is a candidate. The matcher judges them one by one; here each test is made of all of them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice
from scipy.optimize import linear_sum_assignment

from crystallm.crystal.prepared import Prepared, Tolerances
from crystallm.crystal.reduction import points_in_sphere

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

EXACT = 1e-5
"""Normalised rms below which the matcher looks no further."""

FORBIDDEN = 1e20
"""Cost of a pair of atoms that are too far apart; as pymatgen has it."""

AT_ONCE = 100_000
"""Pairs of atoms looked at together; more would leave the processor's cache."""

UNDECIDED = 1e-9
"""Closer than this to a choice of the lattice reduction, pymatgen's own code makes it: rounding errors decide there."""

IMAGES = np.array([(i, j, k) for i in (-1.0, 0.0, 1.0) for j in (-1.0, 0.0, 1.0) for k in (-1.0, 0.0, 1.0)])
"""Neighbouring cells (27, 3), in pymatgen's order: of two equally near images the first is taken."""


def rms_of(first: Prepared, second: Prepared, tolerances: Tolerances) -> float | None:
    """Root mean square distance of matched atoms over (volume / atoms)^(1/3); None where the two do not match."""
    return rms_by(first, second, [tolerances])[0]


def rms_by(first: Prepared, second: Prepared, tolerances: Sequence[Tolerances]) -> list[float | None]:
    """`rms_of` under several tolerances, at little more than the cost of one."""
    nothing: list[float | None] = [None] * len(tolerances)
    if first.amounts != second.amounts or len(first) != len(second):
        return nothing
    widest = Tolerances(*(max(getattr(t, name) for t in tolerances) for name in ("stol", "ltol", "angle_tol")))
    ratio = (second.lattice.volume / first.lattice.volume) ** (1 / 6)
    matrix, other = first.lattice.matrix * ratio, Lattice(second.lattice.matrix / ratio)
    mappings = _Mappings(matrix, other, widest)
    if len(mappings.bases) == 0:
        return nothing
    candidates = _Candidates(first, second, np.dot(first.positions, matrix), mappings.bases, other)
    return [candidates.best(mappings.within(t), t.stol) for t in tolerances]


class _Mappings:
    """Bases (M, 3, 3) of a lattice that look like another within tolerances, with how far they are off."""

    def __init__(self, matrix: Array, other: Lattice, widest: Tolerances) -> None:
        lengths, angles = np.array(other.lengths), np.array(other.angles)
        fractions, cartesian, distances = points_in_sphere(matrix, float(max(lengths)) * (1 + widest.ltol))
        ratios = distances[None] / lengths[:, None]
        near = (ratios < 1 + widest.ltol) & (ratios > 1 / (1 + widest.ltol))
        a, b, c = (np.flatnonzero(row) for row in near)
        cosines = (cartesian @ cartesian.T) / (norms := np.linalg.norm(cartesian, axis=1))[:, None] / norms
        between = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
        alpha, beta, gamma = (
            np.abs(between[np.ix_(left, right)] - angle)
            for left, right, angle in zip((b, a, a), (c, c, b), angles, strict=True)
        )
        limit = widest.angle_tol
        i, j, k = np.nonzero((gamma <= limit)[:, :, None] & (beta <= limit)[:, None, :] & (alpha <= limit)[None])
        scale = np.stack([fractions[a[i]], fractions[b[j]], fractions[c[k]]], axis=1)
        kept = np.abs(np.abs(np.linalg.det(scale)) - 1) <= 0.5
        i, j, k = i[kept], j[kept], k[kept]
        self.bases = np.stack([cartesian[a[i]], cartesian[b[j]], cartesian[c[k]]], axis=1)
        self._ratios = np.stack([ratios[0, a[i]], ratios[1, b[j]], ratios[2, c[k]]], axis=1)
        self._angles = np.stack([alpha[j, k], beta[i, k], gamma[i, j]], axis=1)

    def within(self, tolerances: Tolerances) -> Indices:
        """Indices of the bases within tolerances no wider than those searched with."""
        above, below = 1 + tolerances.ltol, 1 / (1 + tolerances.ltol)
        lengths = (self._ratios < above) & (self._ratios > below)
        return np.flatnonzero(lengths.all(axis=1) & (self._angles <= tolerances.angle_tol).all(axis=1))


class _Candidates:
    """Ways to lay the second crystal on the first: a basis m of the first, and a site p for the rarest element.

    Arrays of coordinates have the axis first, shape (3, C, N) for C candidates of N sites.
    """

    def __init__(self, first: Prepared, second: Prepared, cartesian: Array, bases: Array, other: Lattice) -> None:
        self._frames = _Frames(_mean_parameters(bases, other), len(first))
        positions_MN3 = np.matmul(cartesian, np.linalg.inv(bases))
        positions_MN3 -= np.floor(positions_MN3)
        self._positions = np.ascontiguousarray(np.moveaxis(positions_MN3, 2, 0))
        self._second = second.positions.T
        same = second.numbers[:, None] == first.numbers[None]
        # The site of the rarest element, the first of those; laid on each such site of the first crystal.
        self._anchor = int(same.sum(axis=1).argmin())
        self._partners = np.flatnonzero(same[self._anchor])
        self._one, self._other = np.nonzero(same)
        """Pairs (K,) of sites of one element, of the second and of the first crystal; in order of the former."""

    def best(self, bases: Indices, stol: float) -> float | None:
        """The smallest normalised rms over the candidates of some bases; None where it is not below stol."""
        found: float | None = None
        step = max(1, AT_ONCE // len(self._one))
        basis, partner = np.repeat(bases, len(self._partners)), np.tile(self._partners, len(bases))
        for start in range(0, len(basis), step):
            some = slice(start, start + step)
            values = self._rms(basis[some], partner[some], stol)
            if len(values) and (found is None or values.min() < found):
                found = float(values.min())
                if found < EXACT:
                    break
        return found if found is not None and found < stol else None

    def _rms(self, basis: Indices, partner: Indices, stol: float) -> Array:
        """Normalised rms of those candidates in which every site gets a partner."""
        positions = self._positions[:, basis]
        shift = self._positions[:, basis, partner] - self._second[:, self._anchor, None]
        laid = self._second[:, None] + shift[..., None]
        frame = self._frames.of[basis]
        near = self._near(laid, positions, self._frames.limits(stol)[frame])
        kept = np.flatnonzero(self._covered(near))
        if len(kept) == 0:
            return np.zeros(0)
        if len(kept) < len(frame):
            frame, near, laid, positions = frame[kept], near[kept], laid[:, kept], positions[:, kept]
        bases = self._frames.reduced(frame, stol)
        if bases.inverses is not None:
            laid, positions = _transformed(laid, bases.inverses), _transformed(positions, bases.inverses)
            near = self._near(laid, positions, bases.limits)
        which, pair = np.nonzero(near)
        one, other = self._one[pair], self._other[pair]
        vectors, squares = _shortest(laid % 1, positions % 1, bases, which, one, other)
        sets, chosen = _assigned(which, one, other, squares, laid.shape[1:])
        paired = vectors[:, chosen]
        paired -= (np.add.reduce(paired, axis=2) / paired.shape[2])[..., None]
        means = np.add.reduce(_squares(paired), axis=1) / paired.shape[2]
        return np.asarray(np.sqrt(means) * self._frames.normalizations[frame[sets]])

    def _near(self, laid: Array, positions: Array, limits: Array) -> NDArray[np.bool_]:
        """Which pairs (C, K) of sites, images included, differ by at most `limits` (C, 3) along each axis."""
        near: NDArray[np.bool_] | None = None
        for axis in range(3):
            difference = laid[axis][:, self._one]
            difference -= positions[axis][:, self._other]
            difference -= np.rint(difference)
            within = np.abs(difference, out=difference) <= limits[:, axis, None]
            near = within if near is None else np.logical_and(near, within, out=near)
        assert near is not None
        return near

    def _covered(self, near: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Candidates (C,) in which every site of the second crystal has some partner."""
        starts = np.flatnonzero(np.diff(self._one, prepend=-1))
        return np.asarray(np.logical_or.reduceat(near, starts, axis=1).all(axis=1))


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
    """Those of the pairs (one, other) that give each site its partner at least total squared distance; None if none do."""
    costs = np.full((n_sites, n_sites), FORBIDDEN)
    number = np.full((n_sites, n_sites), -1, dtype=np.intp)
    costs[one, other] = squares
    number[one, other] = np.arange(len(one))
    chosen = number[linear_sum_assignment(costs)]
    return chosen if chosen.min() >= 0 else None


def _shortest(
    laid: Array, positions: Array, bases: _Bases, which: Indices, one: Indices, other: Indices
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


@dataclass(frozen=True, eq=False)
class _Bases:
    """LLL-reduced bases, in which nearest images are looked for."""

    matrices: Array
    """(C, 3, 3)"""
    limits: Array
    """Largest differences of fractional coordinates (C, 3)."""
    nearest_square: Array
    """Squared length (C,) below which a vector between two points is shorter than those to all other images."""
    inverses: Array | None
    """Matrices (C, 3, 3) that take fractional coordinates to these bases; None where all were reduced already."""


class _Frames:
    """Mean lattices in which displacements are measured, the different ones among M; `of` (M,) tells which."""

    def __init__(self, parameters: Array, n_sites: int) -> None:
        places: dict[bytes, int] = {}
        self.of = np.array([places.setdefault(row.tobytes(), len(places)) for row in parameters], dtype=np.intp)
        self._matrices = _matrices_of(parameters[np.unique(self.of, return_index=True)[1]])
        self.normalizations = (n_sites / np.abs(np.linalg.det(self._matrices))) ** (1 / 3)
        self._reciprocal = _reciprocal_lengths(self._matrices)
        reduced, self._shortest_square = _lll_reduced(self._matrices)
        self._to_do = ~reduced
        self._reduced, self._reduced_reciprocal = self._matrices.copy(), self._reciprocal.copy()
        self._inverses: Array | None = None

    def limits(self, stol: float) -> Array:
        """Largest differences of fractional coordinates, shape (F, 3)."""
        return np.asarray(self._reciprocal * (stol / (np.pi * self.normalizations))[:, None])

    def reduced(self, frame: Indices, stol: float) -> _Bases:
        """The LLL-reduced bases of some frames (C,)."""
        for place in set(frame[self._to_do[frame]].tolist()):
            lattice = Lattice(self._matrices[place])
            self._reduced[place] = lattice.lll_matrix
            some = self._reduced[place][None]
            self._reduced_reciprocal[place] = _reciprocal_lengths(some)[0]
            self._shortest_square[place] = _lll_reduced(some)[1][0]
            if self._inverses is None:
                self._inverses = np.tile(np.eye(3), (len(self._matrices), 1, 1))
            self._inverses[place] = lattice.lll_inverse
            self._to_do[place] = False
        reach = stol / (np.pi * self.normalizations[frame])
        return _Bases(
            self._reduced[frame],
            self._reduced_reciprocal[frame] * reach[:, None],
            self._shortest_square[frame] * (0.25 - UNDECIDED),
            None if self._inverses is None else self._inverses[frame],
        )


def _mean_parameters(bases: Array, other: Lattice) -> Array:
    """Means (M, 6) of the cell parameters of each basis (M, 3, 3) and of another lattice.

    Bit for bit those of pymatgen: where two images of an atom are equally near, rounding decides what is found.
    """
    lengths = np.sqrt((bases**2).sum(axis=2))
    cosines = [
        [np.dot(basis[i], basis[j]) / (length[i] * length[j]) for i, j in ((1, 2), (2, 0), (0, 1))]
        for basis, length in zip(bases, lengths, strict=True)
    ]
    angles = np.rad2deg(np.arccos(np.clip(cosines, -1, 1)))
    return np.asarray((np.concatenate([lengths, angles], axis=1) + np.array(other.parameters)) / 2)


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
