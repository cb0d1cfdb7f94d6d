"""Nothing is compiled while a clock runs, and what ran out of time is no verdict."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure

from crystallm.base.workers import run_limited
from crystallm.crystal.cell import Cell
from crystallm.crystal.matching import duplicates
from crystallm.crystal.matching.duplicates import group_duplicates

ROCK_SALT = Structure.from_spacegroup(225, Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])

FIRST_RUN = """
import numpy as np
from crystallm.crystal.matching import pairing
from crystallm.crystal.cell import Cell
from crystallm.crystal.matching.displacement import rms_of_many
from crystallm.crystal.matching.reduced_crystal import prepare
from crystallm.crystal.matching.tolerances import DUPLICATE, STANDARD, STRICT
from crystallm.crystal.matching.warm_up import warm_up_matcher

loops = [getattr(pairing, name) for name in ("needed_stol", "near_pairs", "nearest_partners", "costs_of")]
warm_up_matcher()
compiled = [len(loop.signatures) for loop in loops]
assert all(compiled), compiled
rng = np.random.default_rng(0)
for size in (1, 2, 3, 4, 6):
    for _ in range(8):
        numbers, positions = np.sort(rng.choice([6, 8], size)), rng.random((size, 3))
        moved = positions + rng.normal(0, 0.1, (size, 3))
        first, second = (prepare(Cell(np.eye(3) * 5, at, numbers)) for at in (positions, moved))
        rms_of_many([first], second, [STANDARD, STRICT])
        rms_of_many([first, first], second, [DUPLICATE])
assert [len(loop.signatures) for loop in loops] == compiled
"""


def test_the_first_run_after_installation_compiles_before_the_clock_starts(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "numba")}
    made = subprocess.run([sys.executable, "-c", FIRST_RUN], env=environment, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-2000:]


def slow_start() -> None:
    time.sleep(1.5)


def same(item: int) -> int:
    return item


def test_warming_up_takes_no_time_of_the_items() -> None:
    answers = dict(run_limited(same, [3, 4], workers=2, time_limit_s=0.7, warm_up=slow_start))
    assert answers == {0: 3, 1: 4}


ANSWER = duplicates._answer


def slow_on_pairs(question: duplicates.Question) -> duplicates.Answer:
    """As the worker answers, but that the matcher never ends."""
    if isinstance(question, tuple) and isinstance(question[0], Structure):
        time.sleep(60)
    return ANSWER(question)


def slow_on_cells(question: duplicates.Question) -> duplicates.Answer:
    """The same, but that large cells are never reduced."""
    if isinstance(question, Cell) and len(question) > 8:
        time.sleep(60)
    return ANSWER(question)


def test_equal_crystals_are_found_equal() -> None:
    found = group_duplicates([ROCK_SALT, ROCK_SALT.copy(), ROCK_SALT * [1, 1, 2]])
    assert (found.groups, found.undecided) == ([[0, 1, 2]], frozenset())


@pytest.mark.parametrize(("answer", "groups"), [(slow_on_pairs, [[0], [1], [2]]), (slow_on_cells, [[0, 1], [2]])])
def test_comparisons_that_run_out_of_time_are_undecided(
    answer: object, groups: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "_answer", answer)
    structures = [ROCK_SALT, ROCK_SALT.copy(), ROCK_SALT * [1, 1, 2]]
    found = group_duplicates(structures, time_limit_s=3.0)
    assert found.groups == groups
    assert found.undecided == {group[0] for group in groups[1:]}
