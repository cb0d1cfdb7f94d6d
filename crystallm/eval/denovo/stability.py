"""Relaxed samples above a hull of relaxed references: everything evaluated by the same potential."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from tqdm import tqdm

from crystallm.base.errors import ConfigError
from crystallm.base.workers import NO_VERDICT, Lost, run_limited
from crystallm.crystal.formulas.composition import Amounts
from crystallm.energy.hull.hull import Hull, NoHull, System, formulas_by_system, make_hull
from crystallm.energy.journal import Journal
from crystallm.energy.potentials.protocol import NoEnergy, identity
from crystallm.energy.relaxation.fire import Relax, Relaxation, SinglePoint
from crystallm.energy.relaxation.relaxation import RelaxationSettings
from crystallm.eval.denovo.named_reference import Reference, ReferenceRow, elements_of

STABLE_EV = 0.0
SCATTER_EV = 0.001
"""Relaxations that end at this force scatter by up to 1 meV per atom: a crystal of the hull itself may lie as far
above it."""

METASTABLE_EV = 0.1
"""Largest energy above hull in eV per atom (Sun et al., Science Advances 2, e1600225, 2016; MatterGen)."""

LOWEST_EV = -1.0
"""Further below the hull in eV per atom no crystal is: the potential has left the range that it was fitted to."""


@dataclass(frozen=True, kw_only=True)
class StabilityConfig:
    """Settings of the energy part."""

    relaxation: RelaxationSettings = field(default_factory=RelaxationSettings)
    time_limit: float = 300.0
    """Wall-clock seconds for the relaxation of one structure."""
    reference_window: float = 0.1
    """References are relaxed, too, where that can move the hull below a sample; this is the most that relaxing a
    reference is taken to gain, in eV per atom. What it did gain is reported. 0 takes all references as given."""
    workers: int = 1
    """Processes; each loads the potential."""

    def __post_init__(self) -> None:
        if self.time_limit <= 0:
            raise ConfigError(f"the time limit of a relaxation must be > 0 seconds, got {self.time_limit:g}")
        if self.reference_window < 0:
            raise ConfigError(f"reference_window must be >= 0 eV per atom, got {self.reference_window:g}")


@dataclass(frozen=True)
class Stability:
    """One sample in eV per atom; `reason` says why there is no energy above hull.

    Verdicts are None where there is none, because the sample, or a reference of its hull, ran out of time or memory.
    """

    relaxation: Relaxation | None
    above_hull: float | None
    reason: str = ""
    undecided: bool = False
    """Whether the reason is that time or memory ran out."""

    @property
    def relaxed(self) -> bool | None:
        """Whether there is a relaxed crystal."""
        return None if self.relaxation is None and self.undecided else self.relaxation is not None

    @property
    def converged(self) -> bool | None:
        """Whether its forces came below the limit."""
        return self.relaxed if self.relaxation is None else self.relaxation.converged

    @property
    def placed(self) -> bool | None:
        """Whether it has an energy above hull."""
        return None if self.undecided else self.above_hull is not None

    @property
    def stable(self) -> bool | None:
        """On or below the hull of the references."""
        return self._at_most(STABLE_EV)

    @property
    def nearly_stable(self) -> bool | None:
        """On or below the hull within the scatter of relaxations, 1 meV per atom."""
        return self._at_most(SCATTER_EV)

    @property
    def metastable(self) -> bool | None:
        """At most 0.1 eV per atom above the hull; stable ones included."""
        return self._at_most(METASTABLE_EV)

    def _at_most(self, energy: float) -> bool | None:
        return self.placed if self.above_hull is None else self.above_hull <= energy

    def to_json(self) -> dict[str, Any]:
        """The verdict as a JSON object, without the relaxed coordinates."""
        rest = {"lattice", "positions", "numbers"}
        relaxed = {} if self.relaxation is None else self.relaxation.to_json()
        return {key: value for key, value in relaxed.items() if key not in rest} | {
            "energy_above_hull": self.above_hull,
            "energy_reason": self.reason,
        }


@dataclass(frozen=True)
class StabilityFacts:
    """What the hulls were made of."""

    systems: int
    references: int
    """Reference structures inside the chemical systems of the samples."""
    relaxed_references: int
    """Those that could move the hull below a sample."""
    largest_gain: float
    """Most that relaxing one of them gained, in eV per atom; above `reference_window` a hull may be too high."""
    reference_failures: Mapping[str, int]
    """References without an energy, by reason; the hull is made without them. Where one ran out of time or memory, or
    its relaxation did (`relaxing: timed out`), samples of its chemical system are undecided."""

    def to_json(self) -> dict[str, Any]:
        """All fields as a JSON object."""
        return asdict(self)


def judge_stability(
    samples: Mapping[int, tuple[str, Amounts]], reference: Reference, config: StabilityConfig, journal: Journal
) -> tuple[dict[int, Stability], StabilityFacts]:
    """Relax samples (CIF text, reduced formula) and place them above the hull of the reference.

    The hull of a sample holds the reference structures of its elements, not the samples. Energies are kept in the
    journal by structure, potential and settings, so that a killed run, or the next one, does not compute them again.
    """
    runner = _Runner(config, journal)
    relaxed = runner.relaxations({index: cif for index, (cif, _) in samples.items()}, "relaxing samples")
    compositions = {samples[index][1] for index, found in relaxed.items() if isinstance(found, Relaxation)}
    wanted = formulas_by_system(reference.formulas, map(elements_of, compositions))
    energies = _ReferenceEnergies(
        reference.of_formulas(amounts for formulas in wanted.values() for amounts in formulas), runner
    )
    hulls = energies.hulls(wanted, compositions, window=config.reference_window)
    verdicts = {
        index: _verdict(
            relaxed[index],
            amounts,
            hulls.get(elements_of(amounts)),
            lost=energies.lost(wanted.get(elements_of(amounts), [])),
        )
        for index, (_, amounts) in samples.items()
    }
    return verdicts, energies.facts(len(wanted))


class _ReferenceEnergies:
    """Energies of reference structures in eV per atom: as given for all, relaxed where it matters."""

    def __init__(self, rows: Mapping[Amounts, list[ReferenceRow]], runner: _Runner) -> None:
        self._rows = rows
        self._runner = runner
        self._given: dict[ReferenceRow, float] = {}
        self._relaxed: dict[ReferenceRow, float] = {}
        self._failures: Counter[str] = Counter()
        self._lost: dict[ReferenceRow, str] = {}
        """References whose energy, or relaxed energy, is not known for lack of time or memory."""
        listed = [row for found in rows.values() for row in found]
        for place, energy in runner.energies({place: row.cif for place, row in enumerate(listed)}).items():
            if not isinstance(energy, NoEnergy):
                self._given[listed[place]] = energy
                continue
            self._failures[energy.reason] += 1
            if energy.reason in NO_VERDICT:
                self._lost[listed[place]] = energy.reason

    def hulls(
        self, wanted: Mapping[System, list[Amounts]], compositions: Iterable[Amounts], *, window: float
    ) -> dict[System, Hull[ReferenceRow] | NoHull]:
        """A hull for each system, exact at the compositions unless relaxing gains more than `window`.

        Each reference starts with the least energy it could relax to. The references that make the hull below a
        composition are relaxed, until those below every composition are: then no other can lower it there.
        """
        while True:
            hulls = {system: make_hull(system, self._entries(formulas, window)) for system, formulas in wanted.items()}
            below = {
                row
                for amounts in compositions
                if isinstance(hull := hulls[elements_of(amounts)], Hull)
                for row in hull.below(amounts)
            }
            todo = sorted(below - self._relaxed.keys(), key=lambda row: row.id) if window > 0 else []
            if not todo:
                return hulls
            found = self._runner.relaxations({i: row.cif for i, row in enumerate(todo)}, "relaxing references")
            for place, row in enumerate(todo):
                result, given = found[place], self._given[row]
                self._relaxed[row] = min(given, result.energy) if isinstance(result, Relaxation) else given
                if isinstance(result, NoEnergy) and result.reason in NO_VERDICT:
                    self._failures[f"relaxing: {result.reason}"] += 1
                    self._lost[row] = result.reason

    def lost(self, formulas: Iterable[Amounts]) -> str:
        """What the first lost reference of some formulas ran out of; empty where none was lost."""
        return next((self._lost[row] for amounts in formulas for row in self._rows[amounts] if row in self._lost), "")

    def facts(self, systems: int) -> StabilityFacts:
        """What was made of the references."""
        gains = [self._given[row] - energy for row, energy in self._relaxed.items()]
        total = sum(map(len, self._rows.values()))
        return StabilityFacts(systems, total, len(gains), max(gains, default=0.0), dict(self._failures))

    def _entries(self, formulas: Iterable[Amounts], window: float) -> list[tuple[ReferenceRow, Amounts, float]]:
        return [
            (row, amounts, self._relaxed.get(row, self._given[row] - window))
            for amounts in formulas
            for row in self._rows[amounts]
            if row in self._given
        ]


def _verdict(
    relaxed: Relaxation | NoEnergy, amounts: Amounts, hull: Hull[ReferenceRow] | NoHull | None, *, lost: str = ""
) -> Stability:
    if isinstance(relaxed, NoEnergy):
        return Stability(None, None, relaxed.reason, undecided=relaxed.reason in NO_VERDICT)
    assert hull is not None  # every relaxed sample has its system
    if lost:  # that reference may lie lower, so that every energy above hull is only the least that it can be
        return Stability(relaxed, None, f"a reference of the hull: {lost}", undecided=True)
    if isinstance(hull, NoHull):
        return Stability(relaxed, None, hull.reason)
    above = hull.above(amounts, relaxed.energy)
    if above < LOWEST_EV:
        return Stability(relaxed, None, f"more than {-LOWEST_EV:g} eV per atom below the hull")
    return Stability(relaxed, above)


Value = TypeVar("Value")


class _Runner:
    """Calls of the potential in worker processes, each answer kept in the journal."""

    def __init__(self, config: StabilityConfig, journal: Journal) -> None:
        self.config = config
        self.journal = journal
        self._potential = identity(config.relaxation.potential)

    def relaxations(self, texts: Mapping[int, str], title: str) -> dict[int, Relaxation | NoEnergy]:
        settings = self.config.relaxation
        label = f"relax {self._potential} {settings.max_force:g} {settings.max_steps}"
        return self._run(Relax(settings), texts, label, title, lambda value: Relaxation(**value), Relaxation.to_json)

    def energies(self, texts: Mapping[int, str]) -> dict[int, float | NoEnergy]:
        function = SinglePoint(self.config.relaxation.potential)
        return self._run(function, texts, f"energy {self._potential}", "energies of references", float, float)

    def _run(
        self,
        function: Callable[[str], Value | NoEnergy],
        texts: Mapping[int, str],
        label: str,
        title: str,
        read: Callable[[Any], Value],
        write: Callable[[Value], Any],
    ) -> dict[int, Value | NoEnergy]:
        """Values by index; refusals are kept, too, but not what ran out of time: another limit may help."""
        found: dict[int, Value | NoEnergy] = {}
        keys = {index: f"{label} {hashlib.sha256(text.encode()).hexdigest()[:32]}" for index, text in texts.items()}
        for index, key in keys.items():
            if key in self.journal.values:
                kept = self.journal.values[key]
                refused = isinstance(kept, dict) and "reason" in kept
                found[index] = NoEnergy(**kept) if refused else read(kept)
        todo = [index for index in texts if index not in found]
        calls = run_limited(
            function, (texts[i] for i in todo), workers=self.config.workers, time_limit_s=self.config.time_limit
        )
        with tqdm(total=len(texts), initial=len(found), desc=title, unit="structure", disable=None) as bar:
            for place, value in calls:
                index = todo[place]
                if isinstance(value, Lost):
                    found[index] = NoEnergy(str(value.fate), value.detail)
                else:
                    kept = asdict(value) if isinstance(value, NoEnergy) else write(value)
                    self.journal.add(keys[index], kept)
                    found[index] = value
                bar.update()
        return found
