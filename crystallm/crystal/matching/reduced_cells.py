"""The reduced cells in which pymatgen's StructureMatcher compares crystals: Niggli-reduced, and the smallest it finds.

The cells and the order of sites are pymatgen's; the arithmetic of small matrices is done without its objects.
"""

from __future__ import annotations

import itertools
import math
from functools import cache, reduce

import numpy as np
from numpy.typing import NDArray
from pymatgen.optimization.neighbors import find_points_in_spheres

from crystallm.crystal.formulas.composition import symbol_of

Array = NDArray[np.float64]
Metric = tuple[float, float, float, float, float, float]
"""a.a, b.b, c.c, 2 b.c, 2 a.c, 2 a.b of a cell, in square angstrom."""

PRIMITIVE_TOLERANCE_ANGSTROM = 0.25
"""With which the matcher looks for a smaller cell (pymatgen, `get_primitive_structure`)."""

NIGGLI_TOLERANCE = 1e-5
"""Of the reduction, times the cube root of the volume (pymatgen's default)."""

ANGLE_DEGREES = 1.0
"""How well angles must agree for vectors to be those of the reduced cell; lengths agree much better."""

MOST_STEPS = 100
"""Of either reduction; pymatgen's limit."""


def points_in_sphere(matrix: Array, radius: float) -> tuple[Array, Array, Array]:
    """Lattice points but the origin, in pymatgen's order: fractional (M, 3), cartesian (M, 3), distances (M,)."""
    origin, matrix = np.zeros((1, 3)), np.ascontiguousarray(matrix)
    _, _, images, distances = find_points_in_spheres(
        all_coords=origin, center_coords=origin, r=radius, pbc=np.ones(3, dtype=np.int64), lattice=matrix, tol=1e-8
    )
    points = np.asarray(images, dtype=np.float64)
    cartesian, away = np.dot(points, matrix), distances > 0
    return points[away], cartesian[away], distances[away]


def niggli(lattice: Array, positions: Array) -> tuple[Array, Array]:
    """The Niggli-reduced cell (3, 3) that pymatgen chooses, and the positions (N, 3) in it."""
    reduced = niggli_lattice(lattice)
    if (np.abs(reduced - lattice) <= 1e-8 + 1e-5 * np.abs(lattice)).all():
        return lattice, positions
    return reduced, np.mod(np.dot(np.dot(positions, lattice), np.linalg.inv(reduced)), 1)


def niggli_lattice(lattice: Array) -> Array:
    """The Niggli cell (Grosse-Kunstleve et al., Acta Cryst. A60, 1 (2004)) as vectors (3, 3) of the lattice itself."""
    volume = float(np.linalg.det(lattice))
    tolerance = NIGGLI_TOLERANCE * abs(volume) ** (1 / 3)
    lengths, angles = _parameters(_niggli_metric(_short_metric(lattice), tolerance))
    points, cartesian, distances = points_in_sphere(lattice, max(lengths) * (1 + tolerance))
    a, b, c = (
        np.flatnonzero((distances < (1 + tolerance) * length) & (distances > length / (1 + tolerance)))
        for length in lengths
    )

    def agree(left: NDArray[np.intp], right: NDArray[np.intp], angle: float) -> NDArray[np.bool_]:
        cosines = cartesian[left] @ cartesian[right].T / distances[left][:, None] / distances[right]
        return np.abs(np.degrees(np.arccos(np.minimum(np.maximum(cosines, -1), 1))) - angle) <= ANGLE_DEGREES

    alpha, beta, gamma = agree(b, c, angles[0]), agree(a, c, angles[1]), agree(a, b, angles[2])
    i, j, k = np.nonzero(gamma[:, :, None] & beta[:, None, :] & alpha[None])
    vectors = np.stack([a[i], b[j], c[k]], axis=1)
    handed = np.linalg.det(points[vectors])
    proper, any_hand = np.flatnonzero(handed > 1e-8), np.flatnonzero(np.abs(handed) >= 1e-8)
    if len(any_hand) == 0:  # as pymatgen reports it; not seen on any crystal
        raise ArithmeticError(f"no Niggli cell found for the lattice {lattice.tolist()}")
    chosen = proper[0] if len(proper) else any_hand[0]
    found: Array = cartesian[vectors[chosen]]
    return found if handed[chosen] * volume > 0 else -found


def _parameters(metric: Metric) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Lengths in angstrom and angles in degrees."""
    a, b, c = (math.sqrt(square) for square in metric[:3])
    pairs = (b * c, a * c, a * b)
    alpha, beta, gamma = (math.degrees(math.acos(m / 2 / pair)) for m, pair in zip(metric[3:], pairs, strict=True))
    return (a, b, c), (alpha, beta, gamma)


def _short_metric(lattice: Array) -> Metric:
    """The metric of a basis of short vectors, from which the Niggli cell is a few steps away.

    Each vector loses whole multiples of the others until that makes none shorter.
    """
    g: list[list[float]] = (lattice @ lattice.T).tolist()
    for _ in range(MOST_STEPS):
        changed = False
        for i, j in itertools.permutations(range(3), 2):
            times = round(g[i][j] / g[j][j])
            if times and abs(g[i][j]) > (0.5 + 1e-9) * g[j][j]:  # a half and its rounding error go either way for ever
                k, changed = 3 - i - j, True
                g[i][i] += times * (times * g[j][j] - 2 * g[i][j])
                g[i][j] = g[j][i] = g[i][j] - times * g[j][j]
                g[i][k] = g[k][i] = g[i][k] - times * g[j][k]
        if not changed:
            break
    return g[0][0], g[1][1], g[2][2], 2 * g[1][2], 2 * g[0][2], 2 * g[0][1]


def _sign(value: float, tolerance: float = 0.0) -> int:
    return 0 if abs(value) < tolerance else 1 if value > 0 else -1


def _niggli_metric(metric: Metric, e: float) -> Metric:
    """The metric of the Niggli cell; steps as the paper names them, tolerance `e`."""
    a, b, c, x, y, z = metric
    for _ in range(MOST_STEPS):
        if b + e < a or (abs(a - b) < e and abs(x) > abs(y) + e):  # A1
            a, b, x, y = b, a, y, x
        if c + e < b or (abs(b - c) < e and abs(y) > abs(z) + e):  # A2
            b, c, y, z = c, b, z, y
            continue
        x, y, z = _alike(x, y, z, e)  # A3, A4
        if abs(x) > b + e or (abs(x - b) < e and z - e > 2 * y) or (abs(x + b) < e and -e > z):  # A5
            s = _sign(x)
            c, x, y = b + c - s * x, x - 2 * s * b, y - s * z
        elif abs(y) > a + e or (abs(a - y) < e and z - e > 2 * x) or (abs(a + y) < e and -e > z):  # A6
            s = _sign(y)
            c, x, y = a + c - s * y, x - s * z, y - 2 * s * a
        elif abs(z) > a + e or (abs(a - z) < e and y - e > 2 * x) or (abs(a + z) < e and -e > y):  # A7
            s = _sign(z)
            b, x, z = a + b - s * z, x - s * y, z - 2 * s * a
        elif -e > x + y + z + a + b or abs(x + y + z + a + b) < e < z + (a + y) * 2:  # A8
            c, x, y = a + b + c + x + y + z, 2 * b + x + z, 2 * a + y + z
        else:
            break
    return a, b, c, x, y, z


def _alike(x: float, y: float, z: float, e: float) -> tuple[float, float, float]:
    """The three products made all positive, or all not positive, by turning axes round."""
    signs = [_sign(x, e), _sign(y, e), _sign(z, e)]
    if signs[0] * signs[1] * signs[2] == 1:
        i, j, k = (-1 if sign == -1 else 1 for sign in signs)
    else:
        i, j, k = (-1 if sign == 1 else 1 for sign in signs)
        if i * j * k == -1:
            if signs[2] == 0:
                k = -1
            elif signs[1] == 0:
                j = -1
            elif signs[0] == 0:
                i = -1
    return j * k * x, i * k * y, i * j * z


def primitive(lattice: Array, positions: Array, numbers: NDArray[np.int64]) -> tuple[Array, Array, NDArray[np.int64]]:
    """The smallest cell that pymatgen's `get_primitive_structure` finds, in its order of sites; Niggli-reduced."""
    # It groups sites by species in the order of their symbols.
    species = sorted(set(numbers.tolist()), key=symbol_of)
    groups = [positions[numbers == number] for number in species]
    units = reduce(math.gcd, map(len, groups))
    if units == 1:
        return lattice, positions, numbers
    tolerance = PRIMITIVE_TOLERANCE_ANGSTROM / np.sqrt((lattice**2).sum(axis=1))
    translations = _possible_translations(groups, tolerance)
    if len(translations) == 1:
        return lattice, positions, numbers
    apart = [_apart(group, tolerance) for group in groups]
    for size, matrices, inverses in _supercells(units):
        known = _close(inverses[:, :, None], translations, tolerance).any(axis=-1).all(axis=-1)
        for matrix in matrices[known]:
            smaller = np.dot(np.linalg.inv(matrix), lattice)
            folded = [_fold(group, matrix, smaller, size, far) for group, far in zip(groups, apart, strict=True)]
            if all(group is not None for group in folded):
                kept = [group for group in folded if group is not None]
                of_each = np.repeat(np.array(species, dtype=np.int64), [len(group) for group in kept])
                cell, found, of_sites = primitive(smaller, np.concatenate(kept), of_each)
                return (*niggli(cell, found), of_sites)
    return lattice, positions, numbers


def _close(one: Array, other: Array, limits: Array) -> NDArray[np.bool_]:
    """Whether fractional coordinates (..., 3), images included, differ by less than `limits` (3,) along each axis."""
    near: NDArray[np.bool_] | None = None
    for axis in range(3):
        difference = one[..., axis] - other[..., axis]
        difference -= np.rint(difference)
        within = np.abs(difference, out=difference) < limits[axis]
        near = within if near is None else np.logical_and(near, within, out=near)
    assert near is not None
    return near


def _possible_translations(groups: list[Array], tolerance: Array) -> Array:
    """Vectors (M, 3) that carry every site near a site of the same element; the first is zero."""
    smallest = min(groups, key=len)
    vectors = np.asarray(smallest - smallest[0])
    for group in sorted(groups, key=len):
        for sites in (group[:1], group[1:]):  # one site alone leaves few vectors for the others
            if len(vectors) == 1:
                return vectors  # zero, which every site keeps
            near = _close(vectors[:, None, None], group - sites[:, None], 2 * tolerance)
            vectors = np.asarray(vectors[np.logical_and.reduce(near.any(axis=2), axis=1)])
    return vectors


def _apart(group: Array, tolerance: Array) -> NDArray[np.bool_]:
    """Pairs (N, N) of sites too far from each other to be one site; a site and itself count as one."""
    far = np.logical_not(_close(group, group[:, None], np.nextafter(2 * tolerance, np.inf)))
    np.fill_diagonal(far, True)
    return far


@cache
def _supercells(units: int) -> list[tuple[int, NDArray[np.int64], Array]]:
    """(volume ratio, Hermite normal forms (M, 3, 3), their inverses) of the cells of which one may be a multiple."""
    found = []
    divisors = [n for n in range(2, units + 1) if units % n == 0]
    for size in divisors:
        for a in (n for n in range(1, size + 1) if size % n == 0):
            for e in (n for n in range(1, size // a + 1) if (size // a) % n == 0):
                g = size // a // e
                forms = np.array(
                    [[[a, b, c], [0, e, f], [0, 0, g]] for b, c, f in itertools.product(range(a), range(a), range(e))]
                )
                found.append((size, forms, np.asarray(np.linalg.inv(forms))))
    return found


def _fold(group: Array, matrix: NDArray[np.int64], smaller: Array, size: int, apart: NDArray[np.bool_]) -> Array | None:
    """The sites of one element in a smaller cell, each the mean of `size` sites; None if they do not fall together."""
    positions = np.dot(group, matrix)
    lengths = np.sqrt((smaller**2).sum(axis=1))
    together = _close(positions, positions[:, None], PRIMITIVE_TOLERANCE_ANGSTROM / lengths) & apart
    if not (together.sum(axis=0) == size).all():
        return None
    counts = together.astype(np.intp)
    if not ((counts @ counts.T)[together] == size).all():  # sites that fall together must have the same company
        return None
    first = np.flatnonzero(together.argmax(axis=1) == np.arange(len(group)))
    members = np.nonzero(together[first])[1].reshape(len(first), size)
    wrapped = positions % 1
    mean = wrapped[members[:, 0]]
    for place in range(1, size):
        offset = wrapped[members[:, place]] - mean
        mean += (offset - np.rint(offset)) / (place + 1)
    return np.asarray(mean)
