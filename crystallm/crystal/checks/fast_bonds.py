"""The verdict of the bond-length check by a neighbour list; a tessellation of single atoms where that cannot decide.

CrystalNN (Pan et al., Inorganic Chemistry 60, 1590, 2021) gives no weight to neighbours further than the sum of the
covalent radii plus 1 angstrom. Where every pair within that reach has a reasonable length, all of its bonds have one,
whichever they are. Only atoms with an unreasonable pair within reach are tessellated, by the rule of CrystalNN.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element
from pymatgen.optimization.neighbors import find_points_in_spheres

from crystallm.crystal.cell import Cell
from crystallm.crystal.checks.bond_lengths import (
    COINCIDENT,
    COINCIDENT_ANGSTROM,
    HEAVIEST_WITH_RADIUS,
    HYDROGEN_FACTOR,
    NO_BONDS,
    NO_RADIUS,
    SHORTEST_BOND,
    is_reasonable,
)
from crystallm.crystal.checks.radii import COVALENT_RADII, LONGEST_BOND, expected_length
from crystallm.crystal.formulas.composition import symbol_of

FULL_WEIGHT_ANGSTROM, REACH_ANGSTROM = 0.5, 1.0
"""CrystalNN: up to the first distance beyond the covalent radii a neighbour has full weight, from the second none."""

ELECTRONEGATIVITY_WEIGHT, LARGEST_DIFFERENCE = 3.0, 3.3
SEARCH_ANGSTROM = 7.0
"""CrystalNN: weight of the electronegativity difference, and radius of the first search for neighbours."""

FIRST_TRY_ATOMS = 40
"""Most Voronoi cells are decided by so many of the nearest atoms."""


@dataclass(frozen=True)
class BondVerdict:
    """Whether all bonds are reasonable; `reason` is empty if they are, else the one of the reference check."""

    reason: str
    detail: str = ""


def judge_bonds(cell: Cell, atoms: Sequence[int] | None = None) -> BondVerdict:
    """Whether every bond that CrystalNN would find has a reasonable length (`crystallm.crystal.checks.bond_lengths`).

    Args:
        cell: The crystal.
        atoms: Those to look at where others are equivalent to them by symmetry; all if None.

    Returns:
        The verdict.
    """
    heavy = sorted({symbol_of(n) for n in cell.amounts if n > HEAVIEST_WITH_RADIUS})
    if heavy:
        return BondVerdict(NO_RADIUS, f"no radius is tabulated for {', '.join(heavy)}")
    kinds, kind_of_atom = np.unique(cell.numbers, return_inverse=True)
    covalent, expected = (table[np.ix_(kind_of_atom, kind_of_atom)] for table in _pair_tables(tuple(kinds.tolist())))
    shortest, nearest = _shortest_between(cell, float(covalent.max()) + REACH_ANGSTROM)
    if nearest < COINCIDENT_ANGSTROM:
        return BondVerdict(COINCIDENT, f"two atoms are {nearest:.3f} A apart")
    within = shortest < covalent + REACH_ANGSTROM
    doubtful = np.asarray((within & ~_reasonable(shortest / expected, cell.numbers)).any(axis=1))
    # Doubtful atoms are looked at; and others, until one of them has a bond to another atom: near neighbours alone do
    # not make one. Most likely has the atom with the nearest neighbour for its radius.
    order = np.argsort((shortest - covalent).min(axis=1), kind="stable")
    some = np.arange(len(cell)) if atoms is None else np.unique(np.asarray(atoms, dtype=np.int64))
    order = order[np.isin(order, some)]
    # The face between the two atoms that are nearest to each other is seen from them under 30 degrees at least: a bond.
    if shortest.min() <= nearest and not doubtful[order].any() and (shortest <= covalent + FULL_WEIGHT_ANGSTROM).any():
        return BondVerdict("")
    found_between, own_images = 0, []
    for atom in (*order[doubtful[order]].tolist(), *order[~doubtful[order]].tolist()):
        if found_between and not doubtful[atom]:
            break
        bonds = crystal_nn_bonds(cell, atom)
        if bonds is None:
            return BondVerdict("no neighbours found", f"the Voronoi cell of site {atom} does not close")
        for other, length in zip(bonds[0].tolist(), bonds[1].tolist(), strict=True):
            # As published, the length of a bond is the distance to the nearest image, whichever image is bonded.
            length = length if other == atom else float(shortest[atom, other])
            verdict = _judge_pair(int(cell.numbers[atom]), int(cell.numbers[other]), length)
            if other == atom:
                own_images.append(verdict)
            elif verdict.reason:
                return verdict
            else:
                found_between += 1
    if found_between:
        return BondVerdict("")
    if not own_images:
        return BondVerdict(NO_BONDS)
    return next((verdict for verdict in own_images if verdict.reason), BondVerdict(""))


def has_unreasonable_bonds(cell: Cell, atoms: Sequence[int] | None = None) -> bool:
    """Whether a bond has no reasonable length, or none is found; False where an element has no tabulated radius.

    atoms: see `judge_bonds`.
    """
    return judge_bonds(cell, atoms).reason not in ("", NO_RADIUS)


def crystal_nn_bonds(cell: Cell, atom: int) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """Atoms (B,) that CrystalNN bonds to one atom, images counted one by one, and the lengths (B,) in angstrom.

    None where the Voronoi cell does not close. Follows pymatgen's CrystalNN with its default settings and without
    oxidation states.
    """
    coordinates = cell.positions @ cell.lattice
    corners = np.array([[1, 1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]]) @ cell.lattice
    largest = float(np.linalg.norm(corners, axis=1).max()) + 0.01
    cutoff = SEARCH_ANGSTROM
    while True:
        _, others, images, distances = neighbours_within(cell, coordinates[[atom]], cutoff)
        order = np.argsort(distances, kind="stable")
        others, distances = others[order], distances[order]
        points = coordinates[others] + images[order] @ cell.lattice
        # No atom cuts a corner off that is nearer than half its distance: a few atoms decide most cells.
        faces = None
        if len(points) > FIRST_TRY_ATOMS:
            faces = _faces(points[:FIRST_TRY_ATOMS], within=float(distances[FIRST_TRY_ATOMS]) / 2)
        faces = faces or _faces(points)
        if faces is not None:
            break
        if cutoff >= largest:
            return None
        cutoff = min(2 * cutoff, largest + 0.001)
    neighbours, solid_angles, areas = faces
    chosen = _choose(
        solid_angles / solid_angles.max() * solid_angles / areas,
        distances[neighbours],
        int(cell.numbers[atom]),
        cell.numbers[others[neighbours]],
    )
    return others[neighbours][chosen], distances[neighbours][chosen]


def _choose(
    weights: NDArray[np.float64], distances: NDArray[np.float64], number: int, numbers: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Places of the neighbours in the most probable coordination."""
    own = _electronegativity(number)
    values = np.array([_electronegativity(int(n)) for n in numbers])
    difference = np.abs(values - own)
    chemical = 1 + ELECTRONEGATIVITY_WEIGHT * np.sqrt(difference / LARGEST_DIFFERENCE)
    weights = weights * np.where(np.isnan(difference), 1.0, chemical)
    weights = weights / weights.max()
    beyond = distances - np.array([_radius(int(n)) for n in numbers]) - _radius(number) - FULL_WEIGHT_ANGSTROM
    share = np.clip(beyond / (REACH_ANGSTROM - FULL_WEIGHT_ANGSTROM), 0.0, 1.0)
    weights = np.round(weights * (np.cos(share * np.pi) + 1) / 2, 3)
    steps = np.unique(weights[weights > 0])[::-1]
    if not len(steps):
        return np.zeros(0, dtype=np.int64)
    # The quarter circle from 0 to 1 is cut at the weights; the coordination with the largest piece wins.
    edges = np.append(steps, 0.0)
    areas = 0.5 * (edges * np.sqrt(1 - edges**2) + np.arcsin(edges))
    pieces = (areas[:-1] - areas[1:]) / (math.pi / 4)
    best = int(pieces.argmax())
    if 1 - pieces.sum() > pieces[best]:
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(weights >= steps[best])


def _faces(
    points: NDArray[np.float64], *, within: float = math.inf
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]] | None:
    """Faces of the Voronoi cell of the first of points (M, 3): neighbours (F,), solid angles (F,), areas (F,) in A2.

    None where the cell is not closed, or has a corner further from the point than `within`, in angstrom.
    """
    if len(points) < 5:
        return None
    from scipy.spatial import QhullError, Voronoi  # most crystals are judged without a tessellation

    try:
        tessellation = Voronoi(points)
    except QhullError:
        return None
    ridges = np.flatnonzero((tessellation.ridge_points == 0).any(axis=1))
    fans, face_of_fan, neighbours = [], [], []
    for place, ridge in enumerate(ridges.tolist()):
        vertices = tessellation.ridge_vertices[ridge]
        if -1 in vertices:
            return None
        neighbours.append(int(tessellation.ridge_points[ridge].sum()))  # one of the two is 0
        fans += [(vertices[0], a, b) for a, b in pairwise(vertices[1:])]
        face_of_fan += [place] * (len(vertices) - 2)
    if not fans:
        return None
    a, b, c = np.moveaxis(tessellation.vertices[np.array(fans)] - points[0], 1, 0)
    na, nb, nc = (np.linalg.norm(vector, axis=1) for vector in (a, b, c))
    if max(na.max(), nb.max(), nc.max()) > within:
        return None
    triple = np.abs((a * np.cross(b, c)).sum(axis=1))
    # Van Oosterom and Strackee (1983).
    below = na * nb * nc + nc * (a * b).sum(axis=1) + nb * (a * c).sum(axis=1) + na * (b * c).sum(axis=1)
    angles = 2 * np.arctan2(triple, below)
    solid_angles, volumes = np.zeros(len(ridges)), np.zeros(len(ridges))
    np.add.at(solid_angles, face_of_fan, angles)
    np.add.at(volumes, face_of_fan, triple / 6)
    heights = np.linalg.norm(points[neighbours] - points[0], axis=1) / 2
    good = volumes > 0
    return np.array(neighbours)[good], solid_angles[good], (3 * volumes / heights)[good]


def neighbours_within(
    cell: Cell, centres: NDArray[np.float64], radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Atoms within a radius in angstrom of Cartesian centres: centre, atom, image and distance of each."""
    found = find_points_in_spheres(
        all_coords=np.ascontiguousarray(cell.positions @ cell.lattice),
        center_coords=np.ascontiguousarray(centres),
        r=float(radius),
        pbc=np.array([1, 1, 1], dtype=np.int64),
        lattice=np.ascontiguousarray(cell.lattice),
        tol=1e-8,
    )
    return found[0], found[1], found[2], found[3]


def _shortest_between(cell: Cell, radius: float) -> tuple[NDArray[np.float64], float]:
    """Shortest distances (N, N) in angstrom between different atoms, infinite beyond the radius and on the diagonal;
    and the shortest of all, images of one atom included."""
    first, second, images, distances = neighbours_within(cell, cell.positions @ cell.lattice, radius)
    shortest = np.full((len(cell), len(cell)), np.inf)
    np.minimum.at(shortest, (first, second), distances)
    np.fill_diagonal(shortest, np.inf)
    others = (first != second) | images.any(axis=1)
    return shortest, float(distances[others].min(initial=np.inf))


def _reasonable(ratios: NDArray[np.float64], numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """`is_reasonable` for all pairs of atoms (N, N); where no length is expected (NaN), a pair is not."""
    hydrogen = (numbers[:, None] == 1) | (numbers[None, :] == 1)
    return np.where(hydrogen, ratios < HYDROGEN_FACTOR, (ratios > SHORTEST_BOND) & (ratios < LONGEST_BOND))


def _judge_pair(first: int, second: int, length: float) -> BondVerdict:
    symbols = symbol_of(first), symbol_of(second)
    expected = expected_length(Element(symbols[0]), Element(symbols[1]))
    if expected is None:
        return BondVerdict(NO_RADIUS, f"no radius is tabulated for {symbols[0]} or {symbols[1]}")
    if is_reasonable(length / expected, hydrogen="H" in symbols):
        return BondVerdict("")
    return BondVerdict("unreasonable bond", f"{symbols[0]}-{symbols[1]} {length:.2f} A, expected {expected:.2f}")


@cache
def _pair_tables(numbers: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of covalent radii (K, K) and expected bond lengths (K, K) in angstrom of some elements; NaN if unknown."""
    radii = np.array([_radius(number) for number in numbers])
    elements = [Element(symbol_of(number)) for number in numbers]
    expected = np.array([[expected_length(a, b) or math.nan for b in elements] for a in elements])
    return radii[:, None] + radii[None, :], expected


@cache
def _radius(number: int) -> float:
    symbol = symbol_of(number)
    known = COVALENT_RADII.get(symbol)
    return float(known if known is not None else Element(symbol).atomic_radius or 0.0)


@cache
def _electronegativity(number: int) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns that noble gases have none
        return float(Element(symbol_of(number)).X)
