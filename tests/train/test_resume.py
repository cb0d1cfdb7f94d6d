"""A run that is killed or interrupted goes on as if nothing had happened."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from crystallm.base.errors import ProcessError
from crystallm.model.checkpoint import load_checkpoint
from crystallm.train.state.run_folder import RunFolder
from studies.resume.kill_check import killing_steps, train_to
from studies.resume.kill_check import main as kill_check

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}

KILLED_WHILE_SAVING = """
import os, signal, sys
from crystallm.cli import main
from crystallm.base.errors import ProcessError
from crystallm.model.checkpoint import load_checkpoint
from studies.resume.kill_check import killing_steps, train_to
from studies.resume.kill_check import main as kill_check
from crystallm.train.state.run_folder import RunFolder

finish = RunFolder.finish

def die_at_step_10(run, position):
    if position.step == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    finish(run, position)

RunFolder.finish = die_at_step_10
main(["train", *sys.argv[1:]])
"""
"""Dies when the second checkpoint is written but not yet whole, and ten steps are logged."""


@pytest.fixture(scope="module")
def uninterrupted(arguments: Any, train_here: Any, metrics: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert train_here(arguments(out)) == 0
    assert len(metrics(out, "train")) == 24
    return out


def test_killed_run_resumes_with_the_same_losses(
    uninterrupted: Path, arguments: Any, train_here: Any, metrics: Any, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    killed = [sys.executable, "-c", KILLED_WHILE_SAVING, *arguments(out)]
    done = subprocess.run(killed, env=ENVIRONMENT, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert len(metrics(out, "train")) >= 10  # the checkpoint is written while training goes on
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["step-00000005", "step-00000010.partial"]
    assert train_here(arguments(out, "--resume")) == 0
    assert metrics(out, "train") == metrics(uninterrupted, "train")
    assert metrics(out, "eval") == metrics(uninterrupted, "eval")


def test_interrupt_saves_and_resumes_with_the_same_losses(
    uninterrupted: Path,
    arguments: Any,
    train_here: Any,
    metrics: Any,
    interrupted_at: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    with interrupted_at(7):
        assert train_here(arguments(out)) == 130
    assert "crystallm: interrupted" in capsys.readouterr().err
    assert [path.name for path in (out / "checkpoints").glob("*7")] == ["step-00000007"]
    assert train_here(arguments(out, "--resume")) == 0
    assert metrics(out, "train") == metrics(uninterrupted, "train")
    assert metrics(out, "eval") == metrics(uninterrupted, "eval")


def test_resuming_a_finished_run_adds_nothing(
    uninterrupted: Path, arguments: Any, train_here: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (uninterrupted / "metrics.jsonl").read_text()
    assert train_here(arguments(uninterrupted, "--resume")) == 0
    assert (uninterrupted / "metrics.jsonl").read_text() == before
    assert capsys.readouterr().out.endswith(f"crystallm sample TiO2 --model {uninterrupted / 'best'}\n")


def test_a_finished_run_goes_on_with_a_larger_budget(
    uninterrupted: Path, arguments: Any, train_here: Any, metrics: Any, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(uninterrupted, out)
    assert train_here(arguments(out, "--resume", max_steps=26)) == 0
    assert [step for step, *_ in metrics(out, "train")] == list(range(1, 27))


def test_compiled_runs_resume_and_export(
    arguments: Any, train_here: Any, metrics: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled without generating code, which would take minutes: what is wrapped and saved is the same."""
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda what, **settings: compiled(what, **settings, backend="eager"))
    settings: dict[str, Any] = {"model__dropout": 0, "compile": True, "save_every": 2}
    assert train_here(arguments(tmp_path / "run", **settings, max_steps=4)) == 0
    assert train_here(arguments(tmp_path / "run", "--resume", **settings, max_steps=6)) == 0
    assert train_here(arguments(tmp_path / "plain", model__dropout=0, max_steps=6)) == 0
    run, plain = (load_checkpoint(tmp_path / name / "final").model.state_dict() for name in ("run", "plain"))
    assert run.keys() == plain.keys()
    assert [step for step, *_ in metrics(tmp_path / "run", "train")] == [1, 2, 3, 4, 5, 6]


def test_steps_to_be_killed_at() -> None:
    steps = killing_steps(40, 5, seed=0)
    assert steps == sorted(set(steps))
    assert len(steps) == 5
    assert 1 <= steps[0] <= steps[-1] < 40
    assert killing_steps(40, 5, seed=1) != steps


def test_a_kill_waits_for_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(tmp_path)
    run.log({"kind": "train", "step": 3, "loss": 1.0})
    monkeypatch.setattr("crystallm.train.__main__.main", lambda seconds: time.sleep(float(seconds[0])))
    assert train_to(["60"], run, kill_after=3) == 3
    with pytest.raises(ProcessError, match="`crystallm train 0` ended with code 0; run it to see why"):
        train_to(["0"], run, kill_after=4)


def test_a_recipe_too_short_to_be_killed(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(prepared / "recipe.yaml"), "--data", str(prepared), "--out", str(tmp_path / "report.json")]
    assert kill_check([*arguments, "--kills", "24"]) == 2
    assert "max_steps must be above the 24 kills, got 24; add --set max_steps=40" in capsys.readouterr().err
