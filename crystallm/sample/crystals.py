"""The task of making one crystal: its automaton, and what is refused while its sites are placed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.cell import lattice_from_parameters
from crystallm.crystal.description import expand, site_orbit
from crystallm.crystal.symmetry import standardize_number
from crystallm.crystal.wyckoff import space_group
from crystallm.sample.constraint import Grammar, Partial, Prompt, Walk, walk

SHORTEST_DISTANCE_ANGSTROM = 0.5
"""A site that comes closer than this to an atom or to its own images is refused and drawn again."""

_IMAGES = np.array(np.meshgrid(*[[-1.0, 0.0, 1.0]] * 3, indexing="ij")).reshape(3, -1).T


@dataclass
class CrystalTask:
    """One crystal of a prompt. `number` tells the samples of a prompt apart."""

    grammar: Grammar
    prompt: Prompt
    prompt_index: int
    number: int
    shortest_angstrom: float = SHORTEST_DISTANCE_ANGSTROM
    partial: Partial = field(default_factory=Partial)
    _placed: list[NDArray[np.float64]] = field(default_factory=list)

    def start(self) -> Walk:
        """A fresh automaton over the texts that the prompt allows."""
        self.partial = Partial()
        self._placed = []
        return walk(self.grammar, self.prompt, self.partial)

    def sections(self) -> int:
        """Complete sites."""
        return len(self.partial.sites)

    def acceptable(self, since: int) -> bool:
        """Whether the sites after the first `since` keep their distance from all atoms placed before and from
        their own images, so that they neither coincide nor fall onto a position of higher symmetry."""
        group = space_group(self.partial.space_group)
        lattice = lattice_from_parameters(self.partial.cell)
        del self._placed[since:]
        for place in range(len(self._placed), len(self.partial.sites)):
            site = self.partial.sites[place]
            orbit = site_orbit(group, site)
            others = np.concatenate([*self._placed, orbit])
            delta = others - orbit[0]
            delta -= np.round(delta)
            squares = (((delta[:, None] + _IMAGES) @ lattice) ** 2).sum(-1)
            own = len(others) - len(orbit)  # the atom itself, in its own cell
            squares[own, len(_IMAGES) // 2] = np.inf
            if squares.min() < self.shortest_angstrom**2:
                return False
            self._placed.append(orbit)
        return not self._complete() or self._keeps_symmetry()

    def _complete(self) -> bool:
        partial, group = self.partial, space_group(self.partial.space_group)
        wanted = partial.formula_units * group.centring_order * sum(amount for _, amount in partial.amounts)
        return sum(map(len, self._placed)) == wanted

    def _keeps_symmetry(self) -> bool:
        """Whether the finished crystal has the space group written, and not one of higher symmetry."""
        description = self.partial.description()
        return standardize_number(expand(description)) == description.space_group
