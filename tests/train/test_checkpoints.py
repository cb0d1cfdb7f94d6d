"""Checkpoints are written behind training's back, and refused where they do not fit."""

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from crystallm.train.state import checkpoints
from crystallm.train.state.run_folder import RunFolder


@pytest.fixture(scope="module")
def saved(arguments: Any, train_here: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps; the checkpoint of step 2 was held back until step 3 was taken."""
    out = tmp_path_factory.mktemp("saved") / "run"
    third_step, held_back = threading.Event(), []
    write, log = checkpoints._write, RunFolder.log

    def write_late(run: RunFolder, position: Any, *rest: Any) -> None:
        if position.step == 2:
            held_back.append(third_step.wait(timeout=60))
        write(run, position, *rest)

    def tell(run: RunFolder, line: dict[str, Any]) -> None:
        log(run, line)
        if line["step"] == 3:
            third_step.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "_write", write_late)
        patch.setattr(RunFolder, "log", tell)
        assert train_here(arguments(out, max_steps=4, save_every=2)) == 0
    assert held_back == [True]
    return out


def test_training_does_not_wait_for_the_write(saved: Path) -> None:
    names = sorted(path.name for path in (saved / "checkpoints").iterdir())
    assert names == ["step-00000002", "step-00000004"]


def test_a_checkpoint_is_of_the_step_it_was_asked_at(saved: Path) -> None:
    earlier, later = (load_file(saved / "checkpoints" / f"step-0000000{i}" / "model.safetensors") for i in (2, 4))
    assert earlier.keys() == later.keys()
    assert not any(torch.equal(earlier[name], later[name]) for name in earlier)
    exported = load_file(saved / "final" / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(exported[name], later[name].to(torch.bfloat16))


def another_architecture(checkpoint: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    weights["model.norm.weight"] = torch.ones(48)
    save_file(weights, checkpoint / "model.safetensors")


def one_layer_more(checkpoint: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"] = torch.ones(32, 32)
    save_file(weights, checkpoint / "model.safetensors")


def cut_short(checkpoint: Path) -> None:
    for name in ("model.safetensors", "optimizer.bin"):
        content = (checkpoint / name).read_bytes()
        (checkpoint / name).write_bytes(content[: len(content) // (1 if name.startswith("model") else 2)])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (another_architecture, "another architecture: (48,) at model.norm.weight, the recipe has (32,)"),
        (one_layer_more, "another architecture: (32, 32) at model.layers.1.mlp.up_proj.weight, the recipe has nothing"),
        (cut_short, "is damaged: "),
    ],
)
def test_a_checkpoint_that_does_not_fit(
    spoil: Any,
    message: str,
    saved: Path,
    arguments: Any,
    train_here: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    shutil.copytree(saved, out)
    spoil(out / "checkpoints" / "step-00000004")
    assert train_here(arguments(out, "--resume", max_steps=6, save_every=2)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "delete it to use the one before" in said


def test_a_checkpoint_of_an_earlier_version(saved: Path, arguments: Any, train_here: Any, tmp_path: Path) -> None:
    """They named weights as data parallelism and compilation wrap them, and held random states."""
    out = tmp_path / "run"
    shutil.copytree(saved, out)
    last = out / "checkpoints" / "step-00000004"
    weights = {f"module._orig_mod.{name}": value for name, value in load_file(last / "model.safetensors").items()}
    save_file(weights, last / "model.safetensors")
    assert train_here(arguments(out, "--resume", max_steps=5, save_every=2)) == 0


def test_shards_of_one_process(
    saved: Path, arguments: Any, train_here: Any, metrics: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, sharded = tmp_path / "run", {"save_every": 2, "checkpoints": "sharded"}
    assert train_here(arguments(out, **sharded, max_steps=4)) == 0
    shutil.rmtree(out / "checkpoints" / "step-00000004")
    assert train_here(arguments(out, "--resume", **sharded, max_steps=4)) == 0
    assert metrics(out, "train") == metrics(saved, "train")  # bitwise, dropout included
    last = out / "checkpoints" / "step-00000004"
    for shard in (last / "shards").glob("*.distcp"):
        shard.write_bytes(shard.read_bytes()[:100])
    assert train_here(arguments(out, "--resume", **sharded, max_steps=6)) == 2
    assert f"{last} is damaged: " in capsys.readouterr().err
