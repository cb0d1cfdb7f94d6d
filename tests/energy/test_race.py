"""Races of copper: the lowest is relaxed to the end, what is out of reach is not, and Ctrl-C keeps what there is."""

import pytest

from crystallm.base.errors import ConfigError
from crystallm.crystal.description import Description, Site
from crystallm.energy.potentials.protocol import NoEnergy, Potential
from crystallm.energy.relaxation.race import RaceSettings, race
from crystallm.energy.relaxation.relaxation import Relaxed, Stopped, relax

from .conftest import Broken, copper, tetragonal_copper

SIMPLE_CUBIC = Description((("Cu", 1),), 1, 221, (2.4, 2.4, 2.4, 90, 90, 90), (Site("Cu", "a", ()),))
DIAMOND = Description((("Cu", 1),), 2, 227, (6.4, 6.4, 6.4, 90, 90, 90), (Site("Cu", "a", ()),))
SODIUM = Description((("Na", 1),), 1, 229, (4.2, 4.2, 4.2, 90, 90, 90), (Site("Na", "a", ()),))
FIELD = [SIMPLE_CUBIC, copper(3.8), DIAMOND, tetragonal_copper(2.6, 3.5), SODIUM]


def test_only_those_in_reach_are_relaxed_to_the_end(emt: Potential) -> None:
    found = race(FIELD, emt, RaceSettings(first_steps=2, window=0.02))
    assert [one.stopped if isinstance(one, Relaxed) else one.reason for one in found] == [
        Stopped.OUT_OF_REACH,  # simple cubic and diamond copper lie 0.4 and 0.9 eV/atom above
        Stopped.CONVERGED,
        Stopped.OUT_OF_REACH,
        Stopped.CONVERGED,
        "the potential refuses the structure",
    ]
    assert all(isinstance(one, NoEnergy) or one.energy < one.energy_as_given for one in found)
    assert found == race(FIELD, emt, RaceSettings(first_steps=2, window=0.02))


def test_the_winner_is_what_it_is_without_a_race(emt: Potential) -> None:
    assert race(FIELD, emt)[1] == relax(FIELD[1], emt)
    assert [one.stopped for one in race(FIELD[:4], emt, RaceSettings(window=10)) if isinstance(one, Relaxed)] == [
        Stopped.CONVERGED
    ] * 4


def test_an_interrupt_hands_over_what_was_reached() -> None:
    found: dict[int, Relaxed | NoEnergy] = {}
    with pytest.raises(KeyboardInterrupt):
        race([copper(3.7), copper(3.8)], Broken(4, "interrupt"), on_result=found.__setitem__)
    assert [one.stopped for one in found.values() if isinstance(one, Relaxed)] == [Stopped.INTERRUPTED] * 2
    assert all(isinstance(one, NoEnergy) or one.energy < one.energy_as_given for one in found.values())


def test_no_crystals_make_no_race(emt: Potential) -> None:
    assert race([], emt) == []


@pytest.mark.parametrize("settings", [{"first_steps": -1}, {"window": -0.1}, {"time_limit": 0}])
def test_impossible_settings_name_the_value(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="got"):
        RaceSettings(**settings)  # type: ignore[arg-type]
