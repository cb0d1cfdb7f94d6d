"""The scoring that everybody writes, a loop over pymatgen in one process, to compare verdicts and time with ours."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any

from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from crystallm.crystal.cell import Rejection
from crystallm.crystal.cif import read_cif
from crystallm.crystal.limited import Lost, run_limited
from crystallm.crystal.matching import matcher, rms_distance
from crystallm.crystal.validity import CIF_ERRORS
from crystallm.eval.benchmark import Benchmark
from crystallm.eval.comparisons import Pair, match
from crystallm.eval.prediction import ScoreConfig
from crystallm.eval.rate import Rate
from crystallm.eval.samples import SampleSet
from crystallm.eval.targets import Target

Verdict = tuple[bool, bool]
"""Whether a sample matches under the standard and under the strict tolerances."""


def compare_with_plain(
    benchmark: Benchmark, targets: Sequence[Target], samples: SampleSet, config: ScoreConfig, *, most: int
) -> dict[str, Any]:
    """Verdicts and seconds of both ways on the same `most` samples, the first samples of all targets first.

    The plain way reads every CIF with pymatgen and asks its matcher twice, in one process; ours is what scoring does,
    with its processes and time limits. A verdict that differs is looked at again: `undecided` are those where pymatgen
    contradicts itself when the two crystals change places or are read by another reader, because images of an atom are
    equally near and rounding chooses.
    """
    depth = max((len(samples.by_target.get(target.id, [])) for target in targets), default=0)
    pairs = [
        Pair(target.cif, found[rank].cif, benchmark.standard, benchmark.strict)
        for rank in range(depth)
        for target in targets
        if rank < len(found := samples.by_target.get(target.id, []))
    ][:most]
    by = tuple(matcher(stol=t.stol, ltol=t.ltol, angle_tol=t.angle_tol) for t in (benchmark.standard, benchmark.strict))
    started = time.perf_counter()
    ours: list[Verdict] = [(False, False)] * len(pairs)
    for place, outcome in run_limited(match, pairs, workers=config.processes, time_limit_s=config.time_limit):
        ours[place] = (False, False) if isinstance(outcome, Lost) else _verdict(outcome.rms, outcome.rms_strict)
    seconds_ours = time.perf_counter() - started
    started = time.perf_counter()
    plain = [plain_verdict(pair.true_cif, pair.cif, by) for pair in pairs]
    seconds_plain = time.perf_counter() - started
    different = [place for place, verdict in enumerate(plain) if verdict != ours[place]]
    undecided = sum(_undecided(pairs[place], by, plain[place]) for place in different)
    return {
        "samples": len(pairs),
        "same_verdict": Rate(len(pairs) - len(different), len(pairs)).to_json(),
        "undecided": undecided,
        "differing": len(different) - undecided,
        "seconds_plain": seconds_plain,
        "seconds_ours": seconds_ours,
        "processes": config.processes,
        "times_faster": seconds_plain / seconds_ours if seconds_ours else None,
    }


def plain_verdict(true_cif: str, cif: str | Rejection, by: Sequence[StructureMatcher]) -> Verdict:
    """The verdicts of pymatgen on two CIF texts; what it cannot read matches nothing."""
    sample = None if isinstance(cif, Rejection) else _read(cif)
    truth = _read(true_cif)
    if sample is None or truth is None or not sample.is_ordered:
        return False, False
    standard, strict = (rms_distance(sample, truth, by=matcher) for matcher in by)
    return _verdict(standard, strict)


def _read(cif: str) -> Structure | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Structure.from_str(cif, fmt="cif")
        except CIF_ERRORS:
            return None


def _undecided(pair: Pair, by: Sequence[StructureMatcher], verdict: Verdict) -> bool:
    """Whether pymatgen says something else than `verdict` of the same two crystals presented in another way."""
    sample, truth = read_cif(str(pair.cif)), read_cif(pair.true_cif)
    if isinstance(sample, Rejection) or isinstance(truth, Rejection):
        return False
    first, second = sample.to_structure(), truth.to_structure()
    ways = [[rms_distance(a, b, by=m) for m in by] for a, b in ((first, second), (second, first))]
    return any(_verdict(*found) != verdict for found in ways)


def _verdict(standard: float | None, strict: float | None) -> Verdict:
    return standard is not None, strict is not None
