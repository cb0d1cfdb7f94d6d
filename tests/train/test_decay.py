"""A warm-up-stable-decay run that is given a larger budget goes on as if it had had it from the start."""

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from crystallm.base.errors import CheckpointError
from crystallm.model.checkpoint import load_checkpoint
from crystallm.train.config import TrainConfig
from crystallm.train.schedule import Position
from crystallm.train.state.decay import before_decay, has_begun
from crystallm.train.state.run_folder import RunFolder

ALONE: Any = SimpleNamespace(wait_for_everyone=lambda: None, is_main_process=True)


def test_a_larger_budget_goes_back_to_the_stable_phase(
    arguments: Any, train_here: Any, metrics: Any, tmp_path: Path
) -> None:
    """Ten steps, the last four of them a decay, then twenty: the same losses as twenty at once."""
    settings = {"schedule": "wsd", "decay_fraction": 0.4, "save_every": 3, "eval_every": 10, "patience": 9}
    out = tmp_path / "run"
    assert train_here(arguments(out, **settings, max_steps=10)) == 0
    names = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert names == ["step-00000006", "step-00000009", "step-00000010"]
    decayed = load_checkpoint(out / "final").provenance["training"]["loss_per_token"]
    assert train_here(arguments(out, "--resume", **settings, max_steps=20)) == 0
    assert train_here(arguments(tmp_path / "straight", **settings, max_steps=20)) == 0
    for kind in ("train", "eval"):
        assert metrics(out, kind) == metrics(tmp_path / "straight", kind)
    kept = out / "decayed-00000010"
    assert load_checkpoint(kept).provenance["training"]["loss_per_token"] == decayed
    assert json.loads((kept / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 10
    assert RunFolder(out).decay_step == 12


@pytest.fixture
def decayed(tmp_path: Path) -> RunFolder:
    """A run directory with checkpoints at 6, where the decay began, and at 9 and 10."""
    run = RunFolder(tmp_path)
    for step in (6, 9, 10):
        (run.checkpoints / f"step-{step:08d}").mkdir(parents=True)
        (run.checkpoints / f"step-{step:08d}" / "position.json").write_text(json.dumps({"step": step}))
    run.before_decay.write_text('{"step": 6}')
    run.final.mkdir()
    run.log({"kind": "train", "step": 10})
    return run


CONFIG = TrainConfig(max_steps=20, schedule="wsd", decay_fraction=0.4)


def test_a_mark_without_its_checkpoint_is_made_again(decayed: RunFolder) -> None:
    """Killed while the checkpoint at 6 was written: the run stands at an earlier one, its decay is still to come."""
    assert not has_begun(decayed, Position(step=5))
    assert has_begun(decayed, Position(step=6))
    decayed.before_decay.write_text('{"step": 0}')  # decay_fraction=1
    assert has_begun(decayed, Position(step=5))


def test_the_same_budget_stays_in_its_decay(decayed: RunFolder) -> None:
    assert before_decay(CONFIG, decayed, Position(step=9), 0.9, ALONE) is None
    assert decayed.decay_step == 6


def test_going_back_can_be_interrupted(decayed: RunFolder) -> None:
    """Killed after the first later checkpoint was removed: the next start does the rest."""
    shutil.rmtree(decayed.checkpoints / "step-00000009")
    decayed.final.rename(decayed.path / "decayed-00000010")
    kept = before_decay(CONFIG, decayed, Position(step=10), 0.5, ALONE)
    assert kept == decayed.checkpoints / "step-00000006" == decayed.latest()
    assert decayed.decay_step is None
    assert (decayed.path / "decayed-00000010" / "metrics.jsonl").is_file()


def test_without_its_checkpoint_nothing_is_removed(decayed: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(decayed.checkpoints / "step-00000006")
    with caplog.at_level(logging.WARNING):
        assert before_decay(CONFIG, decayed, Position(step=10), 0.5, ALONE) is None
    assert "the checkpoint of step 6, before the decay, is gone" in caplog.text
    assert decayed.latest() == decayed.checkpoints / "step-00000010"


def test_a_damaged_mark_is_named(decayed: RunFolder) -> None:
    decayed.before_decay.write_text("{")
    with pytest.raises(CheckpointError, match=r"before_decay.json: .*; delete it to continue from the last checkpoint"):
        _ = decayed.decay_step
