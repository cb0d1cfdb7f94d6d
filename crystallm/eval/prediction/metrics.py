"""Structure prediction in numbers: match rates, RMSE, METRe, cRMSE, parts of the targets; pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import comb
from statistics import mean, median

from crystallm.eval.prediction.comparisons import Outcome, Outcomes, Symmetry
from crystallm.eval.prediction.results import Parts, Value
from crystallm.eval.prediction.target_rows import TargetRow
from crystallm.eval.rate import Rate
from crystallm.eval.sets.samples import SCORES, Sample, SampleSet
from crystallm.eval.sets.targets import Target

SITES = ((1, 4), (5, 8), (9, 12), (13, 20), (21, 30), (31, 60), (61, 10**6))
"""Classes of atoms in the stored cell by which targets are counted."""


@dataclass(frozen=True)
class PredictionScore:
    """Numbers of one set of samples; every target is in every denominator of a match rate."""

    metrics: Mapping[str, Value]
    """Rates, and means over targets: rmse@k and volume_error over those matched, crmse@k over all."""
    parts: Parts
    """The first and last k of match_rate for parts of the targets: by sites, elements, prototype, ..."""
    curve: Mapping[int, Rate]
    """match_rate@k for every k up to the samples of a target."""
    samples: Rate
    """Samples that match their target, of all samples."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why samples do not match their target."""
    targets_without_samples: int = 0
    most_samples: int = 0
    per_target: tuple[TargetRow, ...] = ()


def score(
    targets: Sequence[Target],
    samples: SampleSet,
    outcomes: Outcomes,
    *,
    tops: Sequence[int],
    metre_tops: Sequence[int],
    stol: float,
    symmetries: Mapping[str, Symmetry] | None = None,
    groups: Mapping[str, Mapping[str, str]] | None = None,
) -> PredictionScore:
    """All numbers of a set of samples.

    stol: what cRMSE gives to a target that is not matched. groups: name of a division -> target id -> its part.
    """
    own = {t.id: [outcomes.get((t.id, t.id, s.number)) for s in samples.by_target.get(t.id, [])] for t in targets}
    opens = {name: first_open(found) for name, found in own.items()}
    metrics: dict[str, Value] = {}
    for name, rms in VARIANTS.items():
        for top in tops:
            best = [best_of(found[:top], rms) for found in own.values()]
            metrics |= _rate_and_rms(best, f"@{top}{name}", [_within(opens[name], top) for name in own])
    for kind in SCORES:
        if not any(kind in sample.scores for found in samples.by_target.values() for sample in found):
            continue
        chosen = [highest(samples.by_target.get(t.id, []), kind) for t in targets]
        ranked = [[outcomes.get((t.id, t.id, s.number)) for s in few] for t, few in zip(targets, chosen, strict=True)]
        best = [best_of(found, _standard) for found in ranked]
        metrics |= _rate_and_rms(best, f"@1_by_{kind}", [first_open(found) is not None for found in ranked])
    for top in tops:
        metrics |= volume_errors([found[:top] for found in own.values()], top=top)
    for top in metre_tops:
        metrics |= metre(targets, samples, outcomes, top=top, stol=stol)
    if symmetries is not None:
        metrics |= symmetry_rates(targets, symmetries)
    tries = [len(found) for found in own.values()]
    everything = [outcome for found in own.values() for outcome in found]
    divisions = divide(targets, groups or {})
    firsts = {name: first_match(found, _standard) for name, found in own.items()}
    return PredictionScore(
        metrics=metrics,
        parts={
            division: {part: _part(names, firsts, opens, (tops[0], tops[-1])) for part, names in members.items()}
            for division, members in divisions.items()
        },
        curve={k: _matched(firsts.keys(), firsts, opens, k) for k in _upto(tries)},
        samples=Rate(
            sum(o is not None and o.rms is not None for o in everything),
            len(everything),
            sum(o is not None and o.undecided for o in everything),
        ),
        reasons=Counter(
            o.reason if o is not None else "not compared" for o in everything if o is None or o.rms is None
        ),
        targets_without_samples=sum(not count for count in tries),
        most_samples=max(tries, default=0),
        per_target=tuple(
            TargetRow(
                id=name,
                samples=len(found),
                first_match=firsts[name],
                first_match_smact=first_match(found, _filtered),
                first_match_strict=first_match(found, _strict),
                rms=best_of(found[: tops[-1]], _standard),
                undecided=tuple(n for n, o in enumerate(found, start=1) if o is not None and o.undecided),
            )
            for name, found in own.items()
        ),
    )


def _standard(outcome: Outcome) -> float | None:
    return outcome.rms


def _filtered(outcome: Outcome) -> float | None:
    return outcome.rms if outcome.valid else None


def _strict(outcome: Outcome) -> float | None:
    return outcome.rms_strict


VARIANTS: Mapping[str, Callable[[Outcome], float | None]] = {
    "": _standard,
    "_smact": _filtered,
    "_strict": _strict,
}
"""Suffix of a metric -> the rms that counts as a match."""


def best_of(attempts: Sequence[Outcome | None], rms: Callable[[Outcome], float | None]) -> float | None:
    """The smallest rms among attempts; None where none matches."""
    found = [rms(outcome) for outcome in attempts if outcome is not None]
    return min((value for value in found if value is not None), default=None)


def first_open(attempts: Sequence[Outcome | None]) -> int | None:
    """Number of the first attempt without verdict, from 1; a target that no other attempt matches is undecided then."""
    numbers = (n for n, outcome in enumerate(attempts, start=1) if outcome is not None and outcome.undecided)
    return next(numbers, None)


def volume_errors(attempts: Sequence[Sequence[Outcome | None]], *, top: int) -> dict[str, Value]:
    """Mean and median over matched targets of |ln(V / V true)| per atom, of the sample of smallest rms; 0.1 is 10 %."""
    matches = [[o for o in found if o is not None and o.rms is not None] for found in attempts]
    best = [min(found, key=lambda outcome: outcome.rms or 0.0) for found in matches if found]
    errors = [outcome.volume_error for outcome in best if outcome.volume_error is not None]
    return {
        f"volume_error_mean@{top}": mean(errors) if errors else None,
        f"volume_error_median@{top}": median(errors) if errors else None,
    }


def first_match(attempts: Sequence[Outcome | None], rms: Callable[[Outcome], float | None]) -> int | None:
    """Number of the first attempt that matches, from 1; None where none does."""
    for number, outcome in enumerate(attempts, start=1):
        if outcome is not None and rms(outcome) is not None:
            return number
    return None


def highest(attempts: Sequence[Sample], kind: str) -> Sequence[Sample]:
    """The crystal whose score of a kind is highest, alone; the first drawn where none has one.

    An attempt that was given up scores only what it got to, which says nothing beside the score of a whole crystal.
    """
    known = [sample for sample in attempts if kind in sample.scores and isinstance(sample.cif, str)]
    return [max(known, key=lambda sample: sample.scores[kind])] if known else attempts[:1]


def metre(
    targets: Sequence[Target], samples: SampleSet, outcomes: Outcomes, *, top: int, stol: float
) -> dict[str, Value]:
    """METRe and cRMSE at `top` (Martirossyan et al. 2025, arXiv:2509.12178).

    METRe: true structures matched by any generated structure, of all true structures; the generated ones are the first
    `top` samples of all targets, of which only those of its formula can match. cRMSE: mean over all true structures of
    the smallest rms, stol for a structure that nothing matches; so for an undecided one, too: it is the most it can be.
    """
    family: dict[object, list[tuple[str, int]]] = {}
    for target in targets:
        drawn = [(target.id, sample.number) for sample in samples.by_target.get(target.id, [])[:top]]
        family.setdefault(target.amounts, []).extend(drawn)
    attempts = [[outcomes.get((t.id, *drawn)) for drawn in family[t.amounts]] for t in targets]
    best = [best_of(made, _standard) for made in attempts]
    found = [value for value in best if value is not None]
    missed = len(targets) - len(found)
    undecided = sum(value is None and first_open(made) is not None for value, made in zip(best, attempts, strict=True))
    return {
        f"metre@{top}": Rate(len(found), len(targets), undecided),
        f"crmse@{top}": (sum(found) + stol * missed) / len(targets) if targets else None,
    }


def symmetry_rates(targets: Sequence[Target], symmetries: Mapping[str, Symmetry]) -> dict[str, Value]:
    """How often the first sample has the space group and the formula units of the truth, all targets counted."""
    group = sum(t.space_group is not None and _of(symmetries, t.id).space_group == t.space_group for t in targets)
    units = sum(_of(symmetries, t.id).formula_units == t.formula_units for t in targets)
    undecided = sum(bool(_of(symmetries, t.id).undecided) for t in targets)
    return {
        "space_group_accuracy": Rate(group, len(targets), undecided),
        "formula_units_accuracy": Rate(units, len(targets), undecided),
    }


def _of(symmetries: Mapping[str, Symmetry], name: str) -> Symmetry:
    return symmetries.get(name, Symmetry(None, None))


def divide(targets: Sequence[Target], groups: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, list[str]]]:
    """Ids of targets by division and part: atoms in the cell, elements, and the divisions given."""
    sites = {f"{low}-{high}" if high < 10**6 else f"{low}+": (low, high) for low, high in SITES}
    divisions: dict[str, dict[str, list[str]]] = {
        "sites": {name: [t.id for t in targets if low <= t.n_sites <= high] for name, (low, high) in sites.items()},
        "elements": {},
    }
    for target in sorted(targets, key=lambda t: len(t.amounts)):
        divisions["elements"].setdefault(str(len(target.amounts)), []).append(target.id)
    for division, part_of in groups.items():
        parts = divisions.setdefault(division, {})
        for target in targets:
            parts.setdefault(part_of.get(target.id, "unknown"), []).append(target.id)
    return {name: {part: ids for part, ids in parts.items() if ids} for name, parts in divisions.items()}


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Exact test of McNemar (1947) of two sets of verdicts on the same targets."""

    common_targets: int
    only_first: int
    """Targets on which only the first succeeds."""
    only_second: int
    p: float
    """Two-sided, of a fair coin."""


def mcnemar(first: Mapping[str, bool], second: Mapping[str, bool]) -> PairedTest:
    """Exact McNemar test (1947) of two sets of verdicts on the targets that both hold.

    Example:
        >>> mcnemar({"a": True, "b": True}, {"a": False, "b": True}).p
        1.0
    """
    common = sorted(first.keys() & second.keys())
    only_first = sum(first[name] and not second[name] for name in common)
    only_second = sum(second[name] and not first[name] for name in common)
    trials, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(comb(trials, i) for i in range(fewer + 1)) / 2**trials
    p = min(1.0, 2 * tail)
    return PairedTest(common_targets=len(common), only_first=only_first, only_second=only_second, p=p)


def _rate_and_rms(best: Sequence[float | None], suffix: str, is_open: Sequence[bool]) -> dict[str, Value]:
    found = [value for value in best if value is not None]
    undecided = sum(value is None and one for value, one in zip(best, is_open, strict=True))
    rate = Rate(len(found), len(best), undecided)
    return {f"match_rate{suffix}": rate, f"rmse{suffix}": mean(found) if found else None}


Numbers = Mapping[str, int | None]
"""Target id -> number of the first of its samples of a kind, from 1; None where there is none."""


def _part(names: Sequence[str], firsts: Numbers, opens: Numbers, tops: Sequence[int]) -> dict[str, Value]:
    return {f"match_rate@{top}": _matched(names, firsts, opens, top) for top in dict.fromkeys(tops)}


def _matched(names: Collection[str], firsts: Numbers, opens: Numbers, top: int) -> Rate:
    """How many of some targets are matched within the first `top` samples, and how many of the rest are undecided."""
    hits = sum(_within(firsts[name], top) for name in names)
    undecided = sum(not _within(firsts[name], top) and _within(opens[name], top) for name in names)
    return Rate(hits, len(names), undecided)


def _within(number: int | None, top: int) -> bool:
    return number is not None and number <= top


def _upto(tries: Sequence[int]) -> range:
    return range(1, max(tries, default=0) + 1)
