"""Structure matching with limits: equal crystals match, hanging and crashing comparisons are lost, not fatal."""

import os
import signal
import time

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crystallm.base.workers import Fate, Lost, Worker, WorkerError, run_limited
from crystallm.crystal.matching.duplicates import group_duplicates
from crystallm.crystal.matching.matcher import matcher, rms_distance, unreduced_matcher
from crystallm.crystal.matching.tolerances import DUPLICATE

ROCK_SALT = Structure.from_spacegroup(225, Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
CSCL_TYPE = Structure(Lattice.cubic(3.4), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
DIAMOND = Structure.from_spacegroup(227, Lattice.cubic(3.567), ["C"], [[0.125] * 3])
OXYGENS = [[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
POTASSIUM_CHLORIDE = Structure.from_spacegroup(225, Lattice.cubic(6.29), ["K", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def test_a_crystal_matches_itself_in_any_cell() -> None:
    moved = ROCK_SALT.copy()
    moved.translate_sites(range(len(moved)), [0.1, 0.2, 0.3])
    assert rms_distance(ROCK_SALT.get_primitive_structure(), moved) == pytest.approx(0, abs=1e-6)


def test_rock_salt_is_not_the_cscl_type_nor_another_compound() -> None:
    assert rms_distance(ROCK_SALT, CSCL_TYPE) is None
    assert rms_distance(ROCK_SALT, POTASSIUM_CHLORIDE) is None


def test_rms_is_normalised_by_the_volume_of_an_atom() -> None:
    # One of two atoms displaced by 0.2 A: relative to their mean both are off by 0.1 A; (V/n)^(1/3) = 5.64 / 2.
    displaced = ROCK_SALT.get_primitive_structure()
    displaced.translate_sites([1], [0.2, 0, 0], frac_coords=False)
    assert rms_distance(displaced, ROCK_SALT) == pytest.approx(0.1 / 2.82, rel=0.02)


def test_duplicates_are_grouped_by_their_first_member() -> None:
    bigger = ROCK_SALT.copy()
    bigger.scale_lattice(ROCK_SALT.volume * 1.3)  # the matcher compares shapes, not volumes
    structures = [CSCL_TYPE, ROCK_SALT, DIAMOND, bigger, POTASSIUM_CHLORIDE, ROCK_SALT.get_primitive_structure()]
    assert group_duplicates(structures).groups == [[0], [1, 3, 5], [2], [4]]
    assert group_duplicates([]).groups == []


def test_what_nothing_else_can_match_is_not_compared() -> None:
    """The rule on sizes: two crystals of one atom in the primitive cell are not compared for the sake of one of two."""
    silicon_fcc = Structure(Lattice.cubic(3.9), ["Si"] * 4, [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    silicon_cube = Structure(Lattice.cubic(2.5), ["Si"], [[0, 0, 0]])
    silicon = Structure.from_spacegroup(227, Lattice.cubic(5.43), ["Si"], [[0, 0, 0]])
    structures = [silicon_fcc, silicon_fcc.copy(), silicon, silicon.copy()]
    assert group_duplicates(structures).groups == [[0, 1], [2, 3]]
    assert group_duplicates(structures, apart=2).groups == [[0], [1], [2, 3]]
    assert group_duplicates([*structures, silicon_cube], apart=2).groups == [[0, 1], [2, 3], [4]]


def test_prefilters_do_not_change_the_grouping() -> None:
    structures = [ROCK_SALT, DIAMOND, CSCL_TYPE, ROCK_SALT.copy(), DIAMOND.get_primitive_structure()]
    plain = matcher(DUPLICATE).group_structures(structures)
    ours = group_duplicates(structures).groups
    assert sorted(len(group) for group in plain) == sorted(len(group) for group in ours)


def test_groups_are_those_of_the_matcher_alone() -> None:
    """Perovskites disturbed about as much as the matcher lets pass."""
    random = np.random.default_rng(0)
    perovskite = Structure(Lattice.cubic(4), ["Ba", "Ti", "O", "O", "O"], [[0, 0, 0], [0.5] * 3, *OXYGENS])
    structures = []
    for size in random.uniform(0.3, 2.0, 25):
        disturbed = perovskite.copy()
        shifts = random.normal(size=(5, 3))
        shifts *= size / np.linalg.norm(shifts, axis=1).max()
        for site, shift in enumerate(shifts):
            disturbed.translate_sites([site], shift, frac_coords=False)
        disturbed.apply_strain(random.uniform(-0.1, 0.1, 3))
        structures.append(disturbed)
    judge, expected = matcher(DUPLICATE), list[list[int]]()
    for index, structure in enumerate(structures):
        group = next((group for group in expected if judge.fit(structures[group[0]], structure)), None)
        if group is None:
            expected.append([index])
        else:
            group.append(index)
    assert 3 < len(expected) < 20
    assert group_duplicates(structures).groups == expected


def act(item: str) -> str:
    match item:
        case "hang":
            # Like compiled code, deaf to every signal that a program can catch.
            signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
            while True:
                time.sleep(60)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "memory":
            raise MemoryError("no room")
        case "bug":
            raise KeyError("a bug")
    return item.upper()


def test_a_call_that_hangs_or_dies_is_lost_and_the_next_one_works() -> None:
    with Worker(act) as worker:
        assert worker.call("a", time_limit_s=10) == "A"
        started = time.monotonic()
        lost = worker.call("hang", time_limit_s=0.3)
        assert time.monotonic() - started < 5
        assert isinstance(lost, Lost)
        assert lost.fate is Fate.TIMED_OUT
        lost = worker.call("die", time_limit_s=10)
        assert isinstance(lost, Lost)
        assert lost.fate is Fate.DIED
        lost = worker.call("memory", time_limit_s=10)
        assert isinstance(lost, Lost)
        assert lost.fate is Fate.MEMORY
        assert worker.call("b", time_limit_s=10) == "B"


def test_a_pool_returns_every_item_once() -> None:
    items = ["a", "hang", "b", "die", "c"] + ["d"] * 20
    found = dict(run_limited(act, items, workers=2, time_limit_s=1.0))
    assert sorted(found) == list(range(len(items)))
    fates = {items[i]: found[i].fate for i in found if isinstance(found[i], Lost)}  # type: ignore[union-attr]
    assert fates == {"hang": Fate.TIMED_OUT, "die": Fate.DIED}
    assert [found[i] for i in (0, 2, 4, 24)] == ["A", "B", "C", "D"]


def test_a_bug_in_a_worker_stops_the_run() -> None:
    with pytest.raises(WorkerError, match="a bug"):
        list(run_limited(act, ["a", "bug"], workers=1, time_limit_s=10))


def test_a_crystal_that_nearly_has_a_smaller_cell_matches_unreduced() -> None:
    # Two cells of caesium chloride in a row, one chlorine off by 0.3 A: the matcher must not see one cell twice.
    doubled = CSCL_TYPE * [1, 1, 2]
    doubled.translate_sites([int(doubled.atomic_numbers.index(17))], [0.3, 0, 0], frac_coords=False)
    assert rms_distance(doubled, doubled.copy(), by=unreduced_matcher()) == pytest.approx(0, abs=1e-6)
    assert rms_distance(CSCL_TYPE * [1, 1, 2], CSCL_TYPE, by=unreduced_matcher()) is None
