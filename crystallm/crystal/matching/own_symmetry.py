"""The symmetry that a crystal is known to have, in the reduced cell in which it is compared.

Laying another crystal on it in two ways that an operation takes into each other is the same comparison twice. Where the
operations are known, because the crystal was built by them, one of the two is enough.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice

from crystallm.crystal.description import Description, expand
from crystallm.crystal.matching.reduced_crystal import Prepared, Symmetry, prepare
from crystallm.crystal.wyckoff import space_group

SAME_SITE = 1e-4
"""Difference of fractional coordinates below which the image of a site is a site: an operation must be exact."""


def prepare_built(crystal: Description) -> Prepared:
    """A crystal reduced for comparisons, with the operations of its space group."""
    prepared = prepare(expand(crystal))
    return replace(prepared, symmetry=_symmetry(crystal, prepared))


def _symmetry(crystal: Description, prepared: Prepared) -> Symmetry:
    group = space_group(crystal.space_group)
    conventional = Lattice.from_parameters(*crystal.cell).matrix
    # A row of coordinates in the reduced cell, in the conventional one, and back again.
    there = prepared.lattice.matrix @ np.linalg.inv(conventional)
    back = np.linalg.inv(there)
    rotations = there @ group.rotations.transpose(0, 2, 1) @ back
    whole = np.rint(rotations)
    _, first = np.unique(whole.reshape(-1, 9), axis=0, return_index=True)  # once, where they differ by a translation
    first = first[np.abs(rotations - whole)[first].max(axis=(1, 2)) < SAME_SITE]
    images = prepared.positions @ whole[first] + (group.translations[first] @ back)[:, None]
    apart = images[:, :, None] - prepared.positions
    near = (np.abs(apart - np.rint(apart)) < SAME_SITE).all(axis=-1)
    near &= prepared.numbers[:, None] == prepared.numbers
    exact = (near.sum(axis=1) == 1).all(axis=1) & (near.sum(axis=2) == 1).all(axis=1)
    return Symmetry(whole[first][exact].astype(np.int64), near[exact].argmax(axis=2))


def is_first(symmetry: Symmetry, bases: NDArray[np.int64], sites: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Of M bases of a crystal's lattice (M, 3, 3), rows of whole numbers, with P of its sites: whether (M, P) no
    operation makes of it a pair that stands before it."""
    keys = _key(bases)
    order = np.argsort(keys)
    moved = _key(np.einsum("mij,gjk->gmik", bases, symmetry.rotations))
    place = np.minimum(np.searchsorted(keys[order], moved), len(keys) - 1)
    of_site = np.full(symmetry.images.shape[1], len(sites))
    of_site[sites] = np.arange(len(sites))
    image = order[place][:, :, None] * len(sites) + of_site[symmetry.images[:, sites]][:, None]
    image[keys[order][place] != moved] = len(keys) * len(sites)
    own = np.arange(len(keys) * len(sites)).reshape(len(keys), len(sites))
    return np.asarray((image >= own).all(axis=0))


def _key(bases: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each basis (..., 3, 3)."""
    return np.asarray((bases.reshape(*bases.shape[:-2], 9) + 64) @ (128 ** np.arange(9, dtype=np.int64)))
