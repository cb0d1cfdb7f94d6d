"""Energies of the crystals of one formula: known ones as they are, drawn ones relaxed in a race."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from crystallm.crystal.copies.merging import missing_parents
from crystallm.crystal.description import Description
from crystallm.crystal.symmetry import space_group_symbol
from crystallm.energy.analysis import above
from crystallm.energy.hull.hull import AboveHull, HullTable, NoHull
from crystallm.energy.potentials.protocol import CHGNET, NoEnergy, Potential
from crystallm.energy.relaxation.race import RaceSettings, race
from crystallm.energy.relaxation.relaxation import Relaxed, energies_as_given
from crystallm.sample.answers.kept import KeptRelaxations
from crystallm.sample.answers.merging import Evaluated, candidates
from crystallm.sample.answers.search.population import Minimum
from crystallm.sample.crystal import Crystal, EnergyRecord
from crystallm.sample.prompts import NamedPrompt

REACH_EV = 0.025
"""Known crystals up to this far above the lowest one, eV per atom, are relaxed to be compared."""

LARGEST_CHANGE = 0.12
"""Of the logarithm of the volume of a draw that follows a known crystal; its volume is then known to a few percent.
Those that change by more, layered crystals among them, are nearer to the truth as drawn (decision 20)."""

VOLUME_EXCESS = {CHGNET: 1.015}
"""Volume of relaxed crystals over that of the observed ones they match, median, by potential (decision 20). Functionals
of the generalised gradient approximation, from which it learned, bind too weakly."""

MOST_RELAXED_KNOWN = 6
"""Known crystals that are relaxed for one formula, lowest first."""


@dataclass(frozen=True)
class EnergyJudge:
    """A potential, the hull of its references, and whether drawn crystals are relaxed."""

    potential: Potential
    hull: HullTable | NoHull
    relax: bool = True
    settings: RaceSettings = field(default_factory=RaceSettings)
    kept: KeptRelaxations | None = None
    """What the run has relaxed before."""

    def judge(self, crystals: Sequence[Crystal]) -> list[Crystal]:
        """Crystals of one formula with their energies; drawn ones relaxed, known ones as they are."""
        known = [crystal for crystal in crystals if crystal.known is not None]
        drawn = [crystal for crystal in crystals if crystal.known is None]
        found = {id(crystal): record for crystal, record in zip(known, self._known(known), strict=True)}
        judged = [replace(crystal, energy=found[id(crystal)]) for crystal in known]
        lowest = min((record.lowest for record in found.values() if record.lowest is not None), default=None)
        return [*judged, *self._drawn(drawn, lowest)]

    def parents(self, crystals: Sequence[Crystal]) -> list[Evaluated]:
        """Crystals of higher symmetry, relaxed, that some crystals may be copies of."""
        missing = missing_parents(candidates(crystals))
        return [
            (without_excess(result.after, self.potential.name), self._record(result, description))
            for description, result in zip(missing, self._relaxed(missing, None), strict=True)
            if isinstance(result, Relaxed)
        ]

    def searched(self, item: NamedPrompt, minimum: Minimum) -> Crystal:
        """A crystal that a search has found, with its energies."""
        record = self._placed(minimum.description, minimum.as_given, minimum.energy)
        record = replace(record, converged=minimum.converged, volume_ratio=minimum.volume_ratio)
        found = without_excess(minimum.description, self.potential.name)
        return Crystal(item, found, count=0, energy=record, searched_from=minimum.made_by)

    def _known(self, crystals: Sequence[Crystal]) -> list[EnergyRecord]:
        """Energies of known crystals: those that the library holds, else computed; the lowest relaxed."""
        given = [self._stored(crystal) for crystal in crystals]
        missing = [place for place, (energy, _) in enumerate(given) if energy is None]
        reasons: dict[int, str] = {}
        wanted = [crystals[place].description for place in missing]
        for place, energy in zip(missing, energies_as_given(wanted, self.potential), strict=True):
            if isinstance(energy, NoEnergy):
                reasons[place] = energy.reason
            else:
                given[place] = energy, None
        relaxed = {place: value for place, (_, value) in enumerate(given) if value is not None}
        for place in self._worth_relaxing(given):
            (result,) = self._relaxed([crystals[place].description], None)
            if isinstance(result, Relaxed):
                relaxed[place] = result.energy
        return [
            self._placed(crystal.description, energy, relaxed.get(place), reason=reasons.get(place, ""))
            for place, (crystal, (energy, _)) in enumerate(zip(crystals, given, strict=True))
        ]

    def _stored(self, crystal: Crystal) -> tuple[float | None, float | None]:
        """Energy as given and relaxed that the library holds, if they are of this potential."""
        assert crystal.known is not None
        ours = isinstance(self.hull, HullTable) and self.hull.potential == self.potential.name
        return (crystal.known.energy, crystal.known.relaxed_energy) if ours else (None, None)

    def _worth_relaxing(self, given: Sequence[tuple[float | None, float | None]]) -> list[int]:
        """Known crystals whose relaxed energy is not at hand and could be the lowest."""
        energies = [energy if relaxed is None else relaxed for energy, relaxed in given]
        lowest = min((energy for energy in energies if energy is not None), default=None)
        if lowest is None or not self.relax:
            return []
        near = [
            place
            for place, (energy, relaxed) in enumerate(given)
            if energy is not None and relaxed is None and energy < lowest + REACH_EV
        ]
        return sorted(near, key=lambda place: given[place][0] or 0.0)[:MOST_RELAXED_KNOWN]

    def _drawn(self, crystals: Sequence[Crystal], lowest: float | None) -> list[Crystal]:
        descriptions = [crystal.description for crystal in crystals]
        if not self.relax:
            energies = energies_as_given(descriptions, self.potential)
            return [
                replace(crystal, energy=self._as_given(crystal.description, energy))
                for crystal, energy in zip(crystals, energies, strict=True)
            ]
        results = self._relaxed(descriptions, lowest)
        return [self._moved(crystal, result) for crystal, result in zip(crystals, results, strict=True)]

    def _relaxed(self, descriptions: Sequence[Description], lowest: float | None) -> list[Relaxed | NoEnergy]:
        """Relaxations in a race with each other and a known crystal; those of an earlier run are not made again."""
        found = [None if self.kept is None else self.kept.find(description) for description in descriptions]
        energies = [one.energy for one in found if isinstance(one, Relaxed)]
        missing = [description for description, one in zip(descriptions, found, strict=True) if one is None]

        def keep(place: int, result: Relaxed | NoEnergy) -> None:
            if self.kept is not None:
                self.kept.keep(missing[place], result)

        best = min([*energies, float("inf") if lowest is None else lowest])
        made = iter(race(missing, self.potential, self.settings, lowest=best, on_result=keep) if missing else ())
        return [next(made) if one is None else one for one in found]

    def _moved(self, crystal: Crystal, result: Relaxed | NoEnergy) -> Crystal:
        """A drawn crystal where relaxation has brought it."""
        record = self._record(result, crystal.description)
        if isinstance(result, NoEnergy):
            return replace(crystal, energy=record)
        if _swells(crystal, result):
            given = self._as_given(crystal.description, result.energy_as_given)
            change = f"volume changes by {result.volume_ratio - 1:+.0%} while relaxing"
            return replace(crystal, energy=replace(given, reason=change), flags=(*crystal.flags, "not relaxed"))
        gained = result.gained_space_group
        flags = () if gained is None else (f"has become {space_group_symbol(gained)}",)
        after = without_excess(result.after, self.potential.name)
        return replace(crystal, description=after, energy=record, flags=(*crystal.flags, *flags))

    def _record(self, result: Relaxed | NoEnergy, description: Description) -> EnergyRecord:
        if isinstance(result, NoEnergy):
            return EnergyRecord(self.potential.name, reason=result.reason)
        record = self._placed(description, result.energy_as_given, result.energy)
        return replace(record, converged=result.converged, volume_ratio=round(result.volume_ratio, 5))

    def _as_given(self, description: Description, energy: float | NoEnergy) -> EnergyRecord:
        if isinstance(energy, NoEnergy):
            return EnergyRecord(self.potential.name, reason=energy.reason)
        return self._placed(description, energy, None)

    def _placed(
        self, description: Description, given: float | None, relaxed: float | None, *, reason: str = ""
    ) -> EnergyRecord:
        """Energies in eV per atom above the hull."""
        record = EnergyRecord(self.potential.name, given, relaxed, reason=reason)
        heights: list[float | None] = []
        for energy in (given, record.lowest):
            found = self._above(description, energy)
            heights.append(found.energy if isinstance(found, AboveHull) else None)
            if isinstance(found, NoHull) and not record.reason:
                record = replace(record, reason=found.reason)
        return replace(record, above_hull_as_given=heights[0], above_hull=heights[1])

    def _above(self, description: Description, energy: float | None) -> AboveHull | NoHull | None:
        if energy is None:
            return None
        return above(self.hull, description.amounts, energy, self.potential.name)


def without_excess(relaxed: Description, potential: str) -> Description:
    """A relaxed crystal with its cell scaled by the known excess of the potential's volumes.

    Args:
        relaxed: by the potential.
        potential: its name; what comes after the first space is its version.

    Returns:
        The same crystal, of smaller volume where the excess of the potential was measured.
    """
    scale = VOLUME_EXCESS.get(potential.split()[0], 1.0) ** (-1 / 3)
    a, b, c, *angles = relaxed.cell
    return replace(relaxed, cell=(scale * a, scale * b, scale * c, *angles))


def _swells(crystal: Crystal, result: Relaxed) -> bool:
    """Whether relaxing takes a draw too far from the volume of the known crystal that it follows."""
    follows = crystal.attempt is not None and crystal.attempt.followed is not None
    return follows and abs(math.log(result.volume_ratio)) > LARGEST_CHANGE


def lowest_of(crystals: Iterable[Crystal]) -> float | None:
    """The lowest energy of some crystals in eV per atom; None where there is none."""
    found = [c.energy.lowest for c in crystals if c.energy is not None and c.energy.lowest is not None]
    return min(found, default=None)
