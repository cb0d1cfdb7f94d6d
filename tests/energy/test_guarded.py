"""A potential that hangs, and one that takes its process down."""

import os
import sys
import time
from types import ModuleType

import numpy as np
import pytest
from ase.calculators.emt import EMT

from crystallm.base.errors import ConfigError
from crystallm.crystal.cell import Cell
from crystallm.energy.potentials.guarded import GuardedPotential
from crystallm.energy.potentials.protocol import Evaluation, NoEnergy

SILVER, COPPER = (
    Cell(a * np.eye(3), np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]), np.full(4, number))
    for a, number in ((4.09, 47), (3.6, 29))
)


class Moody(EMT):  # type: ignore[misc]
    """EMT that hangs when it is asked about silver and dies of gold."""

    def calculate(self, atoms, *more) -> None:  # type: ignore[no-untyped-def]
        if 47 in atoms.numbers:
            time.sleep(60)
        if 79 in atoms.numbers:
            os._exit(1)
        super().calculate(atoms, *more)


@pytest.fixture
def moody(monkeypatch: pytest.MonkeyPatch) -> str:
    module = ModuleType("moody_calculator")
    module.Moody = Moody  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "moody_calculator", module)
    return "moody_calculator:Moody"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a spawned process does not know the module")
def test_a_potential_that_hangs_or_dies_gives_a_reason_and_answers_the_next(moody: str) -> None:
    potential = GuardedPotential(moody, time_limit=2.0)
    gold = Cell(SILVER.lattice, SILVER.positions, np.full(4, 79))
    assert potential.evaluate(SILVER) == NoEnergy("timed out", "after 2 s")
    assert potential.energies([gold]) == [NoEnergy("worker process died", "exit code 1")]
    found = potential.evaluate(COPPER)
    assert isinstance(found, Evaluation)
    assert potential.energies([COPPER]) == [pytest.approx(found.energy)]
    potential.close()


def test_a_limit_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="got 0"):
        GuardedPotential("ase.calculators.emt:EMT", time_limit=0)
