"""How far a description is from the crystal that it was made of, in angstrom."""

from __future__ import annotations

from math import inf

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.cell import Cell
from crystallm.crystal.description import Description, expand
from crystallm.crystal.symmetry import SYMPREC_ANGSTROM, standard_setting
from crystallm.crystal.wyckoff import SpaceGroup, space_group

Array = NDArray[np.float64]

NEAR_ENOUGH_ANGSTROM = 1e-3
"""No nearer way to lay one crystal on the other is looked for."""


def deviation(source: Cell, description: Description, *, symprec_angstrom: float = SYMPREC_ANGSTROM) -> float:
    """The largest distance between a crystal and its description.

    The source is brought into the standard setting, then laid on the atoms of the description in every way that the
    normalizer of the space group offers, the origin free along polar axes. Two things are measured, and the larger
    one is returned: how far an atom lies from its partner, after the mean shift, and how far the end of a cell vector
    of the conventional cell lies from where it was, after the best rotation.

    Args:
        source: any cell of the crystal; N atoms.
        description: made of it by `describe`, numbers rounded or not.
        symprec_angstrom: the tolerance that it was made with.

    Returns:
        The distance in angstrom; infinite where the two cannot be laid on each other.

    Example:
        >>> deviation(cell, describe(cell)) < 0.1
        True
    """
    setting = standard_setting(source, symprec_angstrom=symprec_angstrom)
    if setting is None or setting.space_group != description.space_group:
        return inf
    group = space_group(description.space_group)
    drawn = expand(description)
    strain = _stretch(setting.lattice, drawn.lattice)
    return max(strain, _shift(group, setting.positions, source.numbers, drawn))


def _stretch(before: Array, after: Array) -> float:
    """The largest distance in angstrom between ends of cell vectors (3, 3), rows, after the best rotation."""
    left, _, right = np.linalg.svd(before.T @ after)
    return float(np.linalg.norm(before @ (left @ right) - after, axis=1).max())


def _shift(group: SpaceGroup, points: Array, numbers: NDArray[np.int64], drawn: Cell) -> float:
    """The largest distance in angstrom of an atom (N, 3) from the atom of its element in the description."""
    kinds, counts = np.unique(numbers, return_counts=True)
    partners = {int(kind): drawn.positions[drawn.numbers == kind] for kind in kinds}
    rarest = kinds[counts.argmin()]
    best = inf
    for rotation, translation in group.normalizer:
        moved = points @ rotation.T + translation
        first = moved[numbers == rarest][0]
        origins = np.zeros((1, 3))
        if group.polar_axes:
            polar = list(group.polar_axes)
            origins = np.zeros((len(partners[int(rarest)]), 3))
            origins[:, polar] = (partners[int(rarest)] - first)[:, polar]
            origins = np.unique((origins - np.floor(origins)).round(9), axis=0)
        for origin in origins:
            laid = moved + origin
            deltas = np.concatenate(
                [_nearest(laid[numbers == kind], partners[int(kind)], drawn.lattice) for kind in kinds]
            )
            far = float(np.linalg.norm(deltas - deltas.mean(axis=0), axis=1).max())
            best = min(best, far)
            if best < NEAR_ENOUGH_ANGSTROM:
                return best
    return best


def _nearest(points: Array, others: Array, lattice: Array) -> Array:
    """Vectors (P, 3) in angstrom from fractional points (P, 3) to the nearest of others (Q, 3)."""
    deltas = others[None] - points[:, None]
    vectors = (deltas - np.rint(deltas)) @ lattice
    nearest = np.einsum("pqi,pqi->pq", vectors, vectors).argmin(axis=1)
    return np.asarray(vectors[np.arange(len(points)), nearest])
