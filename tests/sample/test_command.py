"""`crystallm sample` from outside: files, table and folders."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crystallm.base.config import load_recipe
from crystallm.cli import main
from crystallm.crystal.cell import Cell
from crystallm.crystal.cif import read_cif, write_cif
from crystallm.crystal.description import Description
from crystallm.sample.config import SampleConfig
from crystallm.sample.prompts import read_prompts
from tests.sample.folders import RUTILE, Run, cifs, lines, texts

BATIO3_G_MOL = 137.327 + 47.867 + 3 * 15.9994
RECIPES = Path(__file__).parents[2] / "sample"


def test_table_and_files(cli: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    perovskite = ("BaTiO3", "--space-group", "Pm-3m", "--formula-units", "1")
    printed = cli(*perovskite, "-n", "4", "--no-merge", "--out", str(out))
    records, crystals = lines(out / "samples.jsonl"), lines(out / "crystals.jsonl")
    assert [record["sample"] for record in sorted(records, key=lambda r: r["sample"])] == [0, 1, 2, 3]
    assert len(crystals) == 4  # one number is free, the length of the cube: nothing to refuse
    valid = sum(crystal["checks"]["valid"] for crystal in crystals)
    title, heading, *rows = printed.splitlines()
    assert title == f"BaTiO3_221_Z1: finished 4 of 4 draws, distinct 4 of 4, valid {valid} of 4"
    assert " ".join(heading.split()) == "rank chance % phase Z g/cm3 draws origin checks"
    for crystal, row in zip(crystals, rows[:4], strict=True):
        assert [row.split()[place] for place in (0, 2, 3, 4)] == [str(crystal["rank"]), "Pm-3m", "(221)", "1"]
        passed = [check["passed"] for name, check in crystal["checks"].items() if name != "valid"]
        assert row.endswith("  valid") == all(passed)
        assert len(row) <= 110
        cell = read_cif((out / crystal["file"]).read_text())
        assert isinstance(cell, Cell)
        assert cell.amounts == {56: 1, 22: 1, 8: 3}
        assert crystal["volume_per_atom"] == pytest.approx(cell.volume / 5, abs=1e-3)
        assert crystal["density"] == pytest.approx(BATIO3_G_MOL / 0.60221408 / cell.volume, abs=1e-4)
    assert cifs(out) == [crystal["file"] for crystal in crystals]
    assert cifs(out)[0] == "01_BaTiO3_sg221.cif"
    assert "seed 0, temperature 0.5, repeat 0, model llama@" in printed
    chances = [crystal["probability"] for crystal in crystals]
    assert chances == sorted(chances, reverse=True)
    assert 0 < sum(chances) <= 1
    for record in records:
        assert record["prompt"] == {"formula": "BaTiO3", "formula_units": 1, "space_group": 221}
        assert (record["status"], record["reason"]) == ("finished", None)
        assert (record["z"], record["symbol"]) == (1, "Pm-3m")
        assert record["log_probability"] == pytest.approx(sum(record["token_log_probabilities"]), abs=1e-5)
        assert record["n_free"] == len(record["token_log_probabilities"]) < record["n_tokens"]
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["runs"][0]["inputs"]["llama/model.safetensors"].startswith(records[0]["model"].split("@")[1])


def test_checks_have_a_time_limit(cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crystallm.sample.output.writer.CHECK_TIME_LIMIT_S", 1e-6)
    printed = cli("NaCl", "--space-group", "225", "--formula-units", "1", "-n", "1", "--out", str(tmp_path / "out"))
    assert "valid 0 of 1" in printed
    assert "timed out" in printed


def test_same_command_twice_draws_nothing_new(cli: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = cli(*RUTILE, "-n", "4", "--out", str(out), "--no-checks")
    before, ranking = ((out / name).read_bytes() for name in ("samples.jsonl", "crystals.jsonl"))
    assert cli(*RUTILE, "-n", "4", "--out", str(out), "--no-checks", "--batch-size", "2") == first
    assert (out / "samples.jsonl").read_bytes() == before
    assert (out / "crystals.jsonl").read_bytes() == ranking  # to the last decimal: of draws as their records hold them
    cli(*RUTILE, "-n", "7", "--out", str(out), "--no-checks", "--no-merge")
    assert (out / "samples.jsonl").read_bytes().startswith(before)
    assert len(texts(out)) == 7
    # No CIF of the earlier ranking is left behind.
    assert cifs(out) == sorted(crystal["file"] for crystal in lines(out / "crystals.jsonl"))


def test_default_folders(cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    quick = ("-n", "1", "--no-checks", "--max-atoms", "8")
    cli("NaCl", *quick)
    cli("NaCl", *quick, "--seed", "1")
    cli("NaCl", *quick)
    cli("CO", "Co", *quick)
    cli(*quick)
    assert {path.name for path in Path("crystals").iterdir()} == {"NaCl", "NaCl-2", "CO+Co", "free"}
    assert {path.name for path in Path("crystals/CO+Co").iterdir() if path.is_dir()} == {"CO", "Co-2"}


def test_prompts_and_recipe_of_the_repository(cli: Run, tmp_path: Path) -> None:
    assert load_recipe(SampleConfig, RECIPES / "default.yaml") == SampleConfig()
    prompts = read_prompts(RECIPES / "prompts.jsonl")
    command = ("--prompts", str(RECIPES / "prompts.jsonl"), "--recipe", str(RECIPES / "default.yaml"))
    printed = cli(*command, "-n", "1", "--max-atoms", "12", "--no-checks", "--out", str(tmp_path / "out"))
    assert {name for name, _ in texts(tmp_path / "out")} == {prompt.name for prompt in prompts}
    assert all(f"{prompt.name}: finished" in printed for prompt in prompts)


def test_a_look_up_with_energies(cli: Run, tmp_path: Path) -> None:
    """Anatase and rutile, as the database has them, in POSCAR files; nothing is drawn."""
    out = tmp_path / "out"
    wanted = ("TiO2", "--known-only", "--edition", "full", "--energies", "--format", "poscar", "--lattice")
    printed = cli(*wanted, "--out", str(out))
    assert cli(*wanted, "--out", str(out)) == printed  # the folder of a look-up can be used again
    crystals = lines(out / "crystals.jsonl")
    assert not (out / "samples.jsonl").exists()
    by_id = {crystal["known"]["ids"][0]: crystal for crystal in crystals}
    anatase, rutile = by_id["mp-390"], by_id["mp-2657"]
    assert (anatase["space_group"], rutile["space_group"]) == (141, 136)
    assert anatase["lattice"][:3] == pytest.approx([3.78, 3.78, 9.51], rel=0.025)  # angstrom; PBE is 2 % too large
    assert rutile["lattice"][:3] == pytest.approx([4.594, 4.594, 2.959], rel=0.025)
    assert max(anatase["rank"], rutile["rank"]) <= 3
    assert 0 <= rutile["energy"]["above_hull"] < 0.05  # eV/atom
    assert f"{anatase['rank']:>4}" in printed
    assert "mp-390, observed" in printed
    assert len(list(out.glob("*.vasp"))) == len(crystals) > 30


def test_help_needs_no_torch() -> None:
    code = "import sys; from crystallm.sample.__main__ import main; main.parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_evaluation_reads_the_records(cli: Run, tmp_path: Path, rutile: Description) -> None:
    """A true rutile as target: four attempts, the third replaced by the truth, must match."""
    (tmp_path / "prompts.jsonl").write_text('{"id": "mp-2657", "formula": "TiO2", "formula_units": 2}\n')
    out = tmp_path / "out"
    cli("--prompts", str(tmp_path / "prompts.jsonl"), "-n", "4", "--no-checks", "--out", str(out))
    records = lines(out / "samples.jsonl")
    assert {record["target_id"] for record in records} == {"mp-2657"}
    assert sorted(record["sample"] for record in records) == [0, 1, 2, 3]
    for record in records:
        if record["sample"] == 2:
            record["cif"] = write_cif(rutile)
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    pq.write_table(pa.table({"id": ["mp-2657"], "cif": [write_cif(rutile)]}), tmp_path / "targets.parquet")
    options = ["--no-validity", "--no-prototypes", "--workers", "1", "--out", str(tmp_path / "report")]
    options += ["--targets", str(tmp_path / "targets.parquet")]
    assert main(["eval", "score", "validity", str(tmp_path / "samples.jsonl"), *options]) == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["metrics"]["match_rate@1"]["passed"] == 0
    assert report["metrics"]["match_rate@20"]["passed"] == 1
