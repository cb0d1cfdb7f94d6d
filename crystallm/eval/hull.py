"""Energy above a convex hull of reference energies; one potential, one hull."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from crystallm.crystal.composition import Amounts
from crystallm.eval.reference import elements_of

Key = TypeVar("Key")

System = frozenset[str]
"""The elements of a chemical system."""


@dataclass(frozen=True)
class NoHull:
    """Why there is no hull for a chemical system."""

    reason: str


@dataclass(frozen=True)
class Hull(Generic[Key]):
    """The lower convex hull of a chemical system."""

    diagram: PhaseDiagram

    def above(self, amounts: Amounts, energy_per_atom: float) -> float:
        """Energy of a crystal above the hull in eV per atom; negative where it would be a new vertex."""
        composition = Composition(dict(amounts))
        return float(energy_per_atom - self.diagram.get_hull_energy_per_atom(composition))

    def below(self, amounts: Amounts) -> list[Key]:
        """The references into which a crystal of this composition would fall apart: they make the hull there."""
        return [entry.attribute for entry in self.diagram.get_decomposition(Composition(dict(amounts)))]


def make_hull(system: System, energies: Iterable[tuple[Key, Amounts, float]]) -> Hull[Key] | NoHull:
    """The hull of a system from (key, reduced formula, eV per atom) of references inside it.

    Each element needs a reference of its own: there is no formation energy without it.
    """
    entries = []
    for key, amounts, energy in energies:
        composition = Composition(dict(amounts))
        entries.append(PDEntry(composition, energy * composition.num_atoms, attribute=key))
    known = {next(iter(entry.composition)).symbol for entry in entries if len(entry.composition) == 1}
    missing = sorted(system - known)
    if missing:
        return NoHull(f"no reference energy of {', '.join(missing)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns about electronegativities of noble gases
        return Hull(PhaseDiagram(entries, elements=[Element(symbol) for symbol in sorted(system)]))


def formulas_by_system(formulas: Iterable[Amounts], systems: Iterable[System]) -> Mapping[System, list[Amounts]]:
    """For each system the formulas made of its elements only."""
    grouped: dict[System, list[Amounts]] = {}
    for amounts in formulas:
        grouped.setdefault(elements_of(amounts), []).append(amounts)
    return {
        system: [amounts for inner, found in grouped.items() if inner <= system for amounts in found]
        for system in set(systems)
    }
