"""Symmetry operators as CIFs list them: from 'x,y,z+1/2' to groups of matrices, and what they do to a cell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

import gemmi
import numpy as np
import spglib
from numpy.typing import NDArray

ROUNDED = 0.006
"""Translations are written as 0.333, 0.33 or 0.17: closer than this to n/24 they are n/24."""

FINEST = 16
"""Denominators of other translations (centrings of magnetic cells), taken where a fraction is near."""

STEPS = 5040
"""Divisible by 24, 5, 7 and 9: translations are compared in units of 1/5040, rounded."""

LETTERS = frozenset("xyz0123456789+-/., \t\n")
"""What operators are written with."""

LARGEST = 3
"""Elements of a rotation are at most this, also in odd primitive cells."""


@dataclass(frozen=True, eq=False)
class Operations:
    """The operations of a space group in the coordinates of its cell.

    rotations: (G, 3, 3) whole numbers as floats. translations: (G, 3) in [0, 1).
    """

    rotations: NDArray[np.float64]
    translations: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rotations)

    @cached_property
    def key(self) -> frozenset[int]:
        """Equal for equal groups, whatever the order; a subset for a subgroup."""
        return frozenset(_codes(self.rotations, self.translations).tolist())

    @cached_property
    def number(self) -> int:
        """Number of the space group, 0 where it cannot be told."""
        try:
            found = spglib.get_spacegroup_type_from_symmetry(self.rotations.astype("intc"), self.translations)
        except spglib.SpglibError:
            return 0
        return 0 if found is None else int(found.number)

    def strain(self, lattice: NDArray[np.float64]) -> float:
        """How far the operations are from isometries of a lattice (3, 3) of rows.

        Returns:
            The largest |R^T G R - G|_ij / (|a_i| |a_j|) over all rotations R, where G is the metric tensor: about twice
            the relative difference of lengths, or the difference of angles in radians.
        """
        metric = lattice @ lattice.T
        moved = np.swapaxes(self.rotations, 1, 2) @ metric @ self.rotations
        scale = np.sqrt(np.diag(metric))
        return float((np.abs(moved - metric) / np.outer(scale, scale)).max())


@lru_cache(maxsize=1024)
def operations_of(triplets: tuple[str, ...], *, generators: bool = False) -> Operations | str:
    """The group of a list of operators.

    Args:
        triplets: As files write them: 'x,y,z+1/2', '1/2+X, -Y, Z', 'x, x-y, z+0.3333'. Repeats are left out and the
            identity is added.
        generators: Whether the list only generates the group.

    Returns:
        The group, or a sentence saying why the list is none.

    Example:
        >>> len(operations_of(("x,y,z", "-x,-y,-z")))
        2
        >>> operations_of(("x,y,z", "-y,x,z"))
        'the 2 operators do not form a group: 4 follow from them'
    """
    parsed = [(np.eye(3), np.zeros(3))]
    for text in triplets:
        operation = operation_of(text)
        if operation is None:
            return f"{text!r} is no symmetry operator"
        parsed.append(operation)
    listed = _unique(Operations(np.array([r for r, _ in parsed]), np.array([t for _, t in parsed])))
    group = generated(listed)
    if group is None:
        return f"the {len(listed)} operators do not form a group"
    if len(group) > len(listed) and not generators:
        return f"the {len(listed)} operators do not form a group: {len(group)} follow from them"
    return group


@lru_cache(maxsize=8192)
def operation_of(text: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Rotation (3, 3) and translation (3,) of one operator, None if it is none."""
    plain = text.strip().strip("'\"").strip().strip("()[]").lower().replace("*", "")
    if plain.count(",") != 2 or not LETTERS.issuperset(plain) or re.search(r"/\s*(?:0|[^\d\s])", plain):
        return None
    try:
        parsed = gemmi.Op(plain)
        rotation = np.array(parsed.rot, dtype=np.float64) / gemmi.Op.DEN
        translation = np.array(parsed.tran, dtype=np.float64) / gemmi.Op.DEN
    except (RuntimeError, ValueError):  # gemmi knows translations of n/24 only
        other = _operation_with_other_translation(plain)
        if other is None:
            return None
        rotation, translation = other
    whole = np.allclose(rotation, np.rint(rotation)) and np.abs(rotation).max() <= LARGEST
    if not whole or abs(abs(np.linalg.det(rotation)) - 1) > 1e-6:
        return None
    return rotation, translation % 1.0


def _operation_with_other_translation(plain: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    from pymatgen.core.operations import SymmOp  # only for the few files that need it

    try:
        matrix = np.array(SymmOp.from_xyz_str(plain).affine_matrix)
    except (ValueError, ZeroDivisionError):
        return None
    return matrix[:3, :3], np.array([_rational(value) for value in matrix[:3, 3]])


def _rational(value: float) -> float:
    near = round(value * 24) / 24
    if abs(near - value) < ROUNDED:
        return near
    other = float(Fraction(value).limit_denominator(FINEST))
    return other if abs(other - value) < ROUNDED / 2 else value


def generated(listed: Operations, limit: int = 1024) -> Operations | None:
    """The group that operations generate, None if it has more than `limit` operations: no crystal does."""
    found = listed
    while True:
        products = Operations(
            (found.rotations[:, None] @ listed.rotations).reshape(-1, 3, 3),
            (np.einsum("gij,hj->ghi", found.rotations, listed.translations) + found.translations[:, None]).reshape(
                -1, 3
            ),
        )
        more = _unique(products)
        if len(more) == len(found):
            return found
        if len(more) > limit:
            return None
        found = more


def _unique(operations: Operations) -> Operations:
    """Without repeats, in order; translations into [0, 1)."""
    translations = operations.translations % 1.0
    _, first = np.unique(_codes(operations.rotations, translations), return_index=True)
    order = np.sort(first)
    return Operations(operations.rotations[order], translations[order])


def _codes(rotations: NDArray[np.float64], translations: NDArray[np.float64]) -> NDArray[np.int64]:
    linear = (np.rint(rotations).astype(np.int64).reshape(-1, 9) + LARGEST) @ ((2 * LARGEST + 1) ** np.arange(9))
    steps = np.rint(translations * STEPS).astype(np.int64) % STEPS
    return np.asarray(linear * STEPS**3 + steps @ (STEPS ** np.arange(3)))
