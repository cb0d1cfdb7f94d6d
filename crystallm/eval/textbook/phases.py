"""The textbook's phases: formula, the space groups that count, and the density of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crystallm.base.errors import InputError
from crystallm.eval.sets.benchmark import PLACES

FILE = "textbook.jsonl"

VERSION = 1
"""Of the list and of what counts as right; a change of either raises it, old reports keep theirs."""

DENSITY_TOLERANCE = 0.08
"""Largest difference of a density from the phase's, as a part of it."""


@dataclass(frozen=True)
class Phase:
    """A phase that nature makes at ambient conditions."""

    space_group: int
    """Number found at 0.1 angstrom."""
    densities: tuple[float, ...]
    """g/cm3; of observed crystals of this group, or of a handbook."""
    source: str
    """Ids of the crystals, or the handbook."""

    def has(self, space_group: int, density: float) -> bool:
        """Whether a crystal of this space group and density (g/cm3) is this phase."""
        near = (abs(density / one - 1) <= DENSITY_TOLERANCE for one in self.densities)
        return space_group == self.space_group and any(near)


@dataclass(frozen=True)
class Compound:
    """A formula and its phases; any of them is right."""

    formula: str
    phases: tuple[Phase, ...]

    def is_right(self, space_group: int, density: float) -> bool:
        """Whether a crystal is one of the phases."""
        return any(phase.has(space_group, density) for phase in self.phases)


def read_compounds(path: Path | None = None) -> list[Compound]:
    """The compounds of the benchmark.

    Args:
        path: another list, a JSON object a line with `formula` and `phases` (`space_group`, `densities`, `source`).

    Returns:
        The compounds in the order of the list.

    Raises:
        InputError: a line cannot be used.

    Example:
        >>> next(one for one in read_compounds() if one.formula == "NaCl").phases[0].space_group
        225
    """
    path = path or next((place / FILE for place in PLACES if (place / FILE).is_file()), PLACES[-1] / FILE)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    compounds = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            phases = tuple(
                Phase(int(one["space_group"]), tuple(map(float, one["densities"])), str(one["source"]))
                for one in row["phases"]
            )
            compounds.append(Compound(str(row["formula"]), phases))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}, line {number}: no formula with phases ({error!r})") from error
    return compounds


def formulas(compounds: Sequence[Compound]) -> list[str]:
    """Their formulas, as they are typed."""
    return [compound.formula for compound in compounds]
