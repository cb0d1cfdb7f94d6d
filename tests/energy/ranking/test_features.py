"""Evidence as numbers."""

import math
from dataclasses import replace

import pytest

from crystallm.energy.ranking.evidence import Evidence
from crystallm.energy.ranking.features import (
    FEATURES,
    HIGHEST_EV,
    TIE_EV,
    UNKNOWN_EV,
    above_observed,
    feature_table,
    hull_estimates,
    later_ids,
    point_operations,
)

KNOWN = Evidence(space_group=225, formula_units=1, n_sites=2, n_orbits=2, n_free=1, known=True)


@pytest.mark.parametrize(("number", "operations"), [(1, 1), (2, 2), (62, 8), (136, 16), (194, 24), (225, 48)])
def test_operations_of_point_groups(number: int, operations: int) -> None:
    assert point_operations(number) == operations


def test_decades_after_the_first_observed_id() -> None:
    """mp-100 is hypothetical; of the observed ones mp-1000 came first."""
    evidence = [
        replace(KNOWN, source_ids=("mp-100",), observed=False),
        replace(KNOWN, source_ids=("mp-2000000", "mp-1000", "cod-1"), observed=True),
        replace(KNOWN, source_ids=("mp-100000",), observed=True),
        replace(KNOWN, source_ids=("cod-1000041",), observed=True),
    ]
    assert later_ids(evidence) == pytest.approx([0.0, 0.0, 2.0, 0.0])


def test_hull_by_dft_else_by_the_potential() -> None:
    """The potential's energy is 5 eV/atom lower than that above the hull."""
    evidence = [
        replace(KNOWN, dft_above_hull=0.01, energy=-4.99),
        replace(KNOWN, energy=-4.96),
        replace(KNOWN, dft_above_hull=0.2),
        KNOWN,
    ]
    assert hull_estimates(evidence) == pytest.approx([0.01, 0.04, 0.2, 0.01 + UNKNOWN_EV])


def test_above_the_lowest_observed() -> None:
    evidence = [
        replace(KNOWN, dft_above_hull=0.0, observed=False),
        replace(KNOWN, dft_above_hull=0.01, observed=True),
        replace(KNOWN, dft_above_hull=0.0125, observed=True),
    ]
    assert above_observed(evidence) == pytest.approx([-0.01, 0.0, 0.0025])
    table = feature_table(evidence)
    assert table["hull_to_5"] == pytest.approx([0.0, 0.0, 0.5])
    assert table["below_observed"] == pytest.approx([0.1, 0.0, 0.0])


def test_energies_from_the_lowest_beyond_a_tie() -> None:
    evidence = [replace(KNOWN, energy=e) for e in (-1.0, -1.0 + TIE_EV / 2, -0.95, 3.0)]
    expected = [0.0, 0.0, 0.05 - TIE_EV, HIGHEST_EV]
    assert feature_table([*evidence, KNOWN])["energy_above_best"] == pytest.approx([*expected, 0.0])


def test_relaxed_energies_of_draws_go_before_those_as_given() -> None:
    drawn = replace(KNOWN, known=False)
    evidence = [replace(drawn, energy=0.0, relaxed_energy=-1.0), replace(drawn, energy=-0.9)]
    assert feature_table(evidence)["energy_above_best"] == pytest.approx([0.0, 0.1 - TIE_EV])


def test_probabilities_from_the_highest() -> None:
    evidence = [replace(KNOWN, ranking_log_probability=x) for x in (-3.0, -1.0, -99.0)]
    assert feature_table(evidence)["ranking_below_best"] == pytest.approx([2.0, 0.0, 20.0])


def test_volume_is_off_in_both_directions() -> None:
    evidence = [replace(KNOWN, volume_ratio=x) for x in (2.0, 0.5, None)]
    assert feature_table(evidence)["volume_off"] == pytest.approx([math.log(2), math.log(2), 0.0])


def test_every_feature_is_finite_without_evidence() -> None:
    table = feature_table([KNOWN, replace(KNOWN, space_group=1)])
    assert set(table) == set(FEATURES)
    assert all(len(column) == 2 and all(map(math.isfinite, column)) for column in table.values())


def test_features_of_what_is_not_known() -> None:
    """A known crystal that was drawn, too, is judged as a known one."""
    drawn = replace(KNOWN, known=False, draw=0, ranking_log_probability=-3.0)
    table = feature_table([drawn, replace(drawn, known=True, ranking_log_probability=-1.0)])
    assert table["new"].tolist() == [1.0, 0.0]
    assert table["new_first_draw"].tolist() == [1.0, 0.0]
    assert table["new_ranking_below_best"].tolist() == [2.0, 0.0]
    assert table["new_beside_observed"].tolist() == [0.0, 0.0]
    assert feature_table([drawn, replace(KNOWN, observed=True)])["new_beside_observed"].tolist() == [1.0, 0.0]


def test_energies_of_the_potential_in_steps() -> None:
    """5, 30 and 130 meV/atom above the lowest; nothing is said of a crystal without energy."""
    drawn = replace(KNOWN, known=False)
    evidence = [drawn, *(replace(drawn, relaxed_energy=-1.0 + x) for x in (0.0, 0.0025, 0.03, 1.0))]
    table = feature_table(evidence)
    assert table["energy_to_5"] == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.0])
    assert table["energy_to_30"] == pytest.approx([0.0, 0.0, 0.0, 1.0, 1.0])
    assert table["energy_to_130"] == pytest.approx([0.0, 0.0, 0.0, 0.0, 1.0])
    assert table["energy_unknown"].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_numbers_are_judged_one_by_one() -> None:
    """Four nats over two free parameters."""
    drawn = replace(KNOWN, n_free=2, protostructure_log_probability=-1.0, log_probability=-5.0)
    table = feature_table([drawn, KNOWN, replace(drawn, log_probability=-99.0)])
    assert table["numbers"] == pytest.approx([-2.0, 0.0, -10.0])


def test_templates_near_the_hull() -> None:
    table = feature_table([replace(KNOWN, template_above_hull=x) for x in (0.02, 0.3, None)])
    assert table["template_near_hull"].tolist() == [1.0, 0.0, 0.0]
