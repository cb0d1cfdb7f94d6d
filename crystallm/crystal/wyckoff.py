"""Space groups and their Wyckoff positions in the standard setting (axis b, cell choice 1, hexagonal axes, origin 2).

The letters, multiplicities and representative coordinates come from moyopy, the letters that are required from these
(see `wyckoff_builder`); the operations are asked from moyopy at run time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

import moyopy
import numpy as np
from numpy.typing import NDArray

ALPHABET = "abcdefghijklmnopqrstuvwxyzA"
"""Wyckoff letters in order; only Pmmm (47) needs the last one."""

GRID = 24
"""All constants in Wyckoff coordinates and all translations are multiples of 1/24."""

REPEAT_STEPS = 1_000_000
"""Points that agree in so many steps of a cell's edge are one and the same, before any distance is measured."""


def affine_expression(coordinates: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matrix (3, 3) over x, y, z and offset (3,) of an expression such as 'x,-x+1/2,1/4'."""
    matrix, offset = np.zeros((3, 3)), np.zeros(3)
    for row, term in enumerate(coordinates.replace(" ", "").split(",")):
        for piece in term.replace("-", "+-").split("+"):
            if not piece:
                continue
            if piece[-1] in "xyz":
                factor = piece[:-1]
                matrix[row, "xyz".index(piece[-1])] += (
                    {"": 1.0, "-": -1.0}[factor] if factor in ("", "-") else float(factor)
                )
            else:
                numerator, _, denominator = piece.partition("/")
                offset[row] += float(numerator) / float(denominator or 1)
    return matrix, offset


@dataclass(frozen=True, eq=False)
class WyckoffPosition:
    """One Wyckoff position: representative point = matrix @ free + offset.

    matrix: (3, F) for F free coordinates. offset: (3,). multiplicity counts points in the conventional cell.
    """

    letter: str
    multiplicity: int
    coordinates: str
    free_axes: tuple[int, ...]
    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]

    @property
    def n_free(self) -> int:
        """Number of free coordinates, 0 to 3."""
        return len(self.free_axes)

    @cached_property
    def inverse(self) -> NDArray[np.float64]:
        """A left inverse (F, 3) of the matrix with entries 0 and +-1: free = inverse @ (point - offset), modulo 1.

        Every free coordinate stands alone in some row, so lattice vectors map to whole numbers.
        """
        inverse = np.zeros((self.n_free, 3))
        for column in range(self.n_free):
            alone = np.abs(self.matrix).sum(axis=1) == np.abs(self.matrix[:, column])
            row = int(np.flatnonzero(alone & (np.abs(self.matrix[:, column]) == 1))[0])
            inverse[column, row] = self.matrix[row, column]
        return inverse

    def point(self, free: tuple[float, ...] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Fractional coordinates (3,) of the representative for free coordinates (F,)."""
        return np.asarray(self.matrix @ np.asarray(free, dtype=np.float64) + self.offset)


@dataclass(frozen=True, eq=False)
class SpaceGroup:
    """One of the 230 space groups in the standard setting.

    rotations: (G, 3, 3) and translations: (G, 3) act on fractional coordinates of the conventional cell, centring
    included.
    """

    number: int
    symbol: str
    crystal_system: str
    rotations: NDArray[np.float64]
    translations: NDArray[np.float64]
    centring_order: int
    positions: dict[str, WyckoffPosition]
    required: tuple[frozenset[str], ...]
    """Sets of Wyckoff letters: a crystal that takes no position of one of them has more symmetry than the group,
    whatever its coordinates. Orbits of the other letters alone are non-characteristic (Engel et al. 1984): all atoms of
    Pn-3n lie as in Im-3m unless some are in general position."""
    _orbit_maps: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict, repr=False)
    """Those that have been asked for."""

    @cached_property
    def is_sohncke(self) -> bool:
        """Whether all operations keep handedness, so that a crystal of this group can be chiral."""
        return bool((np.linalg.det(self.rotations) > 0).all())

    @cached_property
    def polar_axes(self) -> tuple[int, ...]:
        """Axes along which the origin is arbitrary (P1: all three; Pm: x and z)."""
        invariant = self.rotations.mean(axis=0)
        return tuple(axis for axis in range(3) if abs(invariant[axis, axis]) > 1e-6)

    def orbit_maps(self, letter: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rotations (M, 3, 3) and translations (M, 3) of operations that give the M equivalent points of a position,
        the identity first."""
        if letter not in self._orbit_maps:
            position = self.positions[letter]
            generic = np.array([0.1327, 0.2719, 0.3941])
            point = position.point(generic[list(position.free_axes)])
            which = different_points(self.rotations @ point + self.translations)
            self._orbit_maps[letter] = self.rotations[which], self.translations[which]
        return self._orbit_maps[letter]

    @cached_property
    def normalizer(self) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]:
        """Maps (rotation (3, 3), translation (3,)) to equivalent descriptions, operations of the group left out.

        The Euclidean normalizer for a metric without accidental symmetry, without reflections of handedness, and
        with the origin fixed along polar axes. The identity comes first.
        """
        return _normalizer(self)


def different_points(points: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices of fractional coordinates (N, 3) without exact repeats, in order, lattice translations left out."""
    steps = np.rint(points * REPEAT_STEPS).astype(np.int64) % REPEAT_STEPS
    _, first = np.unique((steps[:, 0] * REPEAT_STEPS + steps[:, 1]) * REPEAT_STEPS + steps[:, 2], return_index=True)
    return np.asarray(np.sort(first))


@cache
def _table(name: str) -> dict[str, Any]:
    """What a table beside this module says of each space group."""
    with files("crystallm.crystal").joinpath(name).open() as stream:
        table: dict[str, Any] = json.load(stream)
    return table


@cache
def space_group(number: int) -> SpaceGroup:
    """The space group of an International Tables number, 1 to 230. Raises KeyError for another number."""
    positions = {}
    for letter, (multiplicity, coordinates) in _table("wyckoff_positions.json")[str(number)].items():
        full, offset = affine_expression(coordinates)
        axes = tuple(axis for axis in range(3) if full[:, axis].any())
        matrix = np.ascontiguousarray(full[:, axes])
        positions[letter] = WyckoffPosition(letter, multiplicity, coordinates, axes, matrix, offset)
    kind = moyopy.SpaceGroupType(number)
    operations = moyopy.operations_from_number(number, setting=moyopy.Setting.standard())
    primitive = moyopy.operations_from_number(number, setting=moyopy.Setting.standard(), primitive=True)
    return SpaceGroup(
        number=number,
        symbol=kind.hm_short.replace(" ", ""),
        crystal_system=kind.crystal_system.lower(),
        rotations=np.array(operations.rotations, dtype=np.float64),
        translations=np.array(operations.translations),
        centring_order=len(operations) // len(primitive),
        positions=positions,
        required=tuple(map(frozenset, _table("required_letters.json")[str(number)])),
    )


def holohedry(group: SpaceGroup) -> list[NDArray[np.float64]]:
    """Proper rotations of the lattice of the crystal system, in conventional fractional coordinates."""
    holder = {"triclinic": 1, "monoclinic": 3, "orthorhombic": 16, "tetragonal": 89, "hexagonal": 177, "cubic": 207}
    system = group.crystal_system
    if system == "trigonal":
        system = "hexagonal"
    number = 155 if group.symbol.startswith("R") else holder[system]
    operations = moyopy.operations_from_number(number, setting=moyopy.Setting.standard())
    unique = {tuple(np.array(r).ravel().tolist()): np.array(r, dtype=np.float64) for r in operations.rotations}
    return list(unique.values())


def _normalizer(group: SpaceGroup) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]:
    # Everything is done on integers: translations in units of 1/24.
    rotations = np.rint(group.rotations).astype(np.int64)
    translations = np.rint(group.translations * GRID).astype(np.int64)
    members = np.sort(_codes(rotations, translations))
    generators = _generators(rotations, translations)
    steps = np.array(sorted({k * 3 for k in range(8)} | {k * 4 for k in range(6)}))
    polar = list(group.polar_axes)
    axes = [np.zeros(1, dtype=np.int64) if axis in polar else steps for axis in range(3)]
    shifts = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)

    found: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    seen: set[int] = set()
    linear_parts = sorted(
        (np.rint(r).astype(np.int64) for r in holohedry(group)), key=lambda r: not (r == np.eye(3)).all()
    )
    for linear in linear_parts:
        inverse = np.rint(np.linalg.inv(linear)).astype(np.int64)
        kept = shifts
        for which in generators:
            # (P, p)(W, w)(P, p)^-1 = (P W P^-1, P w + p - P W P^-1 p) must again be an operation of the group; when
            # this holds for its generators, the map carries the group onto itself.
            conjugate = linear @ rotations[which] @ inverse
            codes = _codes(conjugate, kept + linear @ translations[which] - kept @ conjugate.T)
            kept = kept[members[np.searchsorted(members, codes) % len(members)] == codes]
        # The same map followed by any operation of the group describes the same crystal: keep one of each coset. The
        # origin along polar axes is fixed elsewhere, so maps that differ only there are the same.
        moves = np.einsum("gij,sj->sgi", rotations, kept) + translations
        moves[..., polar] = 0
        for shift, key, coset in zip(kept, _codes(linear, kept), _codes(rotations @ linear, moves), strict=True):
            if int(key) not in seen:
                found.append((linear.astype(np.float64), shift / GRID))
                seen.update(coset.tolist())
    return tuple(found)


def _codes(rotations: NDArray[np.int64], translations: NDArray[np.int64]) -> NDArray[np.int64]:
    """One whole number for each operation: rotations (..., 3, 3) of -1, 0, 1; translations (..., 3) modulo 24."""
    linear = (rotations.reshape(*rotations.shape[:-2], 9) + 1) @ 3 ** np.arange(9)
    return np.asarray(linear * GRID**3 + translations % GRID @ GRID ** np.arange(3))


def _generators(rotations: NDArray[np.int64], translations: NDArray[np.int64]) -> list[int]:
    """Indices of a few operations whose products are the whole group, lattice translations aside."""
    codes = _codes(rotations, translations)
    order = np.argsort(codes)
    products = _codes(
        rotations[:, None] @ rotations, np.einsum("gij,hj->ghi", rotations, translations) + translations[:, None]
    )
    table = order[np.searchsorted(codes, products, sorter=order)]
    inside = (rotations == np.eye(3)).all((1, 2)) & (translations % GRID == 0).all(1)
    chosen: list[int] = []
    for which in range(len(codes)):
        if inside[which]:
            continue
        chosen.append(which)
        size = 0
        while size < inside.sum():
            size = inside.sum()
            inside[table[inside][:, chosen]] = True
    return chosen
