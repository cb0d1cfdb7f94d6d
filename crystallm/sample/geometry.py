"""Distances while a crystal is being written: which sites cannot stay, and which coordinates never could."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element

from crystallm.crystal.cell import Cell, lattice_from_parameters
from crystallm.crystal.composition import element_order
from crystallm.crystal.description import Site
from crystallm.crystal.radii import empty_range, expected_length
from crystallm.crystal.wyckoff import space_group
from crystallm.sample.loops import FITS, TOO_CLOSE, intervals_without_room, orbit_of, place_of_site

SHORTEST_DISTANCE_ANGSTROM = 0.5
"""No two atoms come closer, whatever their radii: closer ones would be one atom on a position of higher symmetry."""

_IMAGES = np.array(np.meshgrid(*[[-1.0, 0.0, 1.0]] * 3, indexing="ij")).reshape(3, -1).T


class Refusal(StrEnum):
    """Why sites, or with BONDS whole crystals, were drawn again."""

    TOO_CLOSE = "atoms too close"
    BETWEEN = "nonmetals neither bonded nor apart"
    HIGHER_SYMMETRY = "symmetry higher than written"
    BONDS = "bonds of unreasonable length"


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


class Surroundings:
    """The atoms placed so far in a cell: orbits (M, 3) of fractional coordinates, in the order of the sites."""

    def __init__(self, number: int, cell: tuple[float, ...], contact: float) -> None:
        self.group, self.contact = space_group(number), contact
        self.lattice = lattice_from_parameters(cell)
        # Where a lattice point stands in the cells around, (27, 3), and how far away, squared.
        self.images = _IMAGES @ self.lattice
        self.lengths = (self.images**2).sum(-1)
        self.elements: list[str] = []
        self.orbits: list[NDArray[np.float64]] = []

    @property
    def n_sites(self) -> int:
        """Sites placed."""
        return len(self.orbits)

    @property
    def n_atoms(self) -> int:
        """Atoms placed in the conventional cell."""
        return sum(map(len, self.orbits))

    def cell(self) -> Cell:
        """All atoms placed, in the order of the sites."""
        numbers = [element_order(element)[1] for element in self.elements]
        return Cell(
            self.lattice, np.concatenate(self.orbits), np.repeat(numbers, [len(orbit) for orbit in self.orbits])
        )

    def keep(self, n_sites: int) -> None:
        """Take away all but the first sites."""
        del self.elements[n_sites:], self.orbits[n_sites:]

    def place(self, site: Site) -> Refusal | None:
        """Place a site, or tell why it cannot stand there: too close to atoms placed before or to its own images, or at
        a distance at which nonmetals do not stand."""
        position = self.group.positions[site.letter]
        free = np.array(site.free, dtype=np.float64)
        orbit = orbit_of(*self.group.orbit_maps[site.letter], position.matrix, position.offset, free)
        atoms = np.concatenate([*self.orbits, orbit])
        limits = self._limits_of(site.element, len(orbit))[1]
        verdict = place_of_site(atoms, self.n_atoms, self.lattice, self.images, self.lengths, limits)
        if verdict != FITS:
            return Refusal.TOO_CLOSE if verdict == TOO_CLOSE else Refusal.BETWEEN
        self.elements.append(site.element)
        self.orbits.append(orbit)
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
        rotations, translations = self.group.orbit_maps[letter]
        axis = position.matrix[:, 0]
        # Points (J, 3) of atoms seen from the representative when the coordinate is zero, and how they move with it.
        images = rotations @ position.offset + translations
        base = np.concatenate([*self.orbits, images[1:]]) - position.offset
        moves = np.concatenate([np.tile(-axis, (self.n_atoms, 1)), rotations[1:] @ axis - axis])
        speeds = np.sqrt(((moves @ self.lattice) ** 2).sum(axis=-1))
        limits = np.ascontiguousarray(self._limits_of(element, len(images))[0][:, :-1])
        middles = np.asarray(starts) + step / 2
        refused: NDArray[np.bool_] = intervals_without_room(
            base, moves, speeds, middles, step / 2, self.lattice, limits
        )
        return refused

    def _limits_of(self, element: str, n_own: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Least distance, and from where to where none may be, (3, J), and their squares: to the atoms placed and to
        `n_own` like it."""
        return _limits_to(element, (*self.elements, element), (*map(len, self.orbits), n_own), self.contact)


@lru_cache(maxsize=1024)
def _limits_to(
    element: str, others: tuple[str, ...], counts: tuple[int, ...], contact: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For a site that is drawn again its surroundings are the same."""
    limits = np.ascontiguousarray(np.repeat([_limits(element, other, contact) for other in others], counts, axis=0).T)
    return limits, limits**2
