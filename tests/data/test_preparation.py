import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crystallm.base.errors import ConfigError, InputError
from crystallm.base.folder_lock import only_writer
from crystallm.cli import main
from crystallm.data import PrepareConfig, prepare
from crystallm.data.preparing.steps import split_of

Folder = Callable[..., Path]
Config = Callable[..., PrepareConfig]


def rows(out: Path, split: str = "train") -> dict[str, list[object]]:
    return pq.read_table(out / f"{split}.parquet").to_pydict()


def drops(out: Path) -> dict[str, str]:
    lines = (out / "drops.jsonl").read_text().splitlines()
    return {record["id"]: record["reason"] for record in map(json.loads, lines)}


@pytest.fixture
def mixed(folder: Folder, cifs: SimpleNamespace) -> Path:
    """Two crystals, each in two settings, and four files that must be refused."""
    return folder(
        {
            "rutile.cif": cifs.rutile,
            "rutile_moved.cif": cifs.rutile_moved,
            "salt.cif": cifs.rock_salt,
            "salt_supercell.cif": cifs.rock_salt_supercell,
            "z/binary.cif": b"\x00\x01\x02\xff" * 50,
            "z/close.cif": cifs.too_close,
            "z/disordered.cif": cifs.disordered,
            "z/truncated.cif": cifs.truncated,
        }
    )


def test_a_folder_becomes_prepared_text(mixed: Path, config: Config, tmp_path: Path) -> None:
    report = prepare(config(mixed))
    out = tmp_path / "out"
    prepared = rows(out)
    assert list(prepared) == ["id", "text", "reduced_formula", "n_sites", "space_group", "n_tokens"]
    assert prepared["id"] == ["rutile.cif", "salt.cif"]
    assert prepared["space_group"] == [136, 225]
    assert prepared["n_sites"] == [6, 2]
    assert prepared["n_tokens"] == [23, 16]
    assert drops(out) == {
        "rutile_moved.cif": "duplicate",
        "salt_supercell.cif": "duplicate",
        "z/binary.cif": "unreadable",
        "z/close.cif": "atoms too close",
        "z/disordered.cif": "disordered",
        "z/truncated.cif": "unreadable",
    }
    counts = report["counts"]
    assert counts["described"] == "4/8 (50.00%)"
    assert counts["read"] == len(prepared["id"]) + len(drops(out))
    assert report["statistics"]["train"]["elements_in_rows"] == {"Ti": 1, "O": 1, "Na": 1, "Cl": 1}
    assert report["statistics"]["train"]["tokens"] == 39
    assert "| refused: unreadable | 2 |" in (out / "report.md").read_text()
    assert sorted(path.name for path in out.iterdir()) == [
        "drops.jsonl", "report.json", "report.md", "test.parquet", "train.parquet", "val.parquet"
    ]  # fmt: skip


def test_duplicates_may_stay(mixed: Path, config: Config, tmp_path: Path) -> None:
    prepare(config(mixed, deduplicate="off"))
    assert len(rows(tmp_path / "out")["id"]) == 4


def test_the_matcher_finds_what_the_text_does_not(
    folder: Folder, cifs: SimpleNamespace, config: Config, tmp_path: Path
) -> None:
    # Oxygen moved by 0.36 angstrom: other text, same structure within the tolerance of the matcher.
    source = folder({"a.cif": cifs.rutile, "b.cif": cifs.rutile.replace("0.3053 0.3053", "0.3600 0.3600")})
    by_text = prepare(config(source, deduplicate="text", out=tmp_path / "text"))
    assert by_text["counts"]["duplicates"]["taken_out"] == 0
    by_matcher = prepare(config(source, out=tmp_path / "matcher"))
    assert by_matcher["counts"]["duplicates"]["by_matcher"] == 1
    assert drops(tmp_path / "matcher") == {"b.cif": "duplicate"}


def test_benchmark_structures_are_taken_out(
    folder: Folder, cifs: SimpleNamespace, config: Config, tmp_path: Path
) -> None:
    expanded = cifs.rock_salt.replace("5.64", "5.80")
    source = folder(
        {"rutile.cif": cifs.rutile, "salt.cif": expanded, "caesium.cif": cifs.rock_salt_of("Cs", "Cl", 6.9)}
    )
    caesium_chloride = """data_CsCl
_cell_length_a 4.12
_cell_length_b 4.12
_cell_length_c 4.12
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Cs 0 0 0
Cl 0.5 0.5 0.5
"""
    test = tmp_path / "bench.parquet"
    pq.write_table(
        pa.table({"id": ["t1", "t2", "t3"], "cif": [cifs.rock_salt_supercell, caesium_chloride, "broken"]}), test
    )
    by_structure = prepare(config(source, exclude_matching=(test,), out=tmp_path / "structure"))
    # CsCl of the rock salt type is another crystal than the CsCl of the benchmark.
    assert rows(tmp_path / "structure")["id"] == ["caesium.cif", "rutile.cif"]
    assert by_structure["counts"]["leakage"]["first_match_in"] == {"bench.parquet": 1}
    assert by_structure["counts"]["leakage"]["structures_not_understood"] == 1
    prepare(config(source, exclude_matching=(test,), exclude_level="formula", out=tmp_path / "formula"))
    assert rows(tmp_path / "formula")["id"] == ["rutile.cif"]


def test_a_benchmark_structure_with_a_wrong_sum_does_not_leak(
    folder: Folder, cifs: SimpleNamespace, config: Config, tmp_path: Path
) -> None:
    wrong = cifs.rock_salt.replace("loop_", "_chemical_formula_sum 'Na2 Cl'\nloop_")
    source = folder({"rutile.cif": cifs.rutile, "salt.cif": cifs.rock_salt, "wrong.cif": wrong})
    test = tmp_path / "bench.parquet"
    pq.write_table(pa.table({"id": ["t1"], "cif": [wrong]}), test)
    report = prepare(config(source, exclude_matching=(test,)))
    assert rows(tmp_path / "out")["id"] == ["rutile.cif"]
    assert report["counts"]["leakage"]["structures_not_understood"] == 0
    # What is trained on is still refused where it contradicts itself.
    assert drops(tmp_path / "out") == {"salt.cif": "matches a benchmark test set", "wrong.cif": "contradicts itself"}


def table(tmp_path: Path, cifs: SimpleNamespace) -> Path:
    pairs = [("Na", "Cl"), ("K", "Br"), ("Li", "F"), ("Rb", "I")]
    texts = [cifs.rock_salt_of(cation, anion, 5.0 + place / 10) for place, (cation, anion) in enumerate(pairs)]
    columns = {"id": ["a", "b", "c", "d"], "cif": texts, "part": ["train", "val", "heldout", None]}
    pq.write_table(pa.table(columns), tmp_path / "table.parquet")
    return tmp_path / "table.parquet"


def test_split_by_column(tmp_path: Path, cifs: SimpleNamespace, config: Config) -> None:
    report = prepare(config(table(tmp_path, cifs), split_column="part"))
    out = tmp_path / "out"
    assert (rows(out)["id"], rows(out, "val")["id"], rows(out, "test")["id"]) == (["a"], ["b"], [])
    assert report["counts"]["other_split"] == 2
    assert drops(out) == {"c": "another split", "d": "another split"}


def test_split_by_formula_is_a_hash(config: Config) -> None:
    options = config("x", val_fraction=0.2, test_fraction=0.1)
    splits = [split_of(f"A{n}B", options) for n in range(5000)]
    assert splits.count("test") / 5000 == pytest.approx(0.1, abs=0.02)
    assert splits.count("val") / 5000 == pytest.approx(0.2, abs=0.02)
    assert split_of("TiO2", options) == split_of("TiO2", options)
    other = config("x", val_fraction=0.2, test_fraction=0.1, seed=1)
    assert splits != [split_of(f"A{n}B", other) for n in range(5000)]


def test_the_result_does_not_depend_on_the_number_of_workers(mixed: Path, config: Config, tmp_path: Path) -> None:
    prepare(config(mixed, out=tmp_path / "one"))
    prepare(config(mixed, out=tmp_path / "two", workers=2))
    for name in ("train.parquet", "drops.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_finished_folder_is_kept_or_refused(
    mixed: Path, config: Config, folder: Folder, cifs: SimpleNamespace
) -> None:
    first = prepare(config(mixed))
    assert prepare(config(mixed)) == json.loads(json.dumps(first))
    with pytest.raises(InputError, match=r"holds data prepared with other inputs or options \(seed was 0, now 1\)"):
        prepare(config(mixed, seed=1))
    folder({"new.cif": cifs.rutile})
    with pytest.raises(InputError, match="sources was"):
        prepare(config(mixed))


def test_a_foreign_folder_is_not_touched(mixed: Path, config: Config, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years")
    with pytest.raises(InputError, match="is not empty"):
        prepare(config(mixed))


def test_one_run_at_a_time_prepares_into_a_folder(mixed: Path, config: Config, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with only_writer(tmp_path / "out"), pytest.raises(InputError, match="wait for its end, or choose another folder"):
        prepare(config(mixed))
    assert not list((tmp_path / "out").iterdir())
    prepare(config(mixed))


@pytest.mark.parametrize("left", ["parts", "writing.partial", ".manifest.json.1.partial"])
def test_what_a_kill_leaves_of_a_beginning_is_no_foreign_folder(
    left: str, mixed: Path, config: Config, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    if left == "parts":
        (tmp_path / "out" / left).mkdir()
    else:
        (tmp_path / "out" / left).write_text("")
    assert prepare(config(mixed))["counts"]["written"]["train"] > 0


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
@pytest.mark.parametrize("limit", [300, 2_500, 5_000])
def test_a_full_disk_costs_nothing_that_was_done(limit: int, mixed: Path, config: Config, tmp_path: Path) -> None:
    """No file can grow beyond a limit, which the system tells as it tells of a full disk."""
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))\n"
        "from crystallm.cli import main; sys.exit(main(sys.argv[2:]))"
    )
    wanted = ["data", "prepare", str(mixed), str(tmp_path / "out"), "--workers", "1"]
    wanted += ["--val-fraction", "0", "--test-fraction", "0"]
    done = subprocess.run([sys.executable, "-c", program, str(limit), *wanted], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "crystallm: cannot write" in done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert main(wanted) == 0
    prepare(config(mixed, out=tmp_path / "whole"))
    assert rows(tmp_path / "out") == rows(tmp_path / "whole")


def test_nothing_left_says_why(folder: Folder, cifs: SimpleNamespace, config: Config) -> None:
    with pytest.raises(InputError, match="nothing is left of 1 entries: disordered 1"):
        prepare(config(folder({"a.cif": cifs.disordered})))


def test_impossible_options() -> None:
    for options in ({"val_fraction": 0.6, "test_fraction": 0.6}, {"max_sites": 0}, {"workers": 0}, {"sources": ()}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            PrepareConfig(**({"sources": ("x",), "out": Path("y")} | options))  # type: ignore[arg-type]


def test_command_line(mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "prepare", str(mixed), str(tmp_path / "out"), "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert "described 4/8 (50.00%)" in printed
    assert "refused, disordered: 1" in printed
    assert main(["data", "prepare", str(tmp_path / "nowhere"), str(tmp_path / "other")]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err


def test_a_place_that_cannot_be_written(mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert main(["data", "prepare", str(mixed), str(tmp_path / "file" / "out")]) == 2
    assert "cannot create the folder" in capsys.readouterr().err


SLOW_FIRST = """
import sys, time
import crystallm.data.preparing.steps as steps
from crystallm.cli import main
steps.CRYSTALS_PER_PART = 2
original = steps.converted_rows
def slow(entries, *, config):
    time.sleep(float(sys.argv[1]))
    return original(entries, config=config)
steps.converted_rows = slow
sys.exit(main(sys.argv[2:]))
"""


def start(seconds: float, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", SLOW_FIRST, str(seconds), *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for_parts(folder: Path, number: int, process: "subprocess.Popen[str]") -> list[Path]:
    deadline = time.monotonic() + 60
    while len(parts := sorted(folder.glob("[0-9]*.parquet"))) < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return parts


def test_a_stopped_run_continues(folder: Folder, cifs: SimpleNamespace, config: Config, tmp_path: Path) -> None:
    metals = ["Li", "Na", "K", "Rb", "Cs", "Ag", "Cu", "Tl"]
    source = folder({f"{metal}.cif": cifs.rock_salt_of(metal, "Cl", 5.5) for metal in metals})
    arguments = ("data", "prepare", source, tmp_path / "out", "--workers", 1, "--val-fraction", 0, "--test-fraction", 0)
    written: dict[Path, int] = {}
    for number, (stop, code) in enumerate([(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)], start=1):
        process = start(0.4, *arguments)
        parts = wait_for_parts(tmp_path / "out" / "parts" / "describe", number, process)
        process.send_signal(stop)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == code, errors
        assert ("give the same command to continue" in errors) == (stop is signal.SIGINT)
        assert not (tmp_path / "out" / "report.json").exists()
        for part in parts:  # a finished part is not done again
            assert os.stat(part).st_mtime_ns == written.setdefault(part, os.stat(part).st_mtime_ns)
    with pytest.raises(InputError, match="holds an unfinished preparation made with other"):
        prepare(config(source, max_sites=7))

    process = start(0.0, *arguments)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    prepare(config(source, out=tmp_path / "whole"))
    assert rows(tmp_path / "out") == rows(tmp_path / "whole")
    assert len(rows(tmp_path / "out")["id"]) == len(metals)


def test_a_crystal_that_takes_its_process_down_is_given_up_alone(
    folder: Folder, cifs: SimpleNamespace, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import crystallm.data.preparing.steps as steps

    original = steps.convert
    monkeypatch.setattr(
        steps, "convert", lambda entry, options: os._exit(9) if entry.id == "b.cif" else original(entry, options)
    )
    source = folder({"a.cif": cifs.rutile, "b.cif": cifs.rock_salt_of("K", "Br", 6.6), "c.cif": cifs.rock_salt})
    prepare(config(source))
    assert rows(tmp_path / "out")["id"] == ["a.cif", "c.cif"]
    assert drops(tmp_path / "out") == {"b.cif": "timed out"}
