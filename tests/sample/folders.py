"""What tests of `crystallm sample` look at: its files, and runs that are killed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crystallm.cli import main

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


def cli_gather(out: Path) -> None:
    assert main(["gather", str(out)]) == 0
