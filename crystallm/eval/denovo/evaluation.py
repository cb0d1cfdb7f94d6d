"""De novo evaluation of free samples: valid, unique, novel, distributed like real crystals, and stable."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crystallm.base.errors import ConfigError
from crystallm.base.input_files import Reading
from crystallm.base.workers import Lost
from crystallm.crystal.cell import Rejection
from crystallm.crystal.checks.validity import CheckName, Checks
from crystallm.crystal.formulas.composition import format_formula
from crystallm.crystal.matching.matchers import MatcherName
from crystallm.energy.journal import Journal
from crystallm.eval.denovo.distributions import distances
from crystallm.eval.denovo.named_reference import Reference
from crystallm.eval.denovo.sameness import Sameness, earlier_of_equal, find_twins
from crystallm.eval.denovo.sample_properties import Facts, all_facts
from crystallm.eval.denovo.stability import Stability, StabilityConfig, StabilityFacts, judge_stability
from crystallm.eval.rate import Rate
from crystallm.eval.sets.inputs import Record
from crystallm.eval.validity import ValidityConfig, ValidityCounts, check_all


@dataclass(frozen=True, kw_only=True)
class DenovoConfig(Reading):
    """Settings of the de novo evaluation."""

    workers: int = 0
    """Processes; 0 takes one for each core."""
    time_limit: float = 60.0
    """Seconds for each step of one sample: reading, checks, and each call of the structure matcher."""
    reference_rows: int = 5000
    """Rows of the reference, drawn at random, with which distributions are compared; novelty looks at all rows."""
    seed: int = 0
    """Of that draw."""
    matcher: MatcherName = "pymatgen"
    """Who compares crystals: pymatgen's StructureMatcher, or `compiled`, whose twin rules most pairs out."""
    split_column: str = "suggested_split"
    """Column of the reference that `split` is looked for in."""
    split: str = ""
    """Take only rows of the reference with this value in the split column; empty takes all."""
    stability: StabilityConfig | None = None
    """Settings of the energy part; None leaves it out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.time_limit <= 0:
            raise ConfigError(f"time_limit must be > 0 seconds, got {self.time_limit:g}")
        if self.workers < 0:
            raise ConfigError(f"workers must be >= 0, got {self.workers}; 0 takes one for each core")
        if self.reference_rows < 2:
            raise ConfigError(f"reference_rows must be >= 2, got {self.reference_rows}")
        if bool(self.split) and not self.split_column:
            raise ConfigError(f"split {self.split!r} needs the name of its column; give split_column, too")


@dataclass
class SampleVerdict:
    """All that was found out about one sample. Verdicts are None where there is none, since time or memory ran out."""

    name: str
    facts: Facts | None = None
    no_crystal: str = ""
    """Why there is no crystal to judge."""
    lost: str = ""
    """Why nothing is known of it: reading it ran out of time or memory."""
    checks: Checks | None = None
    """The reference checks (pymatgen, spglib, CrystalNN)."""
    twin: str | None = None
    """The earlier sample that it repeats."""
    known_as: str | None = None
    """The crystal of the reference that it equals."""
    undecided: dict[str, str] = field(default_factory=dict)
    """Questions without an answer (`unique`, `novel`) and why."""
    stability: Stability | None = None

    @property
    def readable(self) -> bool | None:
        """Whether there is an ordered crystal of known elements."""
        return None if self.lost else self.facts is not None

    @property
    def structural(self) -> bool | None:
        """CDVAE: no two atoms within 0.5 angstrom, volume above 0.1 cubic angstrom."""
        return None if self.lost else self.facts is not None and not self.facts.structural

    @property
    def composition(self) -> bool | None:
        """CDVAE: the composition passes the filter of SMACT."""
        return None if self.lost else self.facts is not None and self.facts.neutral

    @property
    def valid(self) -> bool | None:
        """Structural and composition validity of the same sample."""
        return both(self.structural, self.composition)

    @property
    def checks_valid(self) -> bool | None:
        """The reference checks of `crystallm eval validity`."""
        return None if self.checks is None or self.checks.undecided else self.checks.valid

    @property
    def unique(self) -> bool | None:
        """A structurally valid crystal that repeats no earlier sample."""
        return both(self.structural, None if "unique" in self.undecided else self.twin is None)

    @property
    def novel(self) -> bool | None:
        """A structurally valid crystal that is not in the reference."""
        return both(self.structural, None if "novel" in self.undecided else self.known_as is None)

    @property
    def stable(self) -> bool | None:
        """At most on the hull."""
        return self.of_energy(lambda stability: stability.stable)

    @property
    def metastable(self) -> bool | None:
        """At most 0.1 eV per atom above the hull."""
        return self.of_energy(lambda stability: stability.metastable)

    def of_energy(self, judge: Callable[[Stability], bool | None]) -> bool | None:
        """A verdict on the energy; None where relaxing the sample, or a reference of its hull, ran out of time."""
        if self.lost:
            return None
        return False if self.stability is None else judge(self.stability)

    def to_json(self) -> dict[str, Any]:
        """The verdict as a JSON object."""
        facts: dict[str, Any] = {}
        if self.facts is not None:
            facts = {
                "formula": format_formula(self.facts.amounts),
                "n_atoms": self.facts.n_atoms,
                "density": self.facts.density,
                "space_group": self.facts.space_group,
                "structural_reason": self.facts.structural,
            }
        verdicts = {name: judge(self) for name, judge in RATES.items()}
        energy = {} if self.stability is None else self.stability.to_json()
        if self.stability is not None:
            verdicts |= {name: judge(self) for name, judge in ENERGY_RATES.items()}
        origin = {"repeats": self.twin, "known_as": self.known_as, "undecided": self.undecided}
        return {"name": self.name, "no_crystal": self.no_crystal or self.lost} | facts | verdicts | origin | energy


def both(*verdicts: bool | None) -> bool | None:
    """Whether all of some verdicts are yes: no if one of them is no, else None if one is not known.

    Example:
        >>> both(True, None), both(False, None)
        (None, False)
    """
    if any(verdict is False for verdict in verdicts):
        return False
    return None if any(verdict is None for verdict in verdicts) else True


Judge = Callable[[SampleVerdict], bool | None]

RATES: Mapping[str, Judge] = {
    "readable": lambda v: v.readable,
    "structurally_valid": lambda v: v.structural,
    "composition_valid": lambda v: v.composition,
    "valid": lambda v: v.valid,
    "reference_checks_valid": lambda v: v.checks_valid,
    "unique": lambda v: v.unique,
    "novel": lambda v: v.novel,
    "unique_and_novel": lambda v: both(v.unique, v.novel),
    "valid_unique_and_novel": lambda v: both(v.valid, v.unique, v.novel),
    "reference_checks_valid_unique_and_novel": lambda v: both(v.checks_valid, v.unique, v.novel),
}
"""What is counted, sample by sample; the denominator is every sample that was asked for."""

ENERGY_RATES: Mapping[str, Judge] = {
    "relaxed": lambda v: v.of_energy(lambda s: s.relaxed),
    "converged": lambda v: v.of_energy(lambda s: s.converged),
    "placed_above_hull": lambda v: v.of_energy(lambda s: s.placed),
    "stable": lambda v: v.stable,
    "stable_within_1_meV": lambda v: v.of_energy(lambda s: s.nearly_stable),
    "metastable": lambda v: v.metastable,
    "sun": lambda v: both(v.stable, v.unique, v.novel),
    "msun": lambda v: both(v.metastable, v.unique, v.novel),
}
"""Counted when energies were asked for: S.U.N. and M.S.U.N. are properties of one and the same sample."""


@dataclass(frozen=True)
class DenovoScore:
    """The outcome for a set of samples."""

    verdicts: Sequence[SampleVerdict]
    validity: ValidityCounts
    """The reference checks, one by one."""
    distances: Mapping[str, float | None]
    """Of the structurally valid samples to the drawn reference; see `crystallm.eval.denovo.distributions`."""
    floor: Mapping[str, float | None]
    """The same of as many other rows of the reference: what a perfect model would reach with so few samples."""
    reference_facts: Sequence[Facts]
    """Of the rows drawn from the reference."""
    reference_size: int
    reference_read: int = 0
    """Rows of the reference whose CIF was read; of the others only the formula was needed."""
    reference_refused: Mapping[str, int] = field(default_factory=dict)
    """Rows that are no crystal of the reference, by reason; they are not in `reference_size`."""
    stability: StabilityFacts | None = None

    @property
    def rates(self) -> dict[str, Rate]:
        """Every rate over all samples."""
        judges = {**RATES, **(ENERGY_RATES if self.stability is not None else {})}
        rates = {}
        for name, judge in judges.items():
            found = [judge(verdict) for verdict in self.verdicts]
            rates[name] = Rate(found.count(True), len(found), found.count(None))
        return rates

    @property
    def reasons(self) -> dict[str, Counter[str]]:
        """Why samples fail, by question."""
        found: dict[str, Counter[str]] = {
            "no crystal": Counter(v.no_crystal for v in self.verdicts if v.no_crystal),
            "undecided: reading": Counter(v.lost for v in self.verdicts if v.lost),
            "structure": Counter(v.facts.structural for v in self.verdicts if v.facts and v.facts.structural),
        }
        for question in ("unique", "novel"):
            found[f"undecided: {question}"] = Counter(
                v.undecided[question] for v in self.verdicts if question in v.undecided
            )
        found["no energy above hull"] = Counter(
            v.stability.reason for v in self.verdicts if v.stability and v.stability.reason
        )
        return {name: counter for name, counter in found.items() if counter}

    def to_json(self) -> dict[str, Any]:
        """Rates, reasons, distances and every verdict as a JSON object."""
        return {
            "samples": len(self.verdicts),
            "rates": {name: rate.to_json() for name, rate in self.rates.items()},
            "reasons": {name: dict(counter.most_common()) for name, counter in self.reasons.items()},
            "reference_checks": self.validity.to_json(),
            "distances": dict(self.distances),
            "distances_of_reference_to_itself": dict(self.floor),
            "reference_rows": self.reference_size,
            "reference_rows_read": self.reference_read,
            "reference_refused": dict(self.reference_refused),
            "reference_rows_for_distances": len(self.reference_facts),
            "hull": None if self.stability is None else self.stability.to_json(),
            "crystals": [verdict.to_json() for verdict in self.verdicts],
        }


def score_denovo(
    samples: Sequence[Record], reference: Reference, config: DenovoConfig, *, folder: Path, energies: Path | None = None
) -> DenovoScore:
    """Judge free samples against a reference.

    Every record counts in every denominator, failed draws included; what ran out of time is undecided. Finished checks,
    comparisons and energies are kept in `folder`, so that a killed run goes on where it stopped; `energies` names
    another file for the energies, which several evaluations can share.
    """
    verdicts = [SampleVerdict(record.name) for record in samples]
    texts = [record.cif for record in samples]
    for index, facts in all_facts(texts, workers=config.workers, time_limit_s=config.time_limit, title="reading"):
        if isinstance(facts, Facts):
            verdicts[index].facts = facts
        elif isinstance(facts, Lost):
            verdicts[index].lost = str(facts.fate)
        else:
            verdicts[index].no_crystal = str(facts.reason)
    with Journal(folder / "checks.jsonl") as journal:
        validity = _reference_checks(texts, verdicts, config, journal)
    with Journal(folder / "comparisons.jsonl") as journal:
        _judge_sameness(texts, verdicts, reference, config, journal)
    stability = None
    if config.stability is not None:
        with Journal(energies or folder / "energies.jsonl") as journal:
            stability = _judge_energies(texts, verdicts, reference, config.stability, journal)
    usable = [verdict.facts for verdict in verdicts if verdict.facts is not None and verdict.structural]
    drawn = _reference_facts(reference, config)
    # Even and odd rows of a random draw are two random draws.
    few = drawn[::2][: max(len(usable), 1)]
    return DenovoScore(
        verdicts=verdicts,
        validity=validity,
        distances=distances(usable, drawn),
        floor=distances(few, drawn[1::2]),
        reference_facts=drawn,
        reference_size=len(reference),
        reference_read=reference.n_read,
        reference_refused=dict(reference.refused),
        stability=stability,
    )


def _reference_checks(
    texts: Sequence[str | Rejection], verdicts: Sequence[SampleVerdict], config: DenovoConfig, journal: Journal
) -> ValidityCounts:
    keys = ["" if isinstance(text, Rejection) else hashlib.sha256(text.encode()).hexdigest()[:32] for text in texts]
    todo = [index for index, key in enumerate(keys) if key not in journal.values]

    def keep(place: int, checks: Checks) -> None:
        index = todo[place]
        verdicts[index].checks = checks
        if keys[index] and not checks[CheckName.READABLE].undecided:  # another limit may help those
            journal.add(keys[index], checks.to_json())

    settings = ValidityConfig(workers=config.workers, time_limit=config.time_limit)
    check_all([texts[index] for index in todo], settings, on_result=keep, title="reference checks")
    counts = ValidityCounts()
    for key, verdict in zip(keys, verdicts, strict=True):
        verdict.checks = verdict.checks or Checks.from_json(journal.values[key])
        counts.add(verdict.checks)
    return counts


def _judge_sameness(
    texts: Sequence[str | Rejection],
    verdicts: Sequence[SampleVerdict],
    reference: Reference,
    config: DenovoConfig,
    journal: Journal,
) -> None:
    amounts = {index: v.facts.amounts for index, v in enumerate(verdicts) if v.facts is not None and v.structural}
    crystals = {index: str(texts[index]) for index in amounts}
    earlier = earlier_of_equal(amounts)
    rows = reference.of_formulas(amounts.values())
    known = {index: rows.get(formula, []) for index, formula in amounts.items()}

    def twins(rivals: Mapping[int, Sequence[str]], title: str) -> dict[int, Sameness]:
        return find_twins(
            crystals,
            rivals,
            journal,
            workers=config.workers,
            time_limit_s=config.time_limit,
            title=title,
            matcher=config.matcher,
        )

    for index, found in twins({i: [crystals[j] for j in earlier[i]] for i in crystals}, "repeats").items():
        if found.twin is not None:
            verdicts[index].twin = verdicts[earlier[index][found.twin]].name
        elif found.undecided:
            verdicts[index].undecided["unique"] = found.undecided
    for index, found in twins({i: [row.cif for row in known[i]] for i in crystals}, "novelty").items():
        if found.twin is not None:
            verdicts[index].known_as = known[index][found.twin].id
        elif found.undecided:
            verdicts[index].undecided["novel"] = found.undecided


def _judge_energies(
    texts: Sequence[str | Rejection],
    verdicts: Sequence[SampleVerdict],
    reference: Reference,
    config: StabilityConfig,
    journal: Journal,
) -> StabilityFacts:
    crystals = {
        index: (str(texts[index]), verdict.facts.amounts)
        for index, verdict in enumerate(verdicts)
        if verdict.facts is not None and verdict.structural
    }
    judged, facts = judge_stability(crystals, reference, config, journal)
    for index, verdict in enumerate(verdicts):
        reason = verdict.lost or "no structurally valid crystal"
        verdict.stability = judged.get(index, Stability(None, None, reason, undecided=bool(verdict.lost)))
    return facts


def _reference_facts(reference: Reference, config: DenovoConfig) -> list[Facts]:
    """Facts of rows drawn from the reference; rows that cannot be read or are structurally invalid are left out."""
    rows = reference.drawn(config.reference_rows, seed=config.seed)
    found = all_facts(
        [row.cif for row in rows], workers=config.workers, time_limit_s=config.time_limit, title="reference"
    )
    by_row = {index: facts for index, facts in found if isinstance(facts, Facts) and not facts.structural}
    return [by_row[index] for index in sorted(by_row)]
