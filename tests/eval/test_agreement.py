"""Fast against reference checks: corruptions do what they say, and what differs is counted with its reasons."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from crystallm.base.errors import ConfigError, InputError
from crystallm.base.workers import Fate, Lost
from crystallm.cli import main as cli
from crystallm.crystal.cell import Cell
from crystallm.crystal.checks.validity import CheckName, check_cif, failed_checks
from crystallm.crystal.cif import read_cif
from studies.audit.agreement import (
    Agreement,
    AgreementConfig,
    Comparison,
    Subject,
    compare_checks,
    draw_subjects,
    random_subjects,
)
from studies.audit.corruption import KINDS

Writer = Callable[..., Path]


def corrupted(kind: str, cif: str) -> str:
    return KINDS[kind](cif, random.Random(3))


def cell_of(cif: str) -> Cell:
    cell = read_cif(cif)
    assert isinstance(cell, Cell)
    return cell


@pytest.mark.parametrize(
    ("kind", "check", "reason"),
    [
        ("wrong formula", CheckName.FORMULA, "formula line differs from the atoms"),
        ("wrong space group", CheckName.SPACE_GROUP, "symbol and number disagree"),
        ("wrong multiplicity", CheckName.MULTIPLICITY, "multiplicities differ from the atoms"),
        ("truncated", CheckName.READABLE, "unreadable"),
    ],
)
def test_a_corruption_fails_the_check_it_is_meant_for(
    kind: str, check: CheckName, reason: str, cifs: dict[str, str]
) -> None:
    assert check_cif(cifs["TiO2"])[check].passed
    assert check_cif(corrupted(kind, cifs["TiO2"]), names=[check])[check].reason == reason


def test_corrupted_cells(cifs: dict[str, str]) -> None:
    true = cell_of(cifs["TiO2"])
    assert cell_of(corrupted("resized", cifs["TiO2"])).volume / true.volume == pytest.approx(0.44, abs=0.4)
    assert cell_of(corrupted("resized", cifs["TiO2"])).volume != pytest.approx(true.volume, rel=0.05)
    swapped = cell_of(corrupted("swapped", cifs["TiO2"]))
    assert (swapped.amounts, (swapped.numbers != true.numbers).sum()) == (true.amounts, 2)
    moved = cell_of(corrupted("moved", cifs["TiO2"]))
    assert (moved.amounts, (moved.positions != true.positions).any(axis=1).sum()) == (true.amounts, 1)
    assert cell_of(corrupted("with symmetry", cifs["TiO2"])).amounts == true.amounts
    assert check_cif(corrupted("with symmetry", cifs["TiO2"]))[CheckName.SPACE_GROUP].value == 136
    assert len(corrupted("garbled", cifs["TiO2"])) < len(cifs["TiO2"])


def test_half_of_the_subjects_are_true_and_files_take_turns(cifs: dict[str, str]) -> None:
    files = [[(f"{name} {i}", cifs[name]) for i in range(20)] for name in ("NaCl", "TiO2")]
    subjects = draw_subjects(files, number=64, seed=0)
    kinds = [subject.kind for subject in subjects]
    assert sum(kind in ("as given", "with symmetry") for kind in kinds) == 32
    assert set(kinds) == set(KINDS)
    assert sum(subject.id.startswith("NaCl") for subject in subjects) == 32
    assert subjects == draw_subjects(files, number=64, seed=0)
    with pytest.raises(InputError, match="lower -n to 80"):
        draw_subjects(files, number=200, seed=0)


def test_differences_count_against_agreement_and_lost_crystals_are_undecided(cifs: dict[str, str]) -> None:
    agreement = Agreement()
    good = check_cif(cifs["NaCl"])
    agreement.add(Subject("a", "as given", ""), Comparison(good, good, 0.5, 5.0))
    agreement.add(Subject("b", "moved", ""), Comparison(failed_checks("odd"), good, 0.5, 5.0))
    agreement.add(Subject("c", "moved", ""), Lost(Fate.TIMED_OUT, ""))
    rates = {name: (rate.passed, rate.attempted, rate.undecided) for name, rate in agreement.rates().items()}
    assert set(rates.values()) == {(1, 3, 1)}
    assert agreement.differences["density", "odd", "passed"] == 1
    assert agreement.examples[-1] == {"id": "c", "kind": "moved", "undecided": "timed out"}
    found = agreement.to_json()
    assert found["speed_ratio"] == pytest.approx(10)
    assert found["by_kind"]["moved"]["every check"]["attempted"] == 2


def test_the_command_compares_and_lists(parquet: Writer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = parquet("val.parquet", "NaCl", "TiO2", "CsCl", "KBr", split="val")
    out = tmp_path / "agreement.json"
    assert cli(["eval", "agreement", str(source), "-n", "8", "--workers", "1", "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["rates"]["every check"]["attempted"] == 9  # a fifth as many random cells are added
    assert report["rates"]["every check"]["passed"] == 9
    assert report["speed_ratio"] > 1
    assert "every check" in capsys.readouterr().out
    assert cli(["eval", "agreement", str(source), "--split", "test"]) == 2
    assert "--split" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="got 0"):
        AgreementConfig(number=0)


def test_fast_validity_of_a_folder(tmp_path: Path, cifs: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.cif").write_text(cifs["TiO2"])
    (tmp_path / "b.cif").write_text(cifs["too close"])
    out = tmp_path / "report.json"
    assert cli(["eval", "validity", str(tmp_path), "--fast", "--workers", "1", "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["provenance"]["config"]["fast"] is True
    assert report["rates"]["shortest distance"]["passed"] == 1
    assert "valid              1/2" in capsys.readouterr().out


def test_both_paths_agree_on_cells_that_are_no_crystals() -> None:
    subjects = random_subjects(30, seed=0)
    assert subjects == random_subjects(30, seed=0)
    reasons = set()
    for subject in subjects:
        found = compare_checks(subject.cif)
        assert {name: check.passed for name, check in found.fast.by_name.items()} == {
            name: check.passed for name, check in found.reference.by_name.items()
        }, subject
        reasons.add(found.reference[CheckName.BOND_LENGTHS].reason)
    assert {"no bonds", "atoms coincide", "unreasonable bond"} <= reasons
