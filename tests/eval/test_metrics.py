"""Match rates, METRe, cRMSE and McNemar's test on cases counted by hand."""

from collections.abc import Sequence

import pytest

from crystallm.base.workers import Fate
from crystallm.crystal.cell import Reason, Rejection
from crystallm.eval.prediction.comparisons import Outcome, Symmetry
from crystallm.eval.prediction.metrics import (
    PairedTest,
    PredictionScore,
    first_match,
    highest,
    mcnemar,
    metre,
    score,
    volume_errors,
)
from crystallm.eval.prediction.results import SpaceGroups
from crystallm.eval.prediction.scoring import over_seeds, space_groups
from crystallm.eval.rate import Rate
from crystallm.eval.sets.samples import Sample, SampleSet
from crystallm.eval.sets.targets import Target

NO_DESCRIPTION = Rejection(Reason.SYMMETRY_FAILED, "not looked for")


def target(name: str, formula: str = "C", n_sites: int = 4) -> Target:
    return Target(name, "", ((formula, 1),), 2, n_sites, NO_DESCRIPTION)


def matched(rms: float, *, strict: bool = False, valid: bool = True) -> Outcome:
    return Outcome(rms, "", rms if strict else None, valid)


MISS = Outcome(None, "no match")


def drawn(number: int, **scores: Sequence[float]) -> list[Sample]:
    return [Sample(i, "", {name: values[i] for name, values in scores.items()}) for i in range(number)]


def own(name: str, *outcomes: Outcome) -> dict[tuple[str, str, int], Outcome]:
    return {(name, name, number): outcome for number, outcome in enumerate(outcomes)}


def numbers(found: PredictionScore) -> dict[str, tuple[int, int] | float | None]:
    return {k: (v.passed, v.attempted) if isinstance(v, Rate) else v for k, v in found.metrics.items()}


def test_every_target_is_in_the_denominator_and_the_order_counts() -> None:
    """One target with a miss, a match that fails the filter and a strict match; one without samples."""
    outcomes = own("a", MISS, matched(0.3, valid=False), matched(0.1, strict=True))
    ranked = {"log_probability": (-9.0, -5.0, -7.0), "protostructure_log_probability": (-2.0, -3.0, -1.0)}
    samples = SampleSet({"a": drawn(3, **ranked), "b": []})
    found = score([target("a"), target("b")], samples, outcomes, tops=(1, 2, 20), metre_tops=(), stol=0.5)
    assert numbers(found) == {
        "match_rate@1": (0, 2),
        "rmse@1": None,
        "match_rate@2": (1, 2),
        "rmse@2": 0.3,
        "match_rate@20": (1, 2),
        "rmse@20": 0.1,
        "match_rate@1_smact": (0, 2),
        "rmse@1_smact": None,
        "match_rate@2_smact": (0, 2),
        "rmse@2_smact": None,
        "match_rate@20_smact": (1, 2),
        "rmse@20_smact": 0.1,
        "match_rate@1_strict": (0, 2),
        "rmse@1_strict": None,
        "match_rate@2_strict": (0, 2),
        "rmse@2_strict": None,
        "match_rate@20_strict": (1, 2),
        "rmse@20_strict": 0.1,
        "match_rate@1_by_log_probability": (1, 2),
        "rmse@1_by_log_probability": 0.3,
        "match_rate@1_by_protostructure_log_probability": (1, 2),
        "rmse@1_by_protostructure_log_probability": 0.1,
    } | {f"volume_error_{kind}@{top}": None for kind in ("mean", "median") for top in (1, 2, 20)}
    assert found.samples == Rate(2, 3)
    assert found.reasons == {"no match": 1}
    assert found.targets_without_samples == 1
    assert found.curve == {1: Rate(0, 2), 2: Rate(1, 2), 3: Rate(1, 2)}
    assert [row.first_match for row in found.per_target] == [2, None]
    assert [row.first_match_smact for row in found.per_target] == [3, None]


def test_a_draw_that_was_given_up_is_never_the_most_probable_crystal() -> None:
    """Its score lacks the factors of what it did not get to, so that it is high."""
    given_up = Sample(0, Rejection(Reason.UNREADABLE, "no crystal"), {"log_probability": -1.0})
    crystal = Sample(1, "", {"log_probability": -9.0})
    assert highest([given_up, crystal], "log_probability") == [crystal]
    assert highest([given_up], "log_probability") == [given_up]


def test_metre_and_crmse_by_hand() -> None:
    """Two carbons and a silicon. A's only sample is B's structure, B's is nobody's, silicon's is its own.

    Match rate: 1 of 3. METRe: B is met by the sample of A, so 2 of 3. cRMSE: (0.5 + 0.2 + 0.1) / 3 with stol 0.5.
    """
    targets = [target("A"), target("B"), target("Si", "Si")]
    samples = SampleSet({"A": drawn(1), "B": drawn(1), "Si": drawn(1)})
    outcomes = {
        **own("A", MISS),
        **own("B", MISS),
        **own("Si", matched(0.1)),
        ("A", "B", 0): MISS,
        ("B", "A", 0): matched(0.2),
    }
    found = numbers(score(targets, samples, outcomes, tops=(1,), metre_tops=(1,), stol=0.5))
    assert found["match_rate@1"] == (1, 3)
    assert found["metre@1"] == (2, 3)
    assert found["crmse@1"] == pytest.approx(0.8 / 3)
    assert metre([], samples, {}, top=1, stol=0.5) == {"metre@1": Rate(0, 0), "crmse@1": None}


def test_volume_errors_are_those_of_the_closest_samples() -> None:
    """Three targets: a match 10 % too large, then a closer one 1 % off; a match 30 % off; none. Logarithms of both."""
    own = [
        [Outcome(0.2, volume_error=0.1), Outcome(0.1, volume_error=0.01), MISS],
        [MISS, Outcome(0.3, volume_error=0.3)],
        [MISS, None],
    ]
    assert volume_errors([found[:1] for found in own], top=1) == {
        "volume_error_mean@1": 0.1,
        "volume_error_median@1": 0.1,
    }
    assert volume_errors(own, top=3) == {
        "volume_error_mean@3": pytest.approx((0.01 + 0.3) / 2),
        "volume_error_median@3": pytest.approx((0.01 + 0.3) / 2),
    }
    assert volume_errors(own[2:], top=3) == {"volume_error_mean@3": None, "volume_error_median@3": None}


def test_metre_takes_the_smallest_rms_of_the_first_samples() -> None:
    samples = SampleSet({"A": drawn(2), "B": drawn(2)})
    outcomes = {
        **own("A", matched(0.3), matched(0.05)),
        **own("B", MISS, MISS),
        ("A", "B", 0): matched(0.2),
        ("A", "B", 1): matched(0.01),
        ("B", "A", 0): MISS,
        ("B", "A", 1): matched(0.4),
    }
    targets = [target("A"), target("B")]
    assert metre(targets, samples, outcomes, top=1, stol=0.5) == {"metre@1": Rate(1, 2), "crmse@1": (0.2 + 0.5) / 2}
    assert metre(targets, samples, outcomes, top=2, stol=0.5) == {"metre@2": Rate(2, 2), "crmse@2": (0.01 + 0.4) / 2}


def test_parts_add_up_to_the_whole() -> None:
    targets = [target("a", n_sites=2), target("b", n_sites=4), target("c", n_sites=25)]
    samples = SampleSet({t.id: drawn(1) for t in targets})
    outcomes = own("a", matched(0.1)) | own("b", MISS) | own("c", matched(0.2))
    groups = {"prototype": {"a": "seen", "b": "seen", "c": "unseen"}}
    found = score(targets, samples, outcomes, tops=(1,), metre_tops=(), stol=0.5, groups=groups)
    assert {part: rates["match_rate@1"] for part, rates in found.parts["sites"].items()} == {
        "1-4": Rate(1, 2),
        "21-30": Rate(1, 1),
    }
    assert found.parts["elements"] == {"1": {"match_rate@1": Rate(2, 3)}}
    assert found.parts["prototype"]["unseen"] == {"match_rate@1": Rate(1, 1)}


def test_space_group_and_units_of_the_first_sample() -> None:
    """No symmetry is known of the truth, so no space group is right; units are, of one of two."""
    targets = [target("a"), target("b")]
    samples = SampleSet({"a": drawn(1), "b": []})
    found = score(
        targets, samples, own("a", MISS), tops=(1,), metre_tops=(), stol=0.5, symmetries={"a": Symmetry(227, 2)}
    )
    assert found.metrics["space_group_accuracy"] == Rate(0, 2)
    assert found.metrics["formula_units_accuracy"] == Rate(1, 2)


def test_first_match_counts_from_one_and_passes_over_what_was_not_compared() -> None:
    assert first_match([None, MISS, matched(0.1)], lambda outcome: outcome.rms) == 3
    assert first_match([MISS], lambda outcome: outcome.rms) is None


def test_mcnemar_by_hand() -> None:
    """Six targets, five on which only the first succeeds: 2 * (1/2)^5 = 1/16; the seventh is not common."""
    first = dict.fromkeys("abcdef", True) | {"x": True}
    second = dict.fromkeys("abcde", False) | {"f": True, "y": False}
    assert mcnemar(first, second) == PairedTest(common_targets=6, only_first=5, only_second=0, p=1 / 16)
    assert mcnemar(first, first).p == 1.0
    assert mcnemar({}, {}).p == 1.0


def test_seeds_give_mean_and_spread() -> None:
    found = over_seeds([{"match_rate@1": Rate(1, 4), "rmse@1": 0.1}, {"match_rate@1": Rate(3, 4), "rmse@1": None}])
    assert found["match_rate@1"].values == [0.25, 0.75]
    assert found["match_rate@1"].mean == 0.5
    assert found["match_rate@1"].spread == pytest.approx(0.5**0.5 / 2)
    assert found["rmse@1"].to_json() == {"values": [0.1, None], "mean": 0.1, "spread": None}
    assert "undecided" not in found["match_rate@1"].to_json()
    found = over_seeds([{"match_rate@1": Rate(1, 4, 2)}, {"match_rate@1": Rate(3, 4)}])
    assert (found["match_rate@1"].values, found["match_rate@1"].undecided) == ([0.25, 0.75], [2, 0])


def test_a_symmetry_that_was_not_found_in_time_is_not_none() -> None:
    found = {"a": Symmetry(None, None, "timed out"), "b": Symmetry(None, None), "c": Symmetry(225, 1)}
    assert space_groups([target("a")], found) == SpaceGroups(samples={"0": 1, "225": 1}, truth={"0": 1})


def test_what_ran_out_of_time_is_undecided_in_every_rate_it_may_change() -> None:
    lost = Outcome(None, str(Fate.TIMED_OUT))
    outcomes = own("a", lost, matched(0.1)) | own("b", MISS, lost) | own("c", MISS, MISS)
    targets = [target("a", "C"), target("b", "N"), target("c", "O")]
    samples = SampleSet({name: drawn(2) for name in "abc"})
    symmetries = {"a": Symmetry(None, None, "timed out"), "b": Symmetry(None, None)}
    found = score(targets, samples, outcomes, tops=(1, 2), metre_tops=(2,), stol=0.5, symmetries=symmetries)
    assert found.metrics["match_rate@1"] == Rate(0, 3, undecided=1)
    assert found.metrics["match_rate@2"] == Rate(1, 3, undecided=1)
    assert found.metrics["metre@2"] == Rate(1, 3, undecided=1)
    assert found.metrics["space_group_accuracy"] == Rate(0, 3, undecided=1)
    assert found.curve == {1: Rate(0, 3, undecided=1), 2: Rate(1, 3, undecided=1)}
    assert found.samples == Rate(1, 6, undecided=2)
    assert found.reasons == {"timed out": 2, "no match": 3}
    assert [row.undecided for row in found.per_target] == [(1,), (2,), ()]
    parts = found.parts["elements"]["1"]
    assert parts["match_rate@2"] == Rate(1, 3, undecided=1)
