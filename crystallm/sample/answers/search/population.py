"""The distinct crystals that a search has found, and from which of them it goes on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from crystallm.crystal.description import Description
from crystallm.sample.answers.search.kicks import volume_per_atom

SAME_EV = 0.001
"""Energies per atom that are closer, in crystals of nearly one volume, are of one crystal, whatever group it is in."""

SAME_VOLUME = 0.005
"""Largest difference of the volumes of one crystal, as a share."""

SPREAD_EV = 0.030
"""A parent is chosen with exp(-energy above the lowest / this), in eV per atom."""


@dataclass(frozen=True)
class Minimum:
    """A crystal that a search knows; energies in eV per atom."""

    description: Description
    energy: float
    passed: bool
    """Whether it passes all checks of a crystal."""
    made_by: str = ""
    """The move that made it; empty for one that the search began with."""
    number: int = -1
    """Of the trial."""
    as_given: float | None = None
    converged: bool = False
    volume_ratio: float | None = None

    @property
    def volume(self) -> float:
        """Cubic angstrom per atom."""
        return volume_per_atom(self.description)


class Population:
    """Distinct minima; one that passes the checks replaces an equal one that does not."""

    def __init__(self, minima: Iterable[Minimum] = ()) -> None:
        self.minima: list[Minimum] = []
        self._used: dict[int, int] = {}
        for minimum in minima:
            self.add(minimum)

    def add(self, minimum: Minimum) -> bool:
        """Take in a minimum; False if an equal one is known."""
        place = self.place_of(minimum.energy, minimum.volume)
        if place is None:
            self.minima.append(minimum)
            return True
        if minimum.passed and not self.minima[place].passed:
            self.minima[place] = minimum
        return False

    def place_of(self, energy: float, volume: float) -> int | None:
        """Where a crystal of this energy (eV/atom) and volume (cubic angstrom per atom) is; None if it is not known."""
        for place, one in enumerate(self.minima):
            if abs(one.energy - energy) < SAME_EV and abs(one.volume / volume - 1) < SAME_VOLUME:
                return place
        return None

    @property
    def lowest(self) -> Minimum | None:
        """The lowest one that passes the checks; the lowest of all where none does."""
        passed = [one for one in self.minima if one.passed]
        return min(passed or self.minima, key=lambda one: one.energy, default=None)

    def choose(self, rng: np.random.Generator) -> Minimum:
        """A parent: low ones more often than high ones, and those that were chosen often less."""
        energies = np.array([one.energy for one in self.minima])
        used = np.array([self._used.get(place, 0) for place in range(len(energies))])
        weights = np.exp(-(energies - energies.min()) / SPREAD_EV) / np.sqrt(1 + used)
        place = int(rng.choice(len(weights), p=weights / weights.sum()))
        self._used[place] = self._used.get(place, 0) + 1
        return self.minima[place]
