"""Who compares crystals: pymatgen's StructureMatcher, or its compiled twin, behind one interface."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, Protocol

from crystallm.crystal.cell import Cell
from crystallm.crystal.matching.matcher import matcher, rms_distance
from crystallm.crystal.matching.reduced_crystal import Prepared, cannot_match, prepare
from crystallm.crystal.matching.tolerances import Tolerances
from crystallm.crystal.matching.warm_up import warm_up_matcher, warm_up_pymatgen_matcher
from crystallm.crystal.switch import Switch, Way

if TYPE_CHECKING:
    from pymatgen.core import Structure

MatcherName = Literal["compiled", "pymatgen"]


class Matcher(Protocol):
    """Compares crystals. Nothing limits its time: call it in a `Worker`."""

    def distances(
        self, crystals: Sequence[Cell], truth: Cell, tolerances: Sequence[Tolerances]
    ) -> list[list[float | None]]:
        """Root mean square distance of matched atoms over (volume / atoms)^(1/3), for each crystal under each of the
        tolerances; None where the two do not match."""

    def equal(self, crystals: Sequence[Cell], truth: Cell, tolerances: Tolerances) -> Iterator[bool]:
        """Whether each crystal is the same as the truth, by the largest displacement; found when it is asked for."""


class PymatgenMatcher:
    """The reference: every pair is given to pymatgen."""

    def distances(
        self, crystals: Sequence[Cell], truth: Cell, tolerances: Sequence[Tolerances]
    ) -> list[list[float | None]]:
        """See `Matcher`."""
        judges = [matcher(one) for one in tolerances]
        found = (structure_of(crystal) for crystal in crystals)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pymatgen warns of every noble gas that it has no electronegativity
            return [[rms_distance(one, structure_of(truth), by=judge) for judge in judges] for one in found]

    def equal(self, crystals: Sequence[Cell], truth: Cell, tolerances: Tolerances) -> Iterator[bool]:
        """See `Matcher`."""
        judge = matcher(tolerances)
        return (bool(judge.fit(structure_of(one), structure_of(truth))) for one in crystals)


class CompiledMatcher:
    """The accelerator: each crystal is reduced once, and all candidates of a truth are judged together.

    The largest displacement is pymatgen's to judge, but only where the root mean square one, which is smaller, is
    within tolerance.
    """

    def distances(
        self, crystals: Sequence[Cell], truth: Cell, tolerances: Sequence[Tolerances]
    ) -> list[list[float | None]]:
        """See `Matcher`."""
        from crystallm.crystal.matching.displacement import rms_of_many  # it needs numba

        reduced = prepared_truth(truth)
        able = [place for place, crystal in enumerate(crystals) if cannot_match(crystal, reduced) is None]
        found: list[list[float | None]] = [[None] * len(tolerances) for _ in crystals]
        distances = rms_of_many([prepare(crystals[place]) for place in able], reduced, tolerances)
        for place, values in zip(able, distances, strict=True):
            found[place] = values
        return found

    def equal(self, crystals: Sequence[Cell], truth: Cell, tolerances: Tolerances) -> Iterator[bool]:
        """See `Matcher`."""
        near = self.distances(crystals, truth, [tolerances])
        fits = PymatgenMatcher().equal
        return (
            rms is not None and next(fits([one], truth, tolerances)) for one, (rms,) in zip(crystals, near, strict=True)
        )


@lru_cache(maxsize=256)
def structure_of(cell: Cell) -> Structure:
    """A crystal as pymatgen's matcher takes it; the same object for the same cell, as long as it is at hand."""
    return cell.to_structure()


@lru_cache(maxsize=1024)
def prepared_truth(cell: Cell) -> Prepared:
    """A crystal reduced as the matcher does, once however often it is compared."""
    return prepare(cell)


MATCHERS: Switch[Matcher] = Switch(
    "matcher",
    reference=Way("pymatgen", "pymatgen's StructureMatcher", ("pymatgen",), PymatgenMatcher, warm_up_pymatgen_matcher),
    accelerator=Way(
        "compiled",
        "the compiled twin of pymatgen's StructureMatcher",
        ("pymatgen", "numba", "scipy"),
        CompiledMatcher,
        warm_up_matcher,
    ),
)
"""`crystallm eval score --compare-plain` measures how often both say the same."""
