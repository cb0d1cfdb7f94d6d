"""Rates carry denominators; the interval is Wilson's."""

import pytest

from crystallm.eval.rate import Rate, wilson_interval


def test_rate_prints_its_denominator() -> None:
    assert str(Rate(437, 500)) == "437/500 (87.4%)"
    assert str(Rate(0, 0)) == "0/0 (undefined)"
    assert Rate(1, 4).to_json()["attempted"] == 4


def test_wilson_interval_of_known_cases() -> None:
    # 8 of 10 at 95 %: 0.490 to 0.943 (Brown, Cai and DasGupta 2001, the textbook formula).
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(10, 10)[1] == pytest.approx(1.0)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_more_passed_than_attempted_is_a_bug() -> None:
    with pytest.raises(ValueError, match="no rate"):
        Rate(2, 1)


def test_what_is_undecided_is_counted_and_widens_the_interval() -> None:
    rate, decided = Rate(6, 10, undecided=2), Rate(6, 10)
    assert str(rate) == "6/10 (60.0%), 2 undecided"
    assert rate.with_interval().endswith("), 2 undecided")
    assert rate.share == 0.6
    assert rate.interval_95 == (decided.interval_95[0], Rate(8, 10).interval_95[1])
    assert Rate.from_json(rate.to_json()) == rate
    assert Rate.from_json({"passed": 6, "attempted": 10}) == decided  # reports of version 1
    with pytest.raises(ValueError, match="is no rate"):
        Rate(6, 10, undecided=5)
