"""Which sites of two crystals laid on each other can be partners, and how far apart they are: loops, compiled.

Everything is done in the order of pymatgen's own code, to the last bit: where two images of an atom are equally near,
rounding decides what is found.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from crystallm.base.compiling import compiled

UNDECIDED = 1e-9
"""Distances that differ by less, relatively, are equal but for rounding; so are choices of the lattice reduction."""


@compiled
def needed_stol(
    truth: Any, positions: Any, basis: Any, partner: Any, anchor: Any, starts: Any, others: Any, unit: Any, most: Any
) -> Any:
    """The stol (C,) from which on every site of the truth has some partner, axis by axis; infinite beyond `most`.

    truth (3, N) and positions (3, M, N): fractional coordinates in each of M bases. Candidate c lays the site `anchor`
    of the truth on the site partner[c] in basis[c]. others[starts[i]:starts[i + 1]] are of the element of site i.
    unit (C, 3): differences of fractional coordinates that stol = 1 allows.
    """
    needed = np.zeros(len(basis))
    shift = np.empty(3)
    for c in range(len(basis)):
        m = basis[c]
        for axis in range(3):
            shift[axis] = positions[axis, m, partner[c]] - truth[axis, anchor]
        for i in range(truth.shape[1]):
            nearest = np.inf
            for k in range(starts[i], starts[i + 1]):
                reach = 0.0
                for axis in range(3):
                    difference = (truth[axis, i] + shift[axis]) - positions[axis, m, others[k]]
                    reach = max(reach, abs(difference - np.rint(difference)) / unit[c, axis])
                nearest = min(nearest, reach)
            needed[c] = max(needed[c], nearest)
            if needed[c] > most:
                needed[c] = np.inf
                break
    return needed


@compiled
def near_pairs(
    laid: Any, positions: Any, starts: Any, others: Any, unit: Any, matrices: Any, nearest_square: Any, most: Any
) -> Any:
    """Pairs of sites of one element that are near each other along each axis, and how they lie: for S pairs, in order
    of candidate and site, the candidate, the site of the truth and that of the crystal (S, 3), the stol from which on
    they are near (S,), the shortest vectors between their images (3, S) and the squares of these (S,).

    laid and positions (3, C, N): fractional coordinates of the truth and of the crystal in bases (C, 3, 3). The vectors
    are what pymatgen's compiled code finds, which looks at the 27 nearest cells and takes the first of equals.
    nearest_square (C,): below it a vector is shorter than those to all other images.
    """
    n_candidates, n_sites = laid.shape[1], laid.shape[2]
    room = n_candidates * len(others)
    places, reaches = np.empty((room, 3), np.int64), np.empty(room)
    vectors, squares = np.empty((3, room)), np.empty(room)
    images, whole = np.empty((27, 3)), np.empty(3)
    inside, one, other = np.empty((2, n_sites, 3)), np.empty((n_sites, 3)), np.empty((n_sites, 3))
    found = 0
    for c in range(n_candidates):
        matrix = matrices[c]
        for n in range(n_sites):
            for axis in range(3):
                inside[0, n, axis], inside[1, n, axis] = laid[axis, c, n] % 1.0, positions[axis, c, n] % 1.0
            _to_cartesian(inside[0, n], matrix, one[n])
            _to_cartesian(inside[1, n], matrix, other[n])
        for i in range(-1, 2):
            for j in range(-1, 2):
                for k in range(-1, 2):
                    whole[0], whole[1], whole[2] = i, j, k
                    _to_cartesian(whole, matrix, images[9 * i + 3 * j + k + 13])
        for i in range(n_sites):
            for place in range(starts[i], starts[i + 1]):
                j = others[place]
                reach = 0.0
                for axis in range(3):
                    difference = laid[axis, c, i] - positions[axis, c, j]
                    reach = max(reach, abs(difference - np.rint(difference)) / unit[c, axis])
                if reach > most:
                    continue
                image, weight = 13, 9
                for axis in range(3):
                    image -= weight * int(np.rint(inside[1, j, axis] - inside[0, i, axis]))
                    weight //= 3
                square = _square_of(one[i], other[j], images[image])
                if square >= nearest_square[c]:
                    square = np.inf
                    for k in range(27):
                        another = _square_of(one[i], other[j], images[k])
                        if another < square:
                            image, square = k, another
                places[found, 0], places[found, 1], places[found, 2] = c, i, j
                for axis in range(3):
                    vectors[axis, found] = (other[j, axis] - one[i, axis]) + images[image, axis]
                reaches[found], squares[found] = reach, square
                found += 1
    return places[:found], reaches[:found], vectors[:, :found], squares[:found]


@compiled
def _to_cartesian(fractional: Any, matrix: Any, point: Any) -> None:
    x, y, z = fractional
    for axis in range(3):
        point[axis] = (x * matrix[0, axis] + y * matrix[1, axis]) + z * matrix[2, axis]


@compiled
def _square_of(one: Any, other: Any, image: Any) -> float:
    x, y, z = (other[0] - one[0]) + image[0], (other[1] - one[1]) + image[1], (other[2] - one[2]) + image[2]
    return float((x * x + y * y) + z * z)


NO_WAY, CLEAR, OPEN = 0, 1, 2
"""Some site has no partner; the nearest partners are different ones, and none as near as another; neither."""


@compiled
def nearest_partners(places: Any, vectors: Any, squares: Any, n_candidates: Any, n_sites: Any) -> Any:
    """Whether the nearest partners of all sites assign them, for each of C candidates.

    Their states (C,), where the pairs of each start (C + 1,), the pairs that assign the sites of clear ones (C, N), and
    for open ones a lower bound (C,) of the mean square of displacements from their mean, whatever is assigned.
    """
    states, chosen = np.full(n_candidates, NO_WAY), np.zeros((n_candidates, n_sites), np.int64)
    bounds, least = np.zeros(n_candidates + 1, np.int64), np.zeros(n_candidates)
    place = 0
    for c in range(n_candidates):
        bounds[c], start = place, place
        while place < len(places) and places[place, 0] == c:
            place += 1
        own = slice(start, place)
        states[c], least[c] = _state_of(places[own, 1:], vectors[:, own], squares[own], chosen[c])
        for i in range(n_sites):
            chosen[c, i] += start
    bounds[n_candidates] = place
    return states, bounds, chosen, least


@compiled
def _state_of(places: Any, vectors: Any, squares: Any, chosen: Any) -> Any:
    n_sites = len(chosen)
    taken = np.zeros(n_sites, np.bool_)
    place, is_clear = 0, True
    total, lowest, highest = 0.0, np.zeros(3), np.zeros(3)
    for i in range(n_sites):
        start = place
        while place < len(places) and places[place, 0] == i:
            place += 1
        if place == start:
            return NO_WAY, 0.0
        nearest = np.inf
        for pair in range(start, place):
            nearest = min(nearest, squares[pair])
        near, n_near = nearest * (1 + UNDECIDED) + UNDECIDED**2, 0
        for pair in range(start, place):
            if squares[pair] <= near:
                n_near += 1
                chosen[i] = pair
        is_clear = is_clear and n_near == 1 and not taken[places[chosen[i], 1]]
        taken[places[chosen[i], 1]] = True
        total += nearest
        for axis in range(3):
            low, high = np.inf, -np.inf
            for pair in range(start, place):
                low, high = min(low, vectors[axis, pair]), max(high, vectors[axis, pair])
            lowest[axis] += low
            highest[axis] += high
    if is_clear:
        return CLEAR, 0.0
    # The mean of squares is no less than that of the nearest partners, and the mean vector no longer than this one.
    mean = 0.0
    for axis in range(3):
        mean += max(lowest[axis] ** 2, highest[axis] ** 2) / n_sites**2
    return OPEN, max(total / n_sites - mean, 0.0)


@compiled
def costs_of(places: Any, squares: Any, n_sites: Any, forbidden: Any) -> Any:
    """Costs (N, N) of giving each site each partner, and the number of the pair, -1 where it is no pair."""
    costs = np.full((n_sites, n_sites), forbidden)
    numbers = np.full((n_sites, n_sites), -1)
    for pair in range(len(squares)):
        costs[places[pair, 1], places[pair, 2]] = squares[pair]
        numbers[places[pair, 1], places[pair, 2]] = pair
    return costs, numbers
