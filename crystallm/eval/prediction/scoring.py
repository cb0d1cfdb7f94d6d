"""Scoring a structure-prediction benchmark: samples and targets in, a report out."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from crystallm.base.errors import ConfigError
from crystallm.base.input_files import Reading
from crystallm.crystal.cell import Rejection
from crystallm.crystal.checks.paths import CHECKS_PATHS
from crystallm.crystal.checks.validity import Checks
from crystallm.crystal.cif import write_cif
from crystallm.crystal.matching.matchers import MATCHERS, MatcherName
from crystallm.eval.charge_neutrality import TABLE_NAME, smact_valid
from crystallm.eval.prediction.comparisons import Outcome, Symmetry, compare, questions, symmetries
from crystallm.eval.prediction.metrics import PredictionScore, score
from crystallm.eval.prediction.prototypes import seen_prototypes
from crystallm.eval.prediction.results import (
    Ceilings,
    CheckRates,
    OverSeeds,
    SampleCounts,
    SetScore,
    SpaceGroups,
    Value,
)
from crystallm.eval.rate import Rate
from crystallm.eval.sets.benchmark import Benchmark, Rows, files_of, rows_digest
from crystallm.eval.sets.inputs import read_parquet
from crystallm.eval.sets.samples import SampleSet
from crystallm.eval.sets.targets import Target
from crystallm.eval.validity import ValidityConfig, ValidityCounts, check_all

SEEN_TARGET = "of a target seen in training"
"""Why a sample of a few targets that the model has seen does not count."""


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(Reading):
    """Settings of scoring that are not the benchmark's.

    Those of time and processes must not change a number; `trust_atoms` and `max_file_mb` decide how samples are read.
    """

    workers: int = 0
    """Processes; 0 takes one for each core."""
    time_limit: float = 30.0
    """Seconds for one comparison; beyond it the sample is undecided, with the reason `timed out`."""
    validity_time_limit: float = 60.0
    """Seconds for the checks of one crystal; beyond it they are undecided."""
    validity: bool = True
    """Make the reference checks of validity (the slowest part)."""
    prototypes: bool = True
    """Tell seen from unseen prototypes."""
    matcher: MatcherName | None = None
    """Who compares crystals, pymatgen's StructureMatcher or its compiled twin (default: `compiled`, some 12 times
    faster; of free samples `pymatgen`)."""
    metre: bool = True
    """METRe and cRMSE, for which targets of one formula meet each other's samples; long where many share one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.time_limit <= 0 or self.validity_time_limit <= 0:
            raise ConfigError("time limits must be > 0 seconds")
        if self.workers < 0:
            raise ConfigError(f"workers must be >= 0, got {self.workers}; 0 takes one for each core")

    @property
    def chosen_matcher(self) -> MatcherName:
        """Who compares samples with their targets."""
        return self.matcher or "compiled"

    @property
    def processes(self) -> int:
        """Worker processes to start."""
        return self.workers or os.cpu_count() or 1


def judges(config: ScoreConfig) -> dict[str, Any]:
    """Who judged, for the report: name, whose verdict it is, and versions."""
    matcher, checks = MATCHERS[config.chosen_matcher].to_json(), CHECKS_PATHS.reference.to_json()
    return {"matcher": matcher} | ({"checks": checks} if config.validity else {})


def comparisons_log(
    out: Path, benchmark: Benchmark, targets: Sequence[Target], digest: str, *, matcher: MatcherName = "compiled"
) -> Path:
    """The file of finished comparisons; other targets, samples, tolerances or another matcher have another name.

    digest: of the samples, and of how they were read.
    """
    judge = "" if matcher == "compiled" else f" {matcher}"  # the names of earlier logs hold none
    whole = hashlib.sha256(f"{benchmark.standard} {benchmark.strict} {digest}{judge}".encode())
    for target in sorted(targets, key=lambda t: t.id):
        whole.update(f"\0{target.id}\0{target.cif}".encode())
    return out / f"comparisons_{whole.hexdigest()[:12]}.jsonl"


def library_rows(rows: Rows, data: Path) -> list[dict[str, Any]]:
    """Training rows of a benchmark: id, cif, reduced_formula, spacegroup_number, n_sites."""
    columns = ["id", "cif", "reduced_formula", "spacegroup_number", "n_sites", *([rows.column] if rows.column else [])]
    found = [row for path in files_of(rows, data) for row in read_parquet(path, columns)]
    return [row for row in found if rows.column is None or row.get(rows.column) == rows.value]


def train_key(rows: Rows, data: Path) -> str:
    """Short name of training rows: their files' contents and the column that selects them."""
    text = f"{sorted(rows_digest(rows, data).items())} {rows.column} {rows.value}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def seen_of(
    benchmark: Benchmark, targets: Sequence[Target], data: Path, cache: Path, config: ScoreConfig
) -> dict[str, str] | None:
    """Which targets have a prototype that training has seen; None where that is not asked or not defined."""
    if benchmark.train is None or not config.prototypes:
        return None
    return seen_prototypes(
        targets,
        library_rows(benchmark.train, data),
        workers=config.processes,
        time_limit_s=config.time_limit,
        # Files named prototypes_... are older: there a row that ran out of time has no prototype.
        cache=cache / f"structure_types_{train_key(benchmark.train, data)}.jsonl",
    )


def score_prediction(
    benchmark: Benchmark,
    targets: Sequence[Target],
    samples: SampleSet,
    config: ScoreConfig,
    *,
    log: Path,
    groups: Mapping[str, Mapping[str, str]],
    missed: Collection[str] = (),
) -> SetScore:
    """Everything a report holds of one set of samples.

    groups: divisions of the targets for which rates are given, too: name -> target id -> part. missed: ids of targets
    that count as not matched, since the model has seen them.
    """
    samples = samples.first(benchmark.samples_per_target)
    metre_tops = benchmark.metre_tops if config.metre else ()
    asked = questions(targets, samples, foreign=max(metre_tops, default=0))
    outcomes = compare(
        targets,
        samples,
        asked,
        standard=benchmark.standard,
        strict=benchmark.strict,
        workers=config.processes,
        time_limit_s=config.time_limit,
        log=log,
        matcher=config.chosen_matcher,
    )
    found = symmetries(samples, targets, workers=config.processes, time_limit_s=config.time_limit)
    outcomes = {key: Outcome(None, SEEN_TARGET) if key[0] in missed else value for key, value in outcomes.items()}
    guessed = {name: symmetry for name, symmetry in found.items() if name not in missed}
    result = score(
        targets,
        samples,
        outcomes,
        tops=benchmark.tops,
        metre_tops=metre_tops,
        stol=benchmark.standard.stol,
        symmetries=guessed,
        groups=groups,
    )
    passing = sum(smact_valid(dict(target.amounts)) for target in targets)
    return SetScore(
        metrics=result.metrics,
        ceilings=Ceilings(smact=Rate(passing, len(targets)), smact_table=TABLE_NAME),
        parts=result.parts,
        curve=result.curve,
        samples=sample_counts(result, samples),
        space_groups=space_groups(targets, found),
        validity=validity(benchmark, targets, samples, config) if config.validity else {},
        per_target=result.per_target,
    )


def sample_counts(result: PredictionScore, samples: SampleSet) -> SampleCounts:
    """What became of the samples: matched, why not, ignored, missing."""
    return SampleCounts(
        matching=result.samples,
        not_matched=dict(result.reasons.most_common()),
        ignored=dict(samples.ignored.most_common()),
        targets_without_samples=result.targets_without_samples,
        most_samples=result.most_samples,
    )


def space_groups(targets: Sequence[Target], found: Mapping[str, Symmetry]) -> SpaceGroups:
    """How often each space group occurs among first samples and among targets; 0 stands for none found.

    First samples whose search for symmetry ran out of time are not among them: `space_group_accuracy` counts these.
    """
    truth = Counter(str(target.space_group or 0) for target in targets)
    drawn = Counter(str(symmetry.space_group or 0) for symmetry in found.values() if not symmetry.undecided)
    return SpaceGroups(samples=dict(drawn.most_common()), truth=dict(truth.most_common()))


def validity(
    benchmark: Benchmark, targets: Sequence[Target], samples: SampleSet, config: ScoreConfig
) -> dict[str, CheckRates]:
    """Reference checks of the first samples, and of the truth, as given and written by this package."""
    few = [s.cif for target in targets for s in samples.by_target.get(target.id, [])[: benchmark.validity_samples]]
    texts: dict[str, list[str | Rejection]] = {
        "samples": few,
        "truth as given": [target.cif for target in targets],
        "truth through the text": [through_text(target) for target in targets],
    }
    result = {}
    for name, found in texts.items():
        counts = ValidityCounts()
        settings = ValidityConfig(workers=config.workers, time_limit=config.validity_time_limit)
        check_all(found, settings, on_result=_adder(counts), title=f"validity: {name}")
        reasons = {str(check): dict(why.most_common()) for check, why in counts.reasons.items() if why}
        result[name] = CheckRates(rates=counts.rates(), reasons=reasons)
    return result


def _adder(counts: ValidityCounts) -> Callable[[int, Checks], None]:
    def add(_: int, checks: Checks) -> None:
        counts.add(checks)

    return add


def through_text(target: Target) -> str | Rejection:
    """The true structure as our own CIF, with its symmetry stated: the best that a model of this text could write."""
    return target.description if isinstance(target.description, Rejection) else write_cif(target.description)


def over_seeds(results: Sequence[Mapping[str, Value]]) -> dict[str, OverSeeds]:
    """Mean and sample standard deviation of each metric over sets of samples, shares for rates; the values beside."""
    table = {}
    for name in results[0]:
        values = [value.share if isinstance(value := result.get(name), Rate) else value for result in results]
        known = [value for value in values if value is not None]
        undecided = [value.undecided if isinstance(value := result.get(name), Rate) else 0 for result in results]
        table[name] = OverSeeds(
            values=values,
            mean=mean(known) if known else None,
            spread=stdev(known) if len(known) > 1 else None,
            undecided=undecided if any(undecided) else (),
        )
    return table


def plain(value: Any) -> Any:
    """A result as JSON can hold it."""
    if isinstance(value, Rate):
        return value.to_json()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value
