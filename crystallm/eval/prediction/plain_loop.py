"""The scoring that everybody writes, a loop over pymatgen in one process, to compare verdicts and time with ours."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from crystallm.base.workers import run_limited
from crystallm.crystal.cell import Rejection
from crystallm.crystal.cif import read_cif
from crystallm.crystal.matching.matcher import matcher, rms_distance
from crystallm.crystal.matching.warm_up import warm_up_matcher
from crystallm.eval.prediction.comparisons import Group, match
from crystallm.eval.prediction.scoring import ScoreConfig
from crystallm.eval.rate import Rate
from crystallm.eval.sets.benchmark import Benchmark
from crystallm.eval.sets.samples import SampleSet
from crystallm.eval.sets.targets import Target

NOISE, DRAWS = 1e-7, 10
"""Moves of sites, in cell edges, that no file resolves, and how many are tried on a verdict that differs."""

CIF_ERRORS = (
    ValueError,  # no structure, numbers that are none, occupancies above 1, an impossible cell
    KeyError,  # columns that belong together, one missing; unknown elements
    IndexError,  # truncated loops and empty blocks
    TypeError,  # a loop where one value belongs, or the reverse
    AttributeError,  # a cell without lengths
    ZeroDivisionError,  # a loop header without rows
    NotImplementedError,  # incommensurate and disordered magnetic structures
    np.linalg.LinAlgError,  # three axes in a plane
    AssertionError,  # operators that are no operators
    OverflowError,  # digits without end
    RecursionError,  # brackets without end
)
"""What pymatgen's reader raises on text that is no CIF of a crystal; found by cutting and corrupting CIFs."""

Verdict = tuple[bool, bool]
"""Whether a sample matches under the standard and under the strict tolerances."""


def compare_with_plain(
    benchmark: Benchmark, targets: Sequence[Target], samples: SampleSet, config: ScoreConfig, *, most: int
) -> dict[str, Any]:
    """Verdicts and seconds of both ways on the same `most` samples, those of the first targets.

    The plain way reads every CIF with pymatgen, each truth once, and asks its matcher twice; ours is what scoring does.
    Both run in this process, target by target in turn, so that what else the machine does slows both alike; then ours
    again in a pool with its time limits. A verdict that differs is looked at again: `undecided` are those where
    pymatgen contradicts itself when the two crystals change places, are read by another reader, or have their sites
    moved by 1e-7 of the cell, because images of an atom are equally near and rounding chooses. These are left out of
    `same_verdict` and counted beside it: `samples` holds them.
    """
    by = tuple(matcher(tolerances) for tolerances in (benchmark.standard, benchmark.strict))
    groups = _groups(benchmark, targets, samples, most)
    seconds_ours = seconds_plain = 0.0
    count, undecided, differing = 0, 0, []
    for name, group in groups.items():
        started = time.perf_counter()
        ours = [_verdict(outcome.rms, outcome.rms_strict) for outcome in match(group)]
        between = time.perf_counter()
        plain = plain_verdicts(group, by)
        seconds_ours += between - started
        seconds_plain += time.perf_counter() - between
        for place, (cif, one, other) in enumerate(zip(group.cifs, ours, plain, strict=True)):
            count += 1
            if one != other and _undecided(group.true_cif, cif, by, other):
                undecided += 1
            elif one != other:
                differing.append({"target": name, "place": place, "ours": one, "plain": other})
    started = time.perf_counter()
    pool = run_limited(
        match, groups.values(), workers=config.processes, time_limit_s=config.time_limit, warm_up=warm_up_matcher
    )
    for _ in pool:
        pass
    seconds_pool = time.perf_counter() - started
    return {
        "samples": count,
        "same_verdict": Rate(count - undecided - len(differing), count - undecided).to_json(),
        "undecided": undecided,
        "differing": differing,
        "seconds_plain": seconds_plain,
        "seconds_ours": seconds_ours,
        "times_faster": seconds_plain / seconds_ours if seconds_ours else None,
        "processes": config.processes,
        "seconds_pool": seconds_pool,
        "times_faster_pool": seconds_plain / seconds_pool if seconds_pool else None,
    }


def _groups(benchmark: Benchmark, targets: Sequence[Target], samples: SampleSet, most: int) -> dict[str, Group]:
    """The samples of the first targets by target, `most` in all."""
    groups = {}
    for target in targets:
        cifs = tuple(sample.cif for sample in samples.by_target.get(target.id, []))[:most]
        if cifs:
            groups[target.id] = Group(target.cif, cifs, benchmark.standard, benchmark.strict)
            most -= len(cifs)
    return groups


def plain_verdicts(group: Group, by: Sequence[StructureMatcher]) -> list[Verdict]:
    """The verdicts of pymatgen on CIF texts; what it cannot read matches nothing."""
    truth, verdicts = _read(group.true_cif), []
    for cif in group.cifs:
        sample = None if isinstance(cif, Rejection) else _read(cif)
        if sample is None or truth is None or not sample.is_ordered:
            verdicts.append((False, False))
            continue
        standard, strict = (rms_distance(sample, truth, by=matcher) for matcher in by)
        verdicts.append(_verdict(standard, strict))
    return verdicts


def _read(cif: str) -> Structure | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Structure.from_str(cif, fmt="cif")
        except CIF_ERRORS:
            return None


def _undecided(true_cif: str, cif: str | Rejection, by: Sequence[StructureMatcher], verdict: Verdict) -> bool:
    """Whether pymatgen says something else than `verdict` of the same two crystals presented in another way."""
    sample, truth = read_cif(str(cif)), read_cif(true_cif)
    if isinstance(sample, Rejection) or isinstance(truth, Rejection):
        return False
    first, second = sample.to_structure(), truth.to_structure()
    rng = np.random.default_rng(0)
    ways = [(first, second), (second, first)]
    ways += [(_moved(first, rng), _moved(second, rng)) for _ in range(DRAWS)]
    return any(_verdict(*(rms_distance(a, b, by=m) for m in by)) != verdict for a, b in ways)


def _moved(structure: Structure, rng: np.random.Generator) -> Structure:
    """The same crystal, sites moved at random by `NOISE` of the cell's edges."""
    noise = rng.normal(0, NOISE, (len(structure), 3))
    return Structure(structure.lattice, structure.species, structure.frac_coords + noise)


def _verdict(standard: float | None, strict: float | None) -> Verdict:
    return standard is not None, strict is not None
