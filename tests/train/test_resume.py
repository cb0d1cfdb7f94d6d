"""A run that is killed or interrupted goes on as if nothing had happened; two processes train as one does."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

RECIPE = """
model: {layers: 1, hidden: 32, heads: 2, ffn: 32, context: 40, dropout: 0.1}
max_steps: 24
batch_tokens: 512
accumulate: 2
warmup_steps: 4
learning_rate: 0.01
precision: fp32
log_every: 1
eval_every: 9
save_every: 5
"""
# Dropout is on: a resumed run must find the random state where it left it. 24 steps are about three epochs.

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_WAIT_POLICY": "PASSIVE"}


def command(prepared: Path, out: Path, *more: str, launcher: tuple[str, ...] = (sys.executable,)) -> list[str]:
    recipe = prepared / "recipe.yaml"
    recipe.write_text(RECIPE)
    options = ["--data", str(prepared), "--out", str(out), "--tokenizer", str(prepared / "tokenizer"), *more]
    return [*launcher, "-m", "crystallm", "train", str(recipe), *options]


def run(arguments: list[str]) -> None:
    done = subprocess.run(arguments, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def metrics(out: Path, kind: str) -> list[tuple[int, float, int]]:
    lines: list[dict[str, Any]] = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"], line["tokens"]) for line in lines if line["kind"] == kind]


def stop_after(step: int, arguments: list[str], out: Path, *, by: signal.Signals) -> int:
    """Start a run, send it a signal once it has logged `step`, and return its exit status."""
    with subprocess.Popen(arguments, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 90
        while not (out / "metrics.jsonl").is_file() or len(metrics(out, "train")) < step:
            assert process.poll() is None, "ended too early"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(by)
        return process.wait(timeout=60)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, make_prepared: Any) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    prepared = make_prepared(folder / "prepared")
    run(command(prepared, folder / "run"))
    assert len(metrics(folder / "run", "train")) == 24
    return prepared, folder / "run"


def test_killed_run_resumes_with_the_same_losses(uninterrupted: tuple[Path, Path], tmp_path: Path) -> None:
    prepared, expected = uninterrupted
    out = tmp_path / "run"
    status = stop_after(8, command(prepared, out), out, by=signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert sorted(path.name for path in (out / "checkpoints").iterdir())[0] == "step-00000005"
    run(command(prepared, out, "--resume"))
    assert metrics(out, "train") == metrics(expected, "train")
    assert metrics(out, "eval") == metrics(expected, "eval")


def test_interrupt_saves_and_resumes_with_the_same_losses(uninterrupted: tuple[Path, Path], tmp_path: Path) -> None:
    prepared, expected = uninterrupted
    out = tmp_path / "run"
    status = stop_after(7, command(prepared, out), out, by=signal.SIGINT)
    assert status == 130
    run(command(prepared, out, "--resume"))
    assert metrics(out, "train") == metrics(expected, "train")


def test_two_processes_train_as_one(make_prepared: Any, tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path / "prepared")
    settings = ("--set", "model.dropout=0", "--set", "max_steps=12")
    launcher = (sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes=2", "--num_machines=1")
    launcher += (
        "--mixed_precision=no",
        "--dynamo_backend=no",
        "--num_cpu_threads_per_process=1",
        "--main_process_port=0",
    )
    run(command(prepared, tmp_path / "one", *settings))
    run(command(prepared, tmp_path / "two", *settings, launcher=launcher))
    one, two = metrics(tmp_path / "one", "train"), metrics(tmp_path / "two", "train")
    assert [(step, tokens) for step, _, tokens in two] == [(step, tokens) for step, _, tokens in one]
    assert [loss for _, loss, _ in two] == pytest.approx([loss for _, loss, _ in one], rel=2e-5)
    assert metrics(tmp_path / "two", "eval")[0][1] == pytest.approx(metrics(tmp_path / "one", "eval")[0][1], rel=2e-5)
