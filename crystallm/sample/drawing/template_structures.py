"""Which of the templates of a prompt are one and the same structure, and the same as a crystal that was drawn."""

from __future__ import annotations

from collections.abc import Sequence

from crystallm.crystal.description import Description, expand
from crystallm.crystal.matching.duplicates import are_near
from crystallm.crystal.matching.own_symmetry import prepare_built
from crystallm.crystal.matching.reduced_crystal import Prepared, prepare

FEW_COORDINATES = 6
"""Crystals of one protostructure with so many free coordinates at most are the same structure, whatever the numbers."""

Protostructure = tuple[int, int, tuple[tuple[str, str], ...]]


def protostructure(crystal: Description) -> Protostructure:
    """Formula units, space group, and the Wyckoff letters of each element in order."""
    sites = tuple((site.element, site.letter) for site in crystal.sites)
    return crystal.formula_units, crystal.space_group, sites


class Structures:
    """Crystals of one formula, told apart by protostructure and those of one protostructure by the root mean square
    displacement that the structure matcher finds.

    They are compared when they are asked for: most draws have protostructures of their own.
    """

    def __init__(self, crystals: Sequence[Description]) -> None:
        self._crystals = crystals
        self._of: dict[Protostructure, list[int]] = {}
        for number, crystal in enumerate(crystals):
            self._of.setdefault(protostructure(crystal), []).append(number)
        self._found: dict[Description, list[int]] = {}
        self._groups: dict[Protostructure, list[tuple[Prepared, list[int]]]] = {}

    def like(self, made: Description) -> list[int]:
        """Numbers of the crystals that are the same structure as this one."""
        if made not in self._found:
            self._found[made] = self._like(made)
        return self._found[made]

    def _like(self, made: Description) -> list[int]:
        kind = protostructure(made)
        numbers = self._of.get(kind, [])
        if not numbers or sum(len(site.free) for site in made.sites) <= FEW_COORDINATES:
            return numbers
        if kind not in self._groups:
            self._groups[kind] = self._grouped(numbers)
        groups = self._groups[kind]
        near = are_near([leader for leader, _ in groups], prepare(expand(made)))
        return sorted(number for (_, own), is_near in zip(groups, near, strict=True) if is_near for number in own)

    def _grouped(self, numbers: Sequence[int]) -> list[tuple[Prepared, list[int]]]:
        """Groups of equal crystals, each with its first one; a crystal joins the first group whose first it matches."""
        groups: list[tuple[Prepared, list[int]]] = []
        for number in numbers:
            crystal = prepare_built(self._crystals[number])
            near = are_near([leader for leader, _ in groups], crystal)
            if any(near):
                groups[near.index(True)][1].append(number)
            else:
                groups.append((crystal, [number]))
        return groups
