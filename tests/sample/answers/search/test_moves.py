"""Moves of a search: what they keep and what they change."""

import numpy as np
import pytest

from crystallm.crystal.description import Description, Site
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.sample.answers.search.bandit import Bandit
from crystallm.sample.answers.search.kicks import (
    at_volume,
    displace,
    exchange,
    fits,
    redraw,
    reletter,
    volume_per_atom,
)
from crystallm.sample.answers.search.lowering import lower
from crystallm.sample.answers.search.population import Minimum, Population
from crystallm.sample.answers.search.trials import packed, unpacked

RUTILE = Description(
    parse_formula("TiO2"), 2, 136, (4.6, 4.6, 2.96, 90.0, 90.0, 90.0), (Site("Ti", "a", ()), Site("O", "f", (0.305,)))
)
PEROVSKITE = Description(
    parse_formula("SrTiO3"),
    1,
    221,
    (3.95, 3.95, 3.95, 90.0, 90.0, 90.0),
    (Site("Sr", "a", ()), Site("Ti", "b", ()), Site("O", "c", ())),
)
CONTACT = 0.68


def test_volume_per_atom() -> None:
    assert volume_per_atom(RUTILE) == pytest.approx(4.6 * 4.6 * 2.96 / 6)
    fcc = Description((("Al", 1),), 1, 225, (4.05, 4.05, 4.05, 90, 90, 90), (Site("Al", "a", ()),))
    assert volume_per_atom(fcc) == pytest.approx(4.05**3 / 4)
    assert volume_per_atom(at_volume(fcc, 20.0)) == pytest.approx(20.0)


def test_a_redrawn_crystal_keeps_group_and_letters() -> None:
    found = redraw(RUTILE, np.random.default_rng(0), contact=CONTACT, volume=10.4)
    assert found is not None
    assert (found.space_group, [site.letter for site in found.sites]) == (136, ["a", "f"])
    assert found.cell[0] == found.cell[1] != RUTILE.cell[0]
    assert found.sites[1].free != RUTILE.sites[1].free
    assert fits(found, CONTACT)


def test_what_has_no_free_coordinate_cannot_be_displaced() -> None:
    assert displace(PEROVSKITE, np.random.default_rng(0), contact=CONTACT) is None
    found = displace(RUTILE, np.random.default_rng(0), contact=CONTACT)
    assert found is not None
    moved = abs(found.sites[1].free[0] - RUTILE.sites[1].free[0]) * 4.6 * np.sqrt(2)
    assert 0.29 < moved < 1.1


def test_elements_of_equal_amounts_are_exchanged() -> None:
    found = exchange(PEROVSKITE, np.random.default_rng(0), contact=CONTACT)
    assert found is not None
    assert {(site.element, site.letter) for site in found.sites} == {("Sr", "b"), ("Ti", "a"), ("O", "c")}
    assert exchange(RUTILE, np.random.default_rng(0), contact=CONTACT) is None


def test_a_site_goes_to_a_position_of_equal_multiplicity() -> None:
    found = reletter(RUTILE, np.random.default_rng(0), contact=CONTACT)
    assert found is not None
    assert found.amounts == RUTILE.amounts
    assert [site.letter for site in found.sites] != ["a", "f"]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("doubled", [False, True])
def test_a_lowered_crystal_is_a_displaced_one_of_fewer_operations(seed: int, doubled: bool) -> None:
    found = lower(PEROVSKITE, np.random.default_rng(seed), contact=0.6, doubled=doubled, max_atoms=10)
    assert found is not None
    assert found.amounts == PEROVSKITE.amounts
    assert found.formula_units == (2 if doubled else 1)
    assert len(found.sites) > (2 if doubled else 3) or found.space_group != 221
    assert volume_per_atom(found) == pytest.approx(volume_per_atom(PEROVSKITE), rel=0.2)


def test_cells_beyond_the_limit_are_not_doubled() -> None:
    assert lower(PEROVSKITE, np.random.default_rng(0), contact=0.6, doubled=True, max_atoms=9) is None


def test_equal_minima_are_one_and_the_one_that_passes_stays() -> None:
    population = Population([Minimum(RUTILE, -9.0, passed=False)])
    assert not population.add(Minimum(RUTILE, -9.0004, passed=True))
    assert [one.passed for one in population.minima] == [True]
    assert population.add(Minimum(RUTILE, -9.1, passed=False))
    assert population.lowest.energy == -9.0004  # the lower one does not pass


def test_low_crystals_are_parents_more_often() -> None:
    population = Population([Minimum(RUTILE, -9.0, passed=True), Minimum(at_volume(RUTILE, 12.0), -8.95, passed=True)])
    rng = np.random.default_rng(0)
    chosen = [population.choose(rng).energy for _ in range(200)]
    assert 0 < chosen.count(-8.95) < 80


def test_moves_that_gain_are_made_more_often() -> None:
    bandit = Bandit(["a", "b"])
    assert bandit.chances["a"] == pytest.approx(0.5)
    bandit.tell("a", gain=1.0, cost=30)
    bandit.tell("b", gain=0.0, cost=30)
    assert bandit.chances["a"] > 0.6
    assert bandit.chances["b"] > 0.15


def test_descriptions_survive_the_journal() -> None:
    assert unpacked(packed(RUTILE)) == RUTILE
