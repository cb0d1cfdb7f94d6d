"""Which crystals equal another: within the data (duplicates) and against benchmark test sets (leakage). Pure."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import log
from typing import Any

from pymatgen.core import Structure

from crystallm.base.workers import Lost
from crystallm.crystal.cell import Rejection
from crystallm.crystal.matching.matcher import matcher
from crystallm.crystal.matching.tolerances import DUPLICATE, STANDARD, Tolerances
from crystallm.data.preparing.convert import Traits, read_entry
from crystallm.data.sources.readers import Entry

logger = logging.getLogger(__name__)

VOLUME_RATIO = 1.1
"""Crystals whose volumes per atom differ by more are no duplicates; the matcher scales volumes and would not see it."""

MAX_MATCHER_BUCKET = 50
"""Larger buckets (cation orderings of one lattice) are compared by their numbers only: pairs grow with the square."""

CLOSE_LENGTH = 0.02
CLOSE_ANGLE_DEGREES = 1.0
CLOSE_SHIFT_ANGSTROM = 0.2


def close_numbers(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether two descriptions of equal skeleton say the same crystal: lengths to 2 %, angles to 1 degree,
    sites to 0.2 angstrom. Stricter than the structure matcher at its default tolerances, so a yes needs no matcher.
    """
    if len(first) != len(second):
        return False
    if any(abs(log(a / b)) > CLOSE_LENGTH for a, b in zip(first[:3], second[:3], strict=True)):
        return False
    if any(abs(a - b) > CLOSE_ANGLE_DEGREES for a, b in zip(first[3:6], second[3:6], strict=True)):
        return False
    longest = max(first[:3])
    shifts = (abs(a - b) % 1.0 for a, b in zip(first[6:], second[6:], strict=True))
    return all(min(shift, 1.0 - shift) * longest <= CLOSE_SHIFT_ANGSTROM for shift in shifts)


def same_text(traits: Sequence[Traits], numbers: Iterable[int]) -> dict[int, int]:
    """Duplicates by description alone among the crystals of some numbers: number -> number of the one it repeats."""
    kept: dict[tuple[str, str], list[int]] = defaultdict(list)
    repeats: dict[int, int] = {}
    for index in numbers:
        row = traits[index]
        rivals = kept[row.reduced_formula, row.skeleton]
        twin = next((rival for rival in rivals if close_numbers(row.numbers, traits[rival].numbers)), None)
        if twin is None:
            rivals.append(index)
        else:
            repeats[index] = twin
    return repeats


def duplicate_candidates(traits: Sequence[Traits], numbers: Iterable[int]) -> tuple[dict[int, list[int]], int]:
    """For each crystal the earlier ones that the matcher must be asked about; and how many buckets were too large.

    A bucket holds equal reduced formula, space group and number of atoms in the primitive cell.
    """
    buckets: dict[tuple[str, int, int], list[int]] = defaultdict(list)
    for index in numbers:
        row = traits[index]
        buckets[row.reduced_formula, row.space_group, row.n_sites].append(index)
    candidates: dict[int, list[int]] = {}
    for bucket in buckets.values():
        if len(bucket) > MAX_MATCHER_BUCKET:
            continue
        for position, index in enumerate(bucket):
            rivals = [rival for rival in bucket[:position] if _similar_volume(traits[index], traits[rival])]
            if rivals:
                candidates[index] = rivals
    return candidates, sum(len(bucket) > MAX_MATCHER_BUCKET for bucket in buckets.values())


def _similar_volume(first: Traits, second: Traits) -> bool:
    return abs(log(first.volume_per_atom / second.volume_per_atom)) <= log(VOLUME_RATIO)


def leakage_candidates(
    traits: Sequence[Traits], numbers: Iterable[int], tests: Sequence[Traits], test_numbers: Iterable[int]
) -> dict[int, list[int]]:
    """For each crystal the benchmark structures of its reduced formula, most similar volume first."""
    by_formula: dict[str, list[int]] = defaultdict(list)
    for number in test_numbers:
        by_formula[tests[number].reduced_formula].append(number)
    candidates = {}
    for index in numbers:
        volume = traits[index].volume_per_atom
        rivals = by_formula.get(traits[index].reduced_formula, [])
        if rivals:
            ranked = sorted((abs(log(tests[rival].volume_per_atom / volume)), rival) for rival in rivals)
            candidates[index] = [rival for _, rival in ranked]
    return candidates


class Verdict(StrEnum):
    """What became of a comparison."""

    EQUAL = "equal"
    DIFFERENT = "different"
    NOT_ASKED = "not asked"
    """The structure had found its equal before."""
    GIVEN_UP = "given up"
    """Too slow, or the matcher failed; counts as different."""


@dataclass(frozen=True)
class Pair:
    """Two structures to compare, with their numbers."""

    index: int
    rival: int
    entry: Entry
    rival_entry: Entry


def duplicate_matches(pairs: list[Pair]) -> list[dict[str, Any]]:
    """Which pairs are equal at the matcher's default tolerances."""
    return _matches(pairs, DUPLICATE)


def leakage_matches(pairs: list[Pair]) -> list[dict[str, Any]]:
    """Which pairs are equal at the tolerances by which the benchmarks count a hit."""
    return _matches(pairs, STANDARD)


def lost_pair(pair: Pair, lost: Lost) -> dict[str, Any]:
    """The row of a comparison that gave no answer."""
    logger.warning("comparison of %s with %s given up: %s", pair.entry.id, pair.rival_entry.id, lost.detail)
    return {"index": pair.index, "rival": pair.rival, "verdict": Verdict.GIVEN_UP.value}


def _matches(pairs: list[Pair], tolerances: Tolerances) -> list[dict[str, Any]]:
    """One verdict a pair; a structure that has found its equal is not compared again."""
    judge = matcher(tolerances)
    structures: dict[int, Structure] = {}

    def structure(entry: Entry) -> Structure:
        if id(entry) not in structures:  # pairs share their entries, also after the way through a pipe
            structures[id(entry)] = _structure(entry)
        return structures[id(entry)]

    matched: set[int] = set()
    rows = []
    for pair in pairs:
        if pair.index in matched:
            verdict = Verdict.NOT_ASKED
        elif judge.fit(structure(pair.entry), structure(pair.rival_entry)):
            verdict = Verdict.EQUAL
            matched.add(pair.index)
        else:
            verdict = Verdict.DIFFERENT
        rows.append({"index": pair.index, "rival": pair.rival, "verdict": verdict.value})
    return rows


def _structure(entry: Entry) -> Structure:
    cell = read_entry(entry, trust_atoms=True)  # what contradicts its atoms was refused before, unless they are trusted
    assert not isinstance(cell, Rejection)  # it was read before, when its traits were found
    return cell.to_structure()
