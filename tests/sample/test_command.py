"""`crystallm sample` from outside: files, table, mistakes, Ctrl-C, kill and resume."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crystallm.cli import main
from crystallm.config import load_recipe
from crystallm.crystal.cell import Cell
from crystallm.crystal.cif import read_cif, write_cif
from crystallm.crystal.description import Description
from crystallm.folder_lock import only_writer
from crystallm.sample.config import SampleConfig
from crystallm.sample.prompts import read_prompts
from crystallm.sample.records import RecordFile

BATIO3_G_MOL = 137.327 + 47.867 + 3 * 15.9994
RECIPES = Path(__file__).parents[2] / "sample"
RUTILE = ("TiO2", "--space-group", "P4_2/mnm", "--formula-units", "2", "--seed", "3")

Run = Callable[..., str]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def texts(out: Path) -> dict[tuple[str, int], str]:
    found = {(record["target_id"], record["sample"]): record["text"] for record in lines(out / "samples.jsonl")}
    assert len(found) == len(lines(out / "samples.jsonl"))
    return found


def cifs(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*.cif"))


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


def test_other_settings_in_the_same_folder_are_refused(cli: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cli(*RUTILE, "-n", "1", "--out", str(out), "--no-checks")
    message = cli(*RUTILE, "-n", "1", "--out", str(out), "--temperature", "0.7", exit_code=2)
    assert "other settings (temperature 0.5, now 0.7); choose another --out" in message
    assert "other prompts" in cli("NaCl", "--seed", "3", "--out", str(out), exit_code=2)


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


def test_a_line_cut_short_is_drawn_again(cli: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cli(*RUTILE, "-n", "5", "--out", str(out), "--no-checks")
    expected = texts(out)
    content = (out / "samples.jsonl").read_bytes()
    (out / "samples.jsonl").write_bytes(content[:-40])
    cli(*RUTILE, "-n", "5", "--out", str(out), "--no-checks")
    assert texts(out) == expected
    (out / "samples.jsonl").write_bytes(b"{]\n" + content)
    message = cli(*RUTILE, "-n", "5", "--out", str(out), "--no-checks", exit_code=2)
    assert "samples.jsonl, line 1 is no record of a draw; delete that line" in message


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


def test_help_needs_no_torch() -> None:
    code = "import sys; from crystallm.sample.__main__ import parser; parser(); sys.exit('torch' in sys.modules)"
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


def test_interrupt_kill_and_resume(cli: Run, tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    """Ctrl-C, then the same command killed without warning, then ended: the draws of one undisturbed run."""
    out = tmp_path / "out"
    cubic = ["--space-group", "221", "--formula-units", "1"]  # one number is free: quick to draw
    command = ["BaTiO3", "CsCl", *cubic, "--batch-size", "2", "--no-checks", "--out", str(out)]
    process = start(*command, "-n", "100000", "--model", str(checkpoints["llama"]))
    wait_for_draws(process, out, more_than=3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "are kept in" in err
    assert "the same command continues" in err
    assert "Traceback" not in err
    kept = texts(out)
    process = start(*command, "-n", "100000", "--model", str(checkpoints["llama"]))
    wait_for_draws(process, out, more_than=len(kept) + 3)
    process.kill()
    process.communicate(timeout=60)
    # Keep a few of its whole lines, so that the end is near, and cut the last as a kill in mid-write would.
    drawn = out / "samples.jsonl"
    whole_lines = drawn.read_bytes().splitlines(keepends=True)[: len(kept) + 3]
    wanted = [line for line in whole_lines if json.loads(line)["sample"] < 4]
    drawn.write_bytes(b"".join(wanted)[:-20])
    cli(*command, "-n", "4")
    assert kept.items() & texts(out).items()
    resumed = texts(out)
    whole = tmp_path / "whole"
    cli(*command[:-1], str(whole), "-n", "4")
    assert resumed == texts(whole)


def test_a_full_disk(cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was drawn before is kept, and the message says how to go on."""
    out = tmp_path / "out"
    cli(*RUTILE, "-n", "2", "--no-checks", "--out", str(out))
    before = texts(out)

    def full(self: RecordFile, record: Any) -> None:
        assert self._file is not None
        self._file.close()
        self._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
        append(self, record)

    append = RecordFile.append
    monkeypatch.setattr(RecordFile, "append", full)
    printed = cli(*RUTILE, "-n", "4", "--no-checks", "--out", str(out), exit_code=2)
    assert "No space left on device" in printed
    assert "the same command continues" in printed
    assert texts(out) == before
    monkeypatch.undo()
    with (out / "crystals.jsonl").open("a") as file:
        file.write('{"target_id": "TiO2", "ra')  # as a disk that fills cuts the list of the ranking
    cli(*RUTILE, "-n", "2", "--no-checks", "--out", str(out))
    assert texts(out) == before


def test_prompt_beyond_the_context(cli: Run, tmp_path: Path) -> None:
    """200 atoms without symmetry take eight tokens each, and the tiny model has room for 512."""
    asked = ("TiO", "--space-group", "1", "--formula-units", "100", "--max-atoms", "200", "--contact", "0")
    printed = cli(*asked, "-n", "1", "--out", str(tmp_path / "out"))
    assert "finished 0 of 1 draws" in printed
    assert "longer than the model's context" in printed


def test_two_processes_killed_and_resumed(cli: Run, tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    """The draws are those of one process; each is written once, and the parts are gathered."""
    out = tmp_path / "out"
    command = ["BaTiO3", "CsCl", "--space-group", "221", "--formula-units", "1", "--no-checks", "--out", str(out)]
    model = ["--model", str(checkpoints["llama"])]
    process = start(*command, *model, "-n", "100000", "--batch-size", "2", processes=2)
    wait_for_draws(process, out, more_than=2, file="samples.1.jsonl")
    for member in [*psutil.Process(process.pid).children(recursive=True), process]:
        member.kill()
    process.communicate(timeout=60)
    cli_gather(out)
    kept = texts(out)
    assert len(kept) > 2
    assert not list(out.glob("samples.*.jsonl"))
    drawn = out / "samples.jsonl"
    drawn.write_text("".join(f"{json.dumps(line)}\n" for line in lines(drawn) if line["sample"] < 6))
    process = start(*command, *model, "-n", "6", "--processes", "2")
    printed, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert printed.count("finished 6 of 6 draws") == 2  # of two prompts, told by one process
    assert not list(out.glob("samples.*.jsonl"))
    whole = tmp_path / "whole"
    cli(*command[:-1], str(whole), "-n", "6")
    assert texts(out) == texts(whole)
    assert cifs(out) == cifs(whole)


def test_processes_end_with_a_parent_that_is_killed(cli: Run, tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    """Only the command itself is killed: what it started ends by itself, and the next command works at once."""
    out = tmp_path / "out"
    command = ["BaTiO3", "CsCl", "--space-group", "221", "--formula-units", "1", "--no-checks", "--out", str(out)]
    model = ["--model", str(checkpoints["llama"])]
    source = "import sys; from crystallm.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["sample", *command, *model, "-n", "100000", "--batch-size", "2", "--processes", "2", "--contact", "0"]
    process = subprocess.Popen([sys.executable, "-c", source, *arguments], stdout=subprocess.PIPE, text=True)
    wait_for_draws(process, out, more_than=2, file="samples.1.jsonl")
    members = psutil.Process(process.pid).children(recursive=True)
    assert len(members) >= 3  # what starts the processes, and two of them
    process.kill()
    process.communicate(timeout=60)
    _, alive = psutil.wait_procs(members, timeout=10)
    assert not [member for member in alive if member.status() != psutil.STATUS_ZOMBIE]
    cli_gather(out)
    drawn = out / "samples.jsonl"
    drawn.write_text("".join(f"{json.dumps(line)}\n" for line in lines(drawn) if line["sample"] < 3))
    cli(*command, "-n", "3")
    assert len(texts(out)) == 6


def test_impossible_numbers_of_processes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["sample", "NaCl", "--processes", "0"])
    assert stopped.value.code == 2
    assert "'0' is not a whole number from 1 on" in capsys.readouterr().err


def cli_gather(out: Path) -> None:
    assert main(["gather", str(out)]) == 0


def test_gather_needs_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gather", str(tmp_path)]) == 2
    assert "holds no samples.jsonl" in capsys.readouterr().err


def test_one_run_at_a_time_writes_into_a_folder(cli: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cli(*RUTILE, "-n", "1", "--no-checks", "--out", str(out))
    with only_writer(out):
        said = cli(*RUTILE, "-n", "2", "--no-checks", "--out", str(out), exit_code=2)
    assert f"is writing into {out}; wait for its end, or choose another --out" in said
    assert f"another run (process {os.getpid()}, " in said
    assert len(texts(out)) == 1
    cli(*RUTILE, "-n", "2", "--no-checks", "--out", str(out))
    assert len(texts(out)) == 2
    assert not list(out.glob("*.partial"))


def test_gathering_cut_short_leaves_each_draw_once(cli: Run, tmp_path: Path) -> None:
    """A kill after the draws were put together and before the parts were deleted."""
    out = tmp_path / "out"
    cli(*RUTILE, "-n", "3", "--no-checks", "--out", str(out))
    before = texts(out)
    shutil.copy(out / "samples.jsonl", out / "samples.1.jsonl")
    cli_gather(out)
    assert texts(out) == before


def start(*arguments: str, processes: int = 1) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "crystallm.sample", *arguments, "--contact", "0"]
    if processes > 1:
        launch = ["-m", "accelerate.commands.launch", "--multi_gpu", f"--num_processes={processes}", "--num_machines=1"]
        launch += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0", "-m"]
        command = [sys.executable, *launch, *command[2:]]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


def wait_for_draws(process: subprocess.Popen[str], out: Path, *, more_than: int, file: str = "samples.jsonl") -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        drawn = out / file
        if drawn.exists() and drawn.read_bytes().count(b"\n") > more_than:
            return
        time.sleep(0.05)
    process.kill()
    pytest.fail(f"no draws: {process.communicate()[1]}")
