"""The task of making one crystal: its automaton, and what is refused while its sites are placed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element

from crystallm.crystal.cell import lattice_from_parameters
from crystallm.crystal.description import expand, site_orbit
from crystallm.crystal.radii import empty_range, expected_length
from crystallm.crystal.symmetry import space_group_number
from crystallm.crystal.wyckoff import space_group
from crystallm.sample.constraint import Partial, Prompt, Walk
from crystallm.sample.grammar import Constraint

SHORTEST_DISTANCE_ANGSTROM = 0.5
"""No two atoms come closer, whatever their radii: closer ones would be one atom on a position of higher symmetry."""

_IMAGES = np.array(np.meshgrid(*[[-1.0, 0.0, 1.0]] * 3, indexing="ij")).reshape(3, -1).T


class Refusal(StrEnum):
    """Why sites were drawn again."""

    TOO_CLOSE = "atoms too close"
    BETWEEN = "nonmetals neither bonded nor apart"
    HIGHER_SYMMETRY = "symmetry higher than written"


@cache
def shortest_distance(first: str, second: str, contact: float) -> float:
    """Least distance in angstrom of two elements: `contact` times their expected bond length, and never below 0.5."""
    expected = expected_length(Element(first), Element(second)) if contact else None
    return max(contact * (expected or 0.0), SHORTEST_DISTANCE_ANGSTROM)


@cache
def _empty_squares(first: str, second: str) -> tuple[float, float]:
    """Squares of the distances between which two elements never stand; no such distances if the second is zero."""
    low, high = empty_range(Element(first), Element(second)) or (0.0, 0.0)
    return low**2, high**2


@dataclass
class CrystalTask:
    """One crystal of a prompt. `number` tells the samples of a prompt apart; `contact` is that of SampleConfig."""

    grammar: Constraint
    prompt: Prompt
    prompt_index: int
    number: int
    contact: float = 0.0
    partial: Partial = field(default_factory=Partial)
    _placed: list[NDArray[np.float64]] = field(default_factory=list)

    def start(self) -> Walk:
        """A fresh automaton over the texts that the prompt allows."""
        self.partial = Partial()
        self._placed = []
        return self.grammar.walk(self.prompt, self.partial)

    def level(self) -> int:
        """What the next choice belongs to, as a Stage of the text."""
        return self.partial.stage

    def sections(self) -> int:
        """Complete sites."""
        return len(self.partial.sites)

    def refusal(self, since: int) -> Refusal | None:
        """Why the sites after the first `since` cannot stay: too close to atoms placed before or to their own images,
        at a distance at which nonmetals do not stand, or the crystal is complete and has a higher symmetry than was
        written. None if they can."""
        group = space_group(self.partial.space_group)
        lattice = lattice_from_parameters(self.partial.cell)
        images = _IMAGES @ lattice
        lengths = (images**2).sum(-1)
        del self._placed[since:]
        for place in range(len(self._placed), len(self.partial.sites)):
            site = self.partial.sites[place]
            orbit = site_orbit(group, site)
            others = np.concatenate([*self._placed, orbit])
            delta = others - orbit[0]
            delta -= np.round(delta)
            delta = delta @ lattice
            # |delta + image|^2, (atoms, images)
            squares = 2 * delta @ images.T + (delta**2).sum(-1, keepdims=True) + lengths
            own = len(others) - len(orbit)  # the atom itself, in its own cell
            squares[own, len(_IMAGES) // 2] = np.inf
            least = [shortest_distance(site.element, other.element, self.contact) for other in self.partial.sites]
            counts = [*map(len, self._placed), len(orbit)]
            if (squares.min(-1) < np.repeat(least[: len(counts)], counts) ** 2).any():
                return Refusal.TOO_CLOSE
            empty = [_empty_squares(site.element, other.element) for other in self.partial.sites[: len(counts)]]
            if self.contact and any(high for _, high in empty):
                low, high = np.repeat(empty, counts, axis=0).T[:, :, None]
                if ((squares > low) & (squares < high)).any():
                    return Refusal.BETWEEN
            self._placed.append(orbit)
        return Refusal.HIGHER_SYMMETRY if self._complete() and not self._keeps_symmetry() else None

    def _complete(self) -> bool:
        partial, group = self.partial, space_group(self.partial.space_group)
        wanted = partial.formula_units * group.centring_order * sum(amount for _, amount in partial.amounts)
        return sum(map(len, self._placed)) == wanted

    def _keeps_symmetry(self) -> bool:
        """Whether the finished crystal has the space group written, and not one of higher symmetry.

        By spglib: moyopy 0.21 does not come back from some of the odd cells that an untrained model draws.
        """
        description = self.partial.description()
        return space_group_number(expand(description)) == description.space_group
