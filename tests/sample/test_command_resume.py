"""`crystallm sample` from outside: Ctrl-C, kill, a full disk, several processes; the same command goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from crystallm.base.folder_lock import only_writer
from crystallm.sample.output.records import RecordFile
from tests.sample.folders import RUTILE, Run, cifs, cli_gather, lines, start, texts, wait_for_draws


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
