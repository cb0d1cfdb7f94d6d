"""Fits of rankings on small data that can be checked by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from crystallm.energy.ranking import Evidence, Ranking
from studies.ranking.fitting import Case, calibration, firsts, fit, folds

DRAWN = Evidence(space_group=225, formula_units=1, n_sites=2, n_orbits=2, n_free=1, draw=1, draws=1)
FIRST = replace(DRAWN, draw=0)


def case(name: str, *right: bool) -> Case:
    """Two candidates: the first draw and another."""
    return Case(name, [FIRST, DRAWN], np.array(right))


def test_weights_are_log_odds() -> None:
    """Of eight formulas the first draw is right for six, the other for two: their odds are three to one."""
    cases = [case(f"a{n}", True, False) for n in range(6)] + [case(f"b{n}", False, True) for n in range(2)]
    ranking = fit(cases, ["first_draw"], penalty=1e-9, with_none=False)
    assert ranking.weights["first_draw"] == pytest.approx(math.log(3), abs=1e-3)


def test_none_of_these() -> None:
    """Right six, two times, and neither of the two for two formulas."""
    cases = [case(f"a{n}", True, False) for n in range(6)] + [case(f"b{n}", False, True) for n in range(2)]
    cases += [case(f"c{n}", False, False) for n in range(2)]
    ranking = fit(cases, ["first_draw"], penalty=1e-9)
    assert ranking.probabilities([FIRST, DRAWN]) == pytest.approx([0.6, 0.2], abs=1e-3)


def test_several_that_are_right_share_what_is_right() -> None:
    ranking = fit([case("a", True, True)] * 3 + [case("b", False, False)], ["first_draw"], penalty=1e-9)
    assert sum(ranking.probabilities([FIRST, DRAWN])) == pytest.approx(0.75, abs=1e-3)


def test_a_feature_that_never_varies_gets_no_weight() -> None:
    assert fit([case("a", True, False)], ["known"], with_none=False).weights == {"known": 0.0}


def test_calibration_by_hand() -> None:
    """Two bins: chances of 0.1 of which none is right, chances of 0.8 of which all are."""
    found = calibration(np.array([0.8, 0.1, 0.8, 0.1]), np.array([True, False, True, False]), bins=2)
    assert found.bins == [(pytest.approx(0.1), 0.0, 2), (pytest.approx(0.8), 1.0, 2)]
    assert found.error == pytest.approx((0.1 + 0.2) / 2)
    assert found.brier == pytest.approx((0.01 + 0.04) / 2)


def test_first_and_among_two() -> None:
    ranking = Ranking({"first_draw": 1.0}, 0.0)
    assert firsts(ranking, [case("a", False, True)]) == [False]
    assert firsts(ranking, [case("a", False, True)], 2) == [True]


def test_folds_keep_equal_names_together() -> None:
    parts = folds(["a", "b", "a", "c", "d"], 2, seed=0)
    assert parts[0] == parts[2]
    assert sorted(set(parts)) == [0, 1]
