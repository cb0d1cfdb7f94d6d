"""Structure matching when one crystal meets many: each is reduced once, and comparisons that cannot match are not made.

The algorithm and the verdicts are those of pymatgen's StructureMatcher (primitive cells, scaled to equal volume,
species kept; Ong et al., Comput. Mater. Sci. 68, 314 (2013)); what is saved are repeated reductions, objects and
invariants of loops. Nothing limits the time of a comparison: make it in a `Worker`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice
from pymatgen.util.coord_cython import is_coord_subset_pbc, pbc_shortest_vectors
from scipy.optimize import linear_sum_assignment

from crystallm.crystal.cell import Cell, parameters_of
from crystallm.crystal.composition import Amounts, element_order, reduce_amounts, symbol_of

Array = NDArray[np.float64]

PRIMITIVE_TOLERANCE_ANGSTROM = 0.25
"""With which the matcher looks for a smaller cell (pymatgen, `get_primitive_structure`)."""

EXACT = 1e-5
"""Normalised rms below which the matcher looks no further."""

PARAMETER_DECIMALS = 9
"""Of lengths in angstrom and angles in degrees; CIFs hold fewer."""


@dataclass(frozen=True)
class Tolerances:
    """Of the structure matcher.

    stol: largest displacement over (volume / atoms)^(1/3). ltol: relative difference of lengths. angle_tol: degrees.
    """

    stol: float = 0.5
    ltol: float = 0.3
    angle_tol: float = 10.0


@dataclass(frozen=True, eq=False)
class Prepared:
    """A crystal in the reduced primitive cell in which the matcher compares it.

    lattice: Niggli-reduced. positions: (N, 3) fractional. numbers: (N,) atomic numbers.
    """

    amounts: Amounts
    lattice: Lattice
    positions: Array
    numbers: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.numbers)


def amounts_of(cell: Cell) -> Amounts:
    """Reduced formula of a cell."""
    return reduce_amounts({symbol_of(number): count for number, count in cell.amounts.items()})


def cannot_match(cell: Cell, truth: Prepared) -> str | None:
    """Why a crystal cannot match another, whatever its geometry; None if it must be compared.

    The matcher compares cells of equal composition and equal number of atoms; it only ever makes a cell smaller by a
    whole number, so a cell of another number of atoms than a multiple is not compared either.
    """
    if amounts_of(cell) != truth.amounts:
        return "another formula"
    return None if len(cell) % len(truth) == 0 else "no match"


def as_pymatgen_reads(cell: Cell) -> Cell:
    """The cell with its basis made from its parameters and its sites in order of electronegativity.

    So pymatgen's CIF reader presents a crystal. Where two images of an atom are equally near, the matcher's verdict
    depends on rounding errors and on the order of sites; presented alike, crystals get the verdict of the plain loop.
    """
    parameters = (round(value, PARAMETER_DECIMALS) for value in parameters_of(cell.lattice))
    order = sorted(range(len(cell)), key=lambda i: element_order(symbol_of(int(cell.numbers[i]))))
    return Cell(np.array(Lattice.from_parameters(*parameters).matrix), cell.positions[order], cell.numbers[order])


def prepare(cell: Cell) -> Prepared:
    """Reduce a crystal as the matcher does: Niggli cell, smaller cell at 0.25 angstrom, Niggli cell again."""
    cell = as_pymatgen_reads(cell)
    lattice, positions = _niggli(Lattice(cell.lattice), cell.positions)
    lattice, positions, numbers = _primitive(lattice, positions, cell.numbers)
    return Prepared(amounts_of(cell), lattice, positions, numbers)


def _niggli(lattice: Lattice, positions: Array) -> tuple[Lattice, Array]:
    reduced = lattice.get_niggli_reduced_lattice()
    if reduced == lattice:
        return lattice, positions
    moved = np.dot(np.dot(positions, lattice.matrix), np.linalg.inv(reduced.matrix))
    return reduced, np.mod(moved, 1)


def _primitive(
    lattice: Lattice, positions: Array, numbers: NDArray[np.int64]
) -> tuple[Lattice, Array, NDArray[np.int64]]:
    """The smallest cell that pymatgen's `get_primitive_structure` finds, in its order of sites."""
    # It groups sites by species in the order of their symbols.
    order = sorted(range(len(numbers)), key=lambda i: symbol_of(int(numbers[i])))
    groups = [positions[list(members)] for _, members in itertools.groupby(order, key=lambda i: int(numbers[i]))]
    species = [int(number) for number, _ in itertools.groupby(order, key=lambda i: int(numbers[i]))]
    units = reduce(math.gcd, map(len, groups))
    if units == 1:
        return lattice, positions, numbers
    tolerance = PRIMITIVE_TOLERANCE_ANGSTROM / np.array(lattice.abc)
    translations = _possible_translations(groups, tolerance)
    apart = [_apart(group, tolerance) for group in groups]
    for size, matrices in _supercells(units):
        inverses = np.linalg.inv(matrices)
        difference = inverses[:, :, None, :] - translations[None, None]
        difference = np.abs(difference - np.round(difference))
        known = (difference < tolerance).all(axis=-1).any(axis=-1).all(axis=-1)
        for matrix in matrices[known]:
            smaller = Lattice(np.dot(np.linalg.inv(matrix), lattice.matrix))
            folded = [_fold(group, matrix, smaller, size, far) for group, far in zip(groups, apart, strict=True)]
            if all(group is not None for group in folded):
                kept = [group for group in folded if group is not None]
                of_each = np.repeat(np.array(species, dtype=np.int64), [len(group) for group in kept])
                cell, found, elements = _primitive(smaller, np.concatenate(kept), of_each)
                return (*_niggli(cell, found), elements)
    return lattice, positions, numbers


def _possible_translations(groups: list[Array], tolerance: Array) -> Array:
    """Vectors (M, 3) that carry every site near a site of the same element; the first is zero."""
    smallest = min(groups, key=len)
    vectors = np.asarray(smallest - smallest[0])
    for group in sorted(groups, key=len):
        for site in group:
            if len(vectors) == 1:
                return vectors  # zero, which every site keeps
            difference = vectors[:, None] - (group - site)[None]
            difference -= np.round(difference)
            near = (np.abs(difference) < 2 * tolerance).all(axis=-1).any(axis=-1)
            vectors = np.asarray(vectors[near])
    return vectors


def _apart(group: Array, tolerance: Array) -> NDArray[np.bool_]:
    """Pairs (N, N) of sites too far from each other to be one site; a site and itself count as one."""
    difference = group[None] - group[:, None]
    difference = np.abs(difference - np.round(difference))
    far: NDArray[np.bool_] = np.asarray((difference > 2 * tolerance).any(axis=-1))
    np.fill_diagonal(far, True)
    return far


def _supercells(units: int) -> list[tuple[int, NDArray[np.int64]]]:
    """(volume ratio, Hermite normal forms (M, 3, 3)) of the cells of which one may be a multiple."""
    found = []
    divisors = [n for n in range(2, units + 1) if units % n == 0]
    for size in divisors:
        for a in (n for n in range(1, size + 1) if size % n == 0):
            for e in (n for n in range(1, size // a + 1) if (size // a) % n == 0):
                g = size // a // e
                forms = [
                    [[a, b, c], [0, e, f], [0, 0, g]] for b, c, f in itertools.product(range(a), range(a), range(e))
                ]
                found.append((size, np.array(forms)))
    return found


def _fold(
    group: Array, matrix: NDArray[np.int64], smaller: Lattice, size: int, apart: NDArray[np.bool_]
) -> Array | None:
    """The sites of one element in a smaller cell, each the mean of `size` sites; None if they do not fall together."""
    positions = np.dot(group, matrix)
    difference = positions[None] - positions[:, None]
    difference = np.abs(difference - np.round(difference))
    lengths = np.sqrt((smaller.matrix**2).sum(axis=1))
    together = (difference < PRIMITIVE_TOLERANCE_ANGSTROM / lengths).all(axis=-1) & apart
    if not (together.sum(axis=0) == size).all():
        return None
    if not all(together[row][:, row].all() for row in together):
        return None
    wrapped = positions % 1
    done = np.zeros(len(group), dtype=bool)
    merged = []
    for index, row in enumerate(together):
        if not done[index]:
            done[row] = True
            members = np.flatnonzero(row)
            mean = wrapped[members[0]].copy()
            for place, member in enumerate(members[1:]):
                offset = wrapped[member] - mean
                mean += (offset - np.round(offset)) / (place + 2)
            merged.append(mean)
    return np.array(merged)
