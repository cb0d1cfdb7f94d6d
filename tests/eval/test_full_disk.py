"""A full disk: every command that writes a report says so, ends with 2, and leaves the report that was there."""

import json
from pathlib import Path

import pytest

from crystallm.cli import main as cli
from tests.full_disk import PROMISE, files, full_disk

COMMANDS = {
    "validity": ["validity", "cifs", "--fast", "--workers", "1", "--json", "out/report.json"],
    "readers": ["readers", "cifs", "--workers", "1", "--json", "out/report.json"],
    "agreement": [
        *("agreement", "train.parquet", "--split", "train", "-n", "1", "--random-cells", "0"),
        *("--workers", "1", "--json", "out/report.json"),
    ],
    "roundtrip": ["roundtrip", "train.parquet", "--workers", "1", "--json", "out/report.json"],
    "select": ["select", "train.parquet", "--split", "train", "-n", "1", "--out", "out"],
    "baseline": ["baseline", "salts.yaml", "--data", ".", "--method", "random_template", "-n", "1", "--out", "out"],
    "score": [
        *("score", "salts.yaml", "cifs", "--data", ".", "--workers", "1", "--no-validity", "--no-prototypes"),
        *("--no-metre", "--out", "out"),
    ],
    "denovo": [
        *("denovo", "cifs", "--reference", "train.parquet", "--workers", "1", "--reference-rows", "2"),
        *("--out", "out"),
    ],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_told_and_the_old_report_stays(
    name: str,
    salts: Path,
    cifs: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(salts.parent)
    Path("cifs").mkdir()
    Path("cifs/NaCl__0.cif").write_text(cifs["NaCl"])
    Path("out").mkdir()
    old = ("report.json", "report.md", "samples.jsonl", "denovo.json", "denovo.html", "rates.png", "targets.parquet")
    for file in old:
        Path("out", file).write_text("old")
    before = files(Path("out"))
    with full_disk():
        assert cli(["eval", *COMMANDS[name]]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("crystallm: cannot write")
    assert any(sign in said for sign in PROMISE), said
    after = files(Path("out"))
    assert {file: after[file] for file in before} == before
    assert all(file.endswith((".jsonl", ".png")) for file in after.keys() - before.keys())  # journals, whole pictures


def test_the_same_command_goes_on_when_there_is_room(
    salts: Path, cifs: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(salts.parent)
    Path("cifs").mkdir()
    Path("cifs/NaCl__0.cif").write_text(cifs["NaCl"])
    with full_disk():
        assert cli(["eval", *COMMANDS["score"]]) == 2
    assert "make room" in capsys.readouterr().err
    assert cli(["eval", *COMMANDS["score"]]) == 0
    assert json.loads(Path("out/report.json").read_text())["metrics"]["match_rate@1"]["passed"] == 1
