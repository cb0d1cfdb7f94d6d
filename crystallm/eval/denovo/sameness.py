"""Which samples repeat an earlier sample or a crystal of the reference: hash by reduced formula, then the matcher."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from tqdm import tqdm

from crystallm.base.workers import Lost, run_limited
from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.cif import read_cif
from crystallm.crystal.matching.matchers import MATCHERS, MatcherName
from crystallm.crystal.matching.tolerances import DUPLICATE
from crystallm.energy.journal import Journal

CHUNK = 20
"""Rivals that one call compares a sample with; the time limit is for one call."""


@dataclass(frozen=True)
class Sameness:
    """Whether one crystal equals any of its rivals."""

    twin: int | None
    """Place among the rivals of the first that is found equal; None if there is none."""
    undecided: str = ""
    """Why it is not known, where a comparison gave no answer and no other found a twin."""


def find_twins(
    crystals: Mapping[int, str],
    rivals: Mapping[int, Sequence[str]],
    journal: Journal,
    *,
    workers: int,
    time_limit_s: float,
    title: str,
    matcher: MatcherName = "pymatgen",
) -> dict[int, Sameness]:
    """Compare CIF texts, each with its rivals (equal reduced formula), at the default tolerances of pymatgen's matcher.

    A call that exceeds the time limit or dies leaves its crystal undecided, never different. Answers are kept in the
    journal by the texts compared, so that they stay true whatever else changes.
    """
    found: dict[int, int] = {}
    lost: dict[int, str] = {}
    chunks = [(index, start) for index in crystals for start in range(0, len(rivals.get(index, ())), CHUNK)]
    todo: list[tuple[int, int, str]] = []

    def note(index: int, start: int, place: int | None) -> None:
        if place is not None:
            found[index] = min(found.get(index, start + place), start + place)

    def open_questions() -> Iterator[tuple[str, Sequence[str]]]:
        for index, start in chunks:
            bar.update()
            if index in found:  # one twin is enough
                continue
            question = (crystals[index], rivals[index][start : start + CHUNK])
            key = _digest(question) + f" {matcher}" * (matcher != "pymatgen")
            if key in journal.values:
                note(index, start, journal.values[key])
                continue
            todo.append((index, start, key))
            yield question

    with tqdm(total=len(chunks), desc=title, unit="call", disable=None) as bar:
        first = partial(first_equal, matcher=matcher)
        warm_up = MATCHERS[matcher].warm_up
        calls = run_limited(first, open_questions(), workers=workers, time_limit_s=time_limit_s, warm_up=warm_up)
        for place, answer in calls:
            index, start, key = todo[place]
            if isinstance(answer, Lost):
                lost[index] = str(answer.fate)
            else:
                note(index, start, answer)
                journal.add(key, answer)
    return {index: Sameness(found.get(index), "" if index in found else lost.get(index, "")) for index in crystals}


def earlier_of_equal(keys: Mapping[int, Hashable]) -> dict[int, list[int]]:
    """For each number the smaller numbers with the same key, in order."""
    buckets: dict[Hashable, list[int]] = {}
    earlier = {}
    for index in sorted(keys):
        bucket = buckets.setdefault(keys[index], [])
        earlier[index] = list(bucket)
        bucket.append(index)
    return earlier


def first_equal(question: tuple[str, Sequence[str]], *, matcher: MatcherName = "pymatgen") -> int | None:
    """Place of the first rival that equals the crystal, all as CIF text; runs in a worker process.

    A rival that cannot be read equals nothing.
    """
    cif, rivals = question
    crystal, judge = _cell(cif), MATCHERS[matcher].load()
    if crystal is None:
        return None
    for place, text in enumerate(rivals):
        rival = _cell(text)
        if rival is not None and next(judge.equal([crystal], rival, DUPLICATE)):
            return place
    return None


@lru_cache(maxsize=256)
def _cell(cif: str) -> Cell | None:
    cell = read_cif(cif)
    return None if isinstance(cell, Rejection) else cell


def _digest(question: tuple[str, Sequence[str]]) -> str:
    state = hashlib.sha256()
    for text in (question[0], *question[1]):
        state.update(hashlib.sha256(text.encode()).digest())
    return state.hexdigest()[:32]
