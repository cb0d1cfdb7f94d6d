"""The benchmark of relaxations: its draws, its table, and one crystal the three ways."""

import importlib.util
import json
from pathlib import Path

import pytest

from crystallm.cli import exit_code
from studies.bench.relaxing import FIRE, OPTIMIZER, OURS, Timing, read_draws, table
from studies.bench.relaxing import main as relaxing


def test_four_draws_of_sixteen_formulas() -> None:
    cells = read_draws()
    formulas = [cell.to_structure().composition.reduced_formula for cell in cells]
    assert (len(formulas), len(set(formulas))) == (64, 16)
    assert all(formulas.count(formula) == 4 for formula in formulas)


def timing(way: str, energies: list[float | None], seconds: float) -> Timing:
    return Timing(way, energies, len(energies), None, seconds, 2 * seconds)


def test_what_has_no_energy_is_not_as_low() -> None:
    ours = timing(OURS, [-1.0, -2.0, None, -3.0], 1.0)
    others = timing(FIRE, [-1.001, -2.1, -2.0, None], 8.0)
    assert ours.no_higher_than(others) == 2
    assert others.no_higher_than(ours) == 3
    lines = table([ours, others]).splitlines()
    assert lines[2].split("|")[7:10] == [" 4.00 ", " 8.0 ", " 2/4 "]


@pytest.mark.skipif(importlib.util.find_spec("chgnet") is None, reason="chgnet is not installed")
def test_three_ways_end_at_one_energy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(relaxing, ["-n", "1", "--json", str(tmp_path / "figures.json")]) == 0
    assert "FIRE over all atoms" in capsys.readouterr().out
    timings = json.loads((tmp_path / "figures.json").read_text())["timings"]
    assert {one["way"] for one in timings} >= {OURS, OPTIMIZER, FIRE}
    energies = [one["energies"][0] for one in timings]
    assert energies == pytest.approx([energies[0]] * len(energies), abs=2e-3)


def test_no_draws_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(relaxing, ["-n", "0"]) == 2
    assert "got 0" in capsys.readouterr().err
