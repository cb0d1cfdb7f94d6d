"""Distances while a crystal is being written: which sites cannot stay, and which coordinates never could."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element

from crystallm.crystal.cell import Cell, lattice_from_parameters
from crystallm.crystal.checks.radii import empty_range, expected_length
from crystallm.crystal.description import Site
from crystallm.crystal.formulas.composition import element_order
from crystallm.crystal.wyckoff import space_group
from crystallm.sample.decoding.loops import FITS, TOO_CLOSE, intervals_without_room, place_orbit

SHORTEST_DISTANCE_ANGSTROM = 0.5
"""No two atoms come closer, whatever their radii: closer ones would be one atom on a position of higher symmetry."""


class Refusal(StrEnum):
    """Why sites, or with BONDS and DENSITY whole crystals, were drawn again."""

    TOO_CLOSE = "atoms too close"
    BETWEEN = "nonmetals neither bonded nor apart"
    HIGHER_SYMMETRY = "symmetry higher than written"
    BONDS = "bonds of unreasonable length"
    DENSITY = "implausible density"


@cache
def shortest_distance(first: str, second: str, contact: float) -> float:
    """Least distance in angstrom of two elements: `contact` times their expected bond length, and never below 0.5."""
    expected = expected_length(Element(first), Element(second)) if contact else None
    return max(contact * (expected or 0.0), SHORTEST_DISTANCE_ANGSTROM)


@cache
def _limits(first: str, second: str, contact: float) -> tuple[float, float, float]:
    """The least distance of two elements, and the ends of the range in which they never stand (0, 0 without one)."""
    empty = empty_range(Element(first), Element(second)) if contact else None
    return (shortest_distance(first, second, contact), *(empty or (0.0, 0.0)))


@dataclass(frozen=True, eq=False)
class Distances:
    """Of each pair of E elements the least distance, and from where to where none is (0, 0 without a range): (E, E, 3),
    in angstrom and squared."""

    limits: NDArray[np.float64]
    squares: NDArray[np.float64]
    numbers: NDArray[np.int64]
    """Atomic numbers (E,)."""


@lru_cache(maxsize=1024)
def _distances(elements: tuple[str, ...], contact: float) -> Distances:
    limits = np.array([[_limits(one, other, contact) for other in elements] for one in elements], dtype=np.float64)
    numbers = np.array([element_order(element)[1] for element in elements])
    return Distances(limits, limits**2, numbers)


class Surroundings:
    """The atoms placed so far in a cell, orbit by orbit in the order of the sites."""

    def __init__(self, number: int, cell: tuple[float, ...], contact: float) -> None:
        self.group, self.contact = space_group(number), contact
        self.lattice = lattice_from_parameters(cell)
        self._elements: tuple[str, ...] = ()
        """Those met so far, each once."""
        self._distances = _distances((), contact)
        self._ends = [0]
        """Atoms placed before each site, and with all."""
        self._atoms = np.empty((64, 3))
        """Fractional coordinates of the first `n_atoms`, and room for more."""
        self._kinds = np.empty(64, dtype=np.int64)
        """Places of their elements."""

    @property
    def n_sites(self) -> int:
        """Sites placed."""
        return len(self._ends) - 1

    @property
    def n_atoms(self) -> int:
        """Atoms placed in the conventional cell."""
        return self._ends[-1]

    @property
    def first_atoms(self) -> Sequence[int]:
        """One atom of each site, in order; the others of its orbit are equivalent to it."""
        return self._ends[:-1]

    def cell(self) -> Cell:
        """All atoms placed, in the order of the sites."""
        numbers = self._distances.numbers[self._kinds[: self.n_atoms]]
        return Cell(self.lattice, self._atoms[: self.n_atoms].copy(), numbers)

    def keep(self, n_sites: int) -> None:
        """Take away all but the first sites."""
        del self._ends[n_sites + 1 :]

    def place(self, site: Site) -> Refusal | None:
        """Place a site, or tell why it cannot stand there: too close to atoms placed before or to its own images, or at
        a distance at which nonmetals do not stand."""
        position = self.group.positions[site.letter]
        maps = self.group.orbit_maps(site.letter)
        kind, first = self._kind_of(site.element), self.n_atoms
        end = first + len(maps[0])
        while end > len(self._atoms):
            self._atoms, self._kinds = np.concatenate([self._atoms] * 2), np.concatenate([self._kinds] * 2)
        free = np.array(site.free, dtype=np.float64)
        atoms, kinds, squares = self._atoms, self._kinds, self._distances.squares
        orbit = (*maps, position.matrix, position.offset, free)
        verdict = place_orbit(orbit, atoms, kinds, first, kind, self.lattice, squares)
        if verdict != FITS:
            return Refusal.TOO_CLOSE if verdict == TOO_CLOSE else Refusal.BETWEEN
        self._ends.append(end)
        return None

    def hopeless(self, element: str, letter: str, starts: Sequence[float]) -> NDArray[np.bool_]:
        """For a position with one free coordinate: whether no coordinate from each of the starts (K,) to the next, at
        equal steps, can be placed.

        Between the middle and the ends of such an interval no distance changes by more than half the step times the
        speed at which the two atoms move apart. Only the nearest image by coordinates is looked at: what is told to be
        hopeless is, in skewed cells some of it is not told.
        """
        position = self.group.positions[letter]
        step = starts[1] - starts[0]
        rotations, translations = self.group.orbit_maps(letter)
        axis = position.matrix[:, 0]
        # Points (J, 3) of atoms seen from the representative when the coordinate is zero, and how they move with it.
        images = rotations @ position.offset + translations
        base = np.concatenate([self._atoms[: self.n_atoms], images[1:]]) - position.offset
        moves = np.concatenate([np.tile(-axis, (self.n_atoms, 1)), rotations[1:] @ axis - axis])
        speeds = np.sqrt(((moves @ self.lattice) ** 2).sum(axis=-1))
        kind = self._kind_of(element)
        kinds = np.concatenate([self._kinds[: self.n_atoms], np.full(len(images) - 1, kind)])
        limits = np.ascontiguousarray(self._distances.limits[kind, kinds].T)
        middles = np.asarray(starts) + step / 2
        refused: NDArray[np.bool_] = intervals_without_room(
            base, moves, speeds, middles, step / 2, self.lattice, limits
        )
        return refused

    def _kind_of(self, element: str) -> int:
        """The place of an element among those met."""
        if element not in self._elements:
            self._elements += (element,)
            self._distances = _distances(self._elements, self.contact)
        return self._elements.index(element)
