"""Potentials by name, and cells that no potential is asked about."""

import importlib.util

import numpy as np
import pytest

from crystallm.base.errors import ConfigError
from crystallm.crystal.cell import Cell
from crystallm.energy.potentials.by_name import load_potential
from crystallm.energy.potentials.protocol import Evaluation, NoEnergy, identity

EMT = "ase.calculators.emt:EMT"
COPPER = Cell(
    3.6 * np.eye(3), np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]), np.full(4, 29, dtype=np.int64)
)


def test_any_calculator_is_a_potential() -> None:
    potential = load_potential(EMT)
    assert potential.name.startswith(EMT)
    assert load_potential(EMT) is potential
    found = potential.evaluate(COPPER)
    assert isinstance(found, Evaluation)
    # EMT's copper: cohesive energy taken as zero, lattice constant 3.59 angstrom.
    assert found.energy == pytest.approx(0, abs=0.01)
    assert found.forces == pytest.approx(np.zeros((4, 3)), abs=1e-9)
    assert found.stress.shape == (3, 3)
    assert potential.energies([COPPER]) == [pytest.approx(found.energy)]


def test_stress_is_the_slope_of_the_energy() -> None:
    potential = load_potential(EMT)
    found = potential.evaluate(COPPER)
    assert isinstance(found, Evaluation)
    energies = potential.energies([Cell(COPPER.lattice * s, COPPER.positions, COPPER.numbers) for s in (1.001, 0.999)])
    slope = 4 * (energies[0] - energies[1]) / 0.002  # type: ignore[operator]
    assert np.trace(found.stress) * COPPER.volume == pytest.approx(slope, rel=1e-2)


def test_what_a_calculator_refuses_is_a_reason() -> None:
    potential = load_potential(EMT)
    sodium = Cell(COPPER.lattice * 1.5, COPPER.positions, np.full(4, 11, dtype=np.int64))
    close = Cell(COPPER.lattice, COPPER.positions * 0.3, COPPER.numbers)
    assert [value.reason for value in potential.energies([sodium, close]) if isinstance(value, NoEnergy)] == [
        "the potential refuses the structure",
        "atoms too close",
    ]
    assert isinstance(potential.evaluate(sodium), NoEnergy)


@pytest.mark.parametrize(
    ("name", "message"),
    [("lj", "package.module:callable"), ("no_such_package:Potential", "install"), ("ase:NoSuch", "no callable")],
)
def test_an_unknown_potential_ends_with_a_message(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_potential(name)


def no_module(name: str) -> None:
    """What `importlib.util.find_spec` answers for a package that is not installed."""


@pytest.mark.parametrize(("name", "remedy"), [("chgnet", "Python below 3.13"), ("sevenn", r"crystallm\[sevenn\]")])
def test_a_missing_potential_names_the_remedy(monkeypatch: pytest.MonkeyPatch, name: str, remedy: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", no_module)
    with pytest.raises(ConfigError, match=remedy):
        load_potential(name)


def test_energies_of_other_versions_are_told_apart() -> None:
    assert identity("chgnet").split()[0] == "chgnet"
    assert identity("nowhere.module:thing") == "nowhere.module:thing"
