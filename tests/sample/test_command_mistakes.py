"""`crystallm sample` from outside: what is refused, and what is said of it."""

import shutil
from pathlib import Path

import pytest

from crystallm.cli import main
from tests.sample.folders import RUTILE, Run

BAD_INPUT = {
    "unknown element": (["Xx2O"], "unknown element 'Xx'"),
    "unparsable formula": (["titania"], "cannot read formula 'titania'"),
    "fractional amount": (["Fe0.5Ni0.5"], "amount 0.5 in formula 'Fe0.5Ni0.5'"),
    "zero amount": (["Ti0O2"], "amount 0 in formula"),
    "no such group": (["TiO2", "--space-group", "231"], "unknown space group '231'"),
    "group that cannot hold it": (["NaClF", "--space-group", "225", "--formula-units", "1"], "cannot hold NaClF"),
    "units that do not fit": (["TiO2", "--space-group", "136", "--formula-units", "1"], "possible here: 2, 4"),
    "too many atoms": (["C80H7"], "more than the limit of 80; raise it with --max-atoms"),
    "no draws": (["TiO2", "-n", "0"], "n must be at least 1, got 0"),
    "no temperature": (["TiO2", "--temperature", "0"], "use top_k=1"),
    "top-p above one": (["TiO2", "--top-p", "1.2"], "top_p must be above 0 and at most 1, got 1.2"),
    "not a number": (["TiO2", "-n", "many"], "invalid int value: 'many'"),
    "unknown option": (["TiO2", "--colour", "red"], "unrecognized arguments"),
    "twice the same": (["TiO2", "O2Ti"], "TiO2 is asked for more than once"),
    "units of nothing": (["TiO2", "--formula-units", "0"], "at least 1, got 0"),
    "no prompts file": (["--prompts", "missing.jsonl"], "cannot read the prompts in missing.jsonl"),
    "prompts and formula": (["NaCl", "--prompts", "missing.jsonl"], "--prompts already says what to make"),
    "no recipe": (["NaCl", "--recipe", "missing.yaml"], "cannot read the recipe missing.yaml"),
    "unknown device": (["NaCl", "-n", "1", "--device", "abacus"], "cannot use device 'abacus'"),
    "nothing wanted": (["TiO2", "--known-only", "--generated-only"], "leave nothing; give one of them"),
    "a look-up of nothing": (["--known-only"], "give at least one FORMULA"),
    "two models": (["TiO2", "--edition", "full", "--model", "some"], "name two models; give one of them"),
    "unknown potential": (["TiO2", "--energies", "--potential", "magic"], "unknown potential 'magic'"),
    "a search without energies": (["TiO2", "--search", "5"], "guided by energies; leave out --no-energies"),
    "impossible free prompt": (["-n", "1", "--space-group", "62", "--formula-units", "1"], "no crystal of at most 80"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input(
    cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in cli(*arguments, exit_code=2)
    assert not list(tmp_path.rglob("*.cif"))


def test_other_settings_in_the_same_folder_are_refused(cli: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cli(*RUTILE, "-n", "1", "--out", str(out), "--no-checks")
    message = cli(*RUTILE, "-n", "1", "--out", str(out), "--temperature", "0.7", exit_code=2)
    assert "other settings (temperature 0.5, now 0.7); choose another --out" in message
    assert "other prompts" in cli("NaCl", "--seed", "3", "--out", str(out), exit_code=2)


def test_places_that_cannot_be_written(cli: Run, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    assert "is a file, not a folder" in cli("NaCl", "--out", str(file), exit_code=2)
    # Below a file nobody can create a folder, whatever their permissions.
    assert "cannot create the folder" in cli("NaCl", "--out", str(file / "below"), exit_code=2)
    (tmp_path / "notes.txt").write_text("mine")
    assert "files that `crystallm sample` did not write" in cli("NaCl", "--out", str(tmp_path), exit_code=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "notes.txt"]


def test_missing_and_foreign_checkpoints(cli: Run, tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    assert "there is no checkpoint folder" in cli("NaCl", model=tmp_path / "missing", exit_code=2)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "config.json").write_text("{}")
    assert "is not a checkpoint of this project" in cli("NaCl", model=foreign, exit_code=2)
    damaged = tmp_path / "damaged"
    shutil.copytree(checkpoints["llama"], damaged)
    weights = (damaged / "model.safetensors").read_bytes()
    (damaged / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert "is damaged" in cli("NaCl", "--out", str(tmp_path / "out"), model=damaged, exit_code=2)


def test_prompt_beyond_the_context(cli: Run, tmp_path: Path) -> None:
    """200 atoms without symmetry take eight tokens each, and the tiny model has room for 512."""
    asked = ("TiO", "--space-group", "1", "--formula-units", "100", "--max-atoms", "200", "--contact", "0")
    printed = cli(*asked, "-n", "1", "--out", str(tmp_path / "out"))
    assert "finished 0 of 1 draws" in printed
    assert "longer than the model's context" in printed


def test_impossible_numbers_of_processes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "NaCl", "--processes", "0"]) == 2
    assert "'0' is not a whole number from 1 on" in capsys.readouterr().err


def test_gather_needs_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gather", str(tmp_path)]) == 2
    assert "holds no samples.jsonl" in capsys.readouterr().err
