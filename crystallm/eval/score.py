"""Structure prediction: which samples match the truth, and the rates made of that."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from tqdm import tqdm

from crystallm.crystal.cell import Reason, Rejection
from crystallm.crystal.cif import read_cif
from crystallm.crystal.limited import Lost, run_limited
from crystallm.crystal.matching import PREDICTION_TOLERANCES, matcher, rms_distance
from crystallm.eval.rate import Rate
from crystallm.eval.targets import Sample, SampleSet, Target


@dataclass(frozen=True)
class Match:
    """Outcome of one comparison: the normalised rms if the sample matches, else why not."""

    rms: float | None
    reason: str = ""


Matches = Mapping[tuple[str, int], Match]
"""(target id, sample number) -> outcome; an attempt that is missing counts as no match."""


@dataclass(frozen=True)
class PredictionScore:
    """Match rates of one set of samples; every target is in every denominator."""

    match_rates: Mapping[str, Rate]
    """`match_rate@1` is of the first sample drawn, `match_rate@20` of the best of the first 20, and so on."""
    mean_rms: Mapping[str, float | None]
    """Mean of the best normalised rms over the targets matched, by the same names with `rmse`."""
    samples: Rate
    """Samples that match their target, of all samples."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why samples do not match."""
    targets_without_samples: int = 0
    most_samples: int = 0

    def to_json(self) -> dict[str, Any]:
        """Rates and reasons as a JSON object."""
        return {
            **{name: rate.to_json() for name, rate in self.match_rates.items()},
            **self.mean_rms,
            "samples": self.samples.to_json(),
            "reasons": dict(self.reasons.most_common()),
            "targets_without_samples": self.targets_without_samples,
            "most_samples": self.most_samples,
        }


def score(targets: Sequence[Target], samples: SampleSet, matches: Matches, *, tops: Sequence[int]) -> PredictionScore:
    """Rates at 1, by log-probability and at each of `tops`, in the order in which samples were drawn."""
    chosen = {f"@{top}": [samples.by_target.get(target.id, [])[:top] for target in targets] for top in tops}
    if any(s.log_probability is not None for attempts in samples.by_target.values() for s in attempts):
        chosen["@1_by_log_probability"] = [most_probable(samples.by_target.get(t.id, [])) for t in targets]
    rates, rms = {}, {}
    for name, attempts in chosen.items():
        best = [_best(matches, t.id, few) for t, few in zip(targets, attempts, strict=True)]
        found = [value for value in best if value is not None]
        rates[f"match_rate{name}"] = Rate(len(found), len(targets))
        rms[f"rmse{name}"] = sum(found) / len(found) if found else None
    outcomes = [matches.get((name, s.number), Match(None, "not compared")) for name, s in _pairs(samples)]
    return PredictionScore(
        match_rates=rates,
        mean_rms=rms,
        samples=Rate(sum(match.rms is not None for match in outcomes), len(outcomes)),
        reasons=Counter(match.reason for match in outcomes if match.rms is None),
        targets_without_samples=sum(not samples.by_target.get(target.id) for target in targets),
        most_samples=samples.longest,
    )


def most_probable(attempts: Sequence[Sample]) -> Sequence[Sample]:
    """The sample of highest log-probability, alone; the first drawn where none has one."""
    known = [sample for sample in attempts if sample.log_probability is not None]
    return [max(known, key=lambda sample: sample.log_probability or 0.0)] if known else attempts[:1]


def compare(
    targets: Sequence[Target], samples: SampleSet, *, workers: int, time_limit_s: float, log: Path, title: str
) -> Matches:
    """Compare every sample with its target in a pool of processes; finished comparisons are kept in `log` (JSONL).

    A comparison found in `log` is not made again: the caller names the log after what it belongs to.
    """
    done = dict(_read_log(log))
    truth = {target.id: target.cif for target in targets}
    todo = [(name, sample) for name, sample in _pairs(samples) if (name, sample.number) not in done]
    items = ((truth[name], sample.cif) for name, sample in todo)
    total = len(todo) + len(done)
    with (
        log.open("a", encoding="utf-8") as file,
        tqdm(total=total, initial=len(done), desc=title, unit="sample", disable=None) as bar,
    ):
        for place, match in run_limited(_match, items, workers=workers, time_limit_s=time_limit_s):
            name, sample = todo[place]
            outcome = Match(None, str(match.fate)) if isinstance(match, Lost) else match
            done[name, sample.number] = outcome
            row = {"target_id": name, "sample": sample.number, "rms": outcome.rms, "reason": outcome.reason}
            file.write(json.dumps(row) + "\n")
            file.flush()
            bar.update()
    return done


def _match(pair: tuple[str, str | Rejection]) -> Match:
    """Compare a sample with the truth, both as CIF text; runs in a worker process."""
    true_cif, cif = pair
    cell = cif if isinstance(cif, Rejection) else read_cif(cif)
    if isinstance(cell, Rejection):
        return Match(None, str(cell.reason))
    structure, truth = cell.to_structure(), _truth(true_cif)
    if structure.composition.reduced_formula != truth.composition.reduced_formula:
        return Match(None, "another formula")
    rms = rms_distance(structure, truth, by=_matcher())
    return Match(rms, "" if rms is not None else "no match")


@lru_cache(maxsize=4)
def _truth(cif: str) -> Structure:
    cell = read_cif(cif)
    assert not isinstance(cell, Rejection)  # read_targets has refused it otherwise
    return cell.to_structure()


@cache
def _matcher() -> StructureMatcher:
    return matcher(**PREDICTION_TOLERANCES)


def _best(matches: Matches, name: str, attempts: Sequence[Sample]) -> float | None:
    found = [matches[name, s.number].rms for s in attempts if (name, s.number) in matches]
    return min((rms for rms in found if rms is not None), default=None)


def _pairs(samples: SampleSet) -> Iterator[tuple[str, Sample]]:
    for name, attempts in samples.by_target.items():
        for sample in attempts:
            yield name, sample


def _read_log(path: Path) -> Iterator[tuple[tuple[str, int], Match]]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # the last line of a killed run
            continue
        if row["reason"] != str(Reason.TIMED_OUT):  # worth another try with another limit
            yield (row["target_id"], row["sample"]), Match(row["rms"], row["reason"])
