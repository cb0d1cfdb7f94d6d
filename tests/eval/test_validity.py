"""`crystallm eval validity` on folders, archives and lists, whole and broken."""

import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crystallm.base.errors import ConfigError, InputError
from crystallm.base.workers import run_limited
from crystallm.cli import main as cli
from crystallm.crystal.cell import Rejection
from crystallm.crystal.checks.fast_validity import check_cif_fast
from crystallm.crystal.checks.validity import CheckName, Checks, check_cif
from crystallm.eval.__main__ import COMMANDS
from crystallm.eval.sets.inputs import read_records
from crystallm.eval.validity import main


@pytest.fixture
def folder(tmp_path: Path, cifs: dict[str, str]) -> Path:
    folder = tmp_path / "crystals"
    (folder / "deeper").mkdir(parents=True)
    (folder / "a.cif").write_text(cifs["NaCl"])
    (folder / "deeper" / "b.cif").write_text(cifs["TiO2"])
    (folder / "c.cif").write_text(cifs["too close"])
    (folder / "d.cif").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (folder / "e.cif").write_text(cifs["TiO2"][:300])
    (folder / "f.cif").write_text("")
    (folder / "notes.txt").write_text("not a crystal")
    return folder


def test_every_file_is_in_the_denominator(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(folder), "--workers", "2", "--json", str(tmp_path / "report.json")])
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["complete"] is True
    assert report["rates"]["readable"] | {"interval_95": 0} == {
        "passed": 3,
        "attempted": 6,
        "undecided": 0,
        "share": 0.5,
        "interval_95": 0,
    }
    assert report["rates"]["shortest distance"]["passed"] == 2
    assert report["reasons"]["readable"] == {"unreadable": 2, "no atoms": 1}
    assert [crystal["name"] for crystal in report["crystals"]][:2] == ["a.cif", "c.cif"]
    assert "crystals/a.cif" in report["provenance"]["inputs"]
    printed = capsys.readouterr().out
    assert "readable           3/6 (50.0%" in printed
    assert "1 atoms too close" in printed


def test_a_folder_a_zip_and_a_list_of_the_same_crystals_agree(folder: Path, tmp_path: Path) -> None:
    records = read_records(folder)
    with zipfile.ZipFile(tmp_path / "crystals.zip", "w") as archive:
        for record in records:
            archive.write(folder / record.name, record.name)
    zipped = read_records(tmp_path / "crystals.zip")
    assert [(r.name, r.cif) for r in zipped] == [(r.name, r.cif) for r in records]
    lines = [json.dumps({"id": r.name, "cif": None if isinstance(r.cif, Rejection) else r.cif}) for r in records]
    (tmp_path / "crystals.jsonl").write_text("\n".join(lines) + '\n{"id": "cut of')
    listed = read_records(tmp_path / "crystals.jsonl")
    assert [r.name for r in listed] == [r.name for r in records] + ["line 7"]
    assert isinstance(listed[-1].cif, Rejection)
    assert listed[-1].cif.detail.startswith("line 7 is no JSON")


@pytest.mark.parametrize("source", ["missing", "empty", "text.txt", "no.jsonl", "broken.zip", "broken.parquet"])
def test_sources_that_hold_nothing_end_with_a_message(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("text.txt", "broken.zip", "broken.parquet"):
        (tmp_path / name).write_text("nothing")
    (tmp_path / "no.jsonl").write_text('{"formula": "TiO2"}\n')
    with pytest.raises(InputError, match=source):
        read_records(tmp_path / source)
    assert cli(["eval", "validity", str(tmp_path / source)]) == 2
    assert source in capsys.readouterr().err


def test_impossible_options_name_the_value(folder: Path) -> None:
    with pytest.raises(ConfigError, match="-1"):
        main([str(folder), "--time-limit", "-1"])
    with pytest.raises(ConfigError, match=r"nowhere"):
        main([str(folder), "--json", str(folder / "nowhere" / "report.json")])


def test_unreadable_file_and_folder_named_cif(tmp_path: Path, cifs: dict[str, str]) -> None:
    (tmp_path / "a.cif").mkdir()
    (tmp_path / "b.cif").symlink_to(tmp_path / "gone")
    (tmp_path / "c.cif").write_text(cifs["NaCl"])
    records = read_records(tmp_path)
    assert [isinstance(record.cif, Rejection) for record in records] == [True, True, False]


@pytest.mark.parametrize("as_json", [False, True])
def test_what_cannot_be_opened_costs_no_verdict(
    as_json: bool,
    tmp_path: Path,
    cifs: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A file and a folder without permission, a pipe, a link to nowhere and a file that is too large."""
    folder = tmp_path / "crystals"
    (folder / "locked").mkdir(parents=True)
    for name in ("good.cif", "secret.cif"):
        (folder / name).write_text(cifs["NaCl"])
    (folder / "large.cif").write_text(" " * 200_000)
    (folder / "gone.cif").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe.cif")
    scan, opened = os.scandir, Path.open

    def refuse_folder(path: str) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    def refuse_file(self: Path, *arguments: object, **more: object) -> object:
        if self.name == "secret.cif":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *arguments, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", refuse_folder)
    monkeypatch.setattr(Path, "open", refuse_file)
    report = tmp_path / "report.json"
    options = ["--json", str(report)] if as_json else []
    assert cli(["eval", "validity", str(folder), "--workers", "1", "--max-file-mb", "0.1", "--fast", *options]) == 0
    printed = capsys.readouterr()
    assert "valid              1/6" in printed.out
    for name in ("secret.cif: unreadable: cannot be read: Permission denied", "pipe.cif: unreadable: a named pipe"):
        assert f"not read: {name}" in printed.err
    assert "not read: locked/: unreadable: the folder cannot be read: Permission denied" in printed.err
    assert "not read: large.cif: unreadable: 0.2 MB, more than the 0.1 MB" in printed.err
    if as_json:
        found = json.loads(report.read_text())
        assert (found["records"], found["rates"]["valid"]["passed"]) == (6, 1)
        assert {row["name"] for row in found["crystals"]} >= {"gone.cif", "locked/", "secret.cif"}
        assert found["provenance"]["inputs"]["crystals/secret.cif"] == "unread: Permission denied"
        assert str(tmp_path) not in report.read_text()


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["eval", "--help"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("list", "run", "score", "compare", "baseline", "validity"))
    assert cli(["eval", "nonsense"]) == 2


def test_the_commands_do_not_import_torch() -> None:
    modules = ", ".join(module for module, _ in COMMANDS.values())
    code = f"import {modules}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_ctrl_c_keeps_what_was_done(
    tmp_path: Path, cifs: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*arguments: Any, **options: Any) -> Iterator[Any]:
        for number, result in enumerate(run_limited(*arguments, **options), start=1):
            yield result
            if number == 5:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("crystallm.eval.validity.run_limited", pressed)
    rows = [json.dumps({"id": str(i), "cif": cifs["TiO2"]}) for i in range(3000)]
    (tmp_path / "many.jsonl").write_text("\n".join(rows))
    assert cli(["eval", "validity", str(tmp_path / "many.jsonl"), "--json", str(tmp_path / "report.json")]) == 130
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["complete"] is False
    assert len(report["crystals"]) == 5
    assert "5 of 3000 crystals were checked" in capsys.readouterr().out


@pytest.mark.parametrize("check", [check_cif, check_cif_fast])
@pytest.mark.parametrize("line", ["_chemical_formula_sum", "_chemical_formula_structural"])
def test_an_amount_of_400_digits_is_no_formula(line: str, check: Callable[[str], Checks], cifs: dict[str, str]) -> None:
    text = re.sub(rf"^{line} .*$", f"{line} 'Na{'9' * 400} Cl'", cifs["NaCl"], flags=re.MULTILINE)
    assert "9999" in text
    assert check(text)[CheckName.FORMULA].reason == "formula line is no formula"
