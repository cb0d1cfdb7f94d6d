"""The average of the weights: its arithmetic, and that it neither disturbs a run nor forgets itself on resuming."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from crystallm.model.checkpoint import load_checkpoint
from crystallm.train.monitor.meter import BY_THE_CLOCK
from crystallm.train.optim.ema import WeightAverage


def test_the_first_updates_forget_the_start() -> None:
    """Kept parts are 1/10, 2/11, 3/12, ... up to the decay."""
    model = torch.nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, decay=0.2)
    expected = float(model.weight.detach())
    for kept, value in ((1 / 10, 1.0), (2 / 11, 2.0), (0.2, 3.0)):
        torch.nn.init.constant_(model.weight, value)
        average.update()
        expected = kept * expected + (1 - kept) * value
        assert float(average.averages["weight"]) == pytest.approx(expected)


def test_a_model_has_its_own_weights_back_to_the_last_bit() -> None:
    model = torch.nn.Linear(3, 2)
    average = WeightAverage(model, decay=0.9)
    start = model.weight.detach().clone()
    torch.nn.init.normal_(model.weight)
    own = model.weight.detach().clone()

    def interrupted() -> None:
        with average.worn():
            assert average.is_worn
            assert torch.equal(model.weight, start)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.equal(model.weight, own)
    assert not average.is_worn


def test_fixed_weights_are_not_averaged() -> None:
    model = torch.nn.Linear(3, 2)
    model.weight.requires_grad_(False)
    assert WeightAverage(model, decay=0.9).averages.keys() == {"bias"}


def lines_of(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in BY_THE_CLOCK} for line in lines]


def test_a_run_with_an_average(
    arguments: Any, train_here: Any, metrics: Any, interrupted_at: Any, tmp_path: Path
) -> None:
    """Trains as one without; interrupted and resumed, it ends with the same average; the lower loss is the best."""
    settings = {"ema_decay": 0.8, "max_steps": 10, "eval_every": 6, "patience": 9}
    whole, parts, plain = (tmp_path / name for name in ("whole", "parts", "plain"))
    assert train_here(arguments(whole, **settings)) == 0
    assert train_here(arguments(plain, **(settings | {"ema_decay": 0.0}))) == 0
    assert metrics(whole, "train") == metrics(plain, "train")
    assert metrics(whole, "eval") == metrics(plain, "eval")

    with interrupted_at(7):
        assert train_here(arguments(parts, **settings)) == 130
    assert "# Run parts: stopped" in (parts / "README.md").read_text()
    assert train_here(arguments(parts, "--resume", **settings)) == 0
    assert lines_of(parts) == lines_of(whole)
    for name in ("best", "final", "final_ema"):
        one, two = (load_checkpoint(out / name).model.state_dict() for out in (whole, parts))
        assert all(torch.equal(one[key], two[key]) for key in one)

    evaluations = [line for line in lines_of(whole) if line["kind"] == "eval"]
    lowest = min(min(line["loss"], line["ema_loss"]) for line in evaluations)
    told = {name: load_checkpoint(whole / name).provenance["training"] for name in ("best", "final", "final_ema")}
    assert told["best"]["loss_per_token"] == lowest
    assert told["final"]["loss_per_token"] == evaluations[-1]["loss"]
    assert told["final_ema"]["loss_per_token"] == evaluations[-1]["ema_loss"] != evaluations[-1]["loss"]
    assert (told["final"]["averaged"], told["final_ema"]["averaged"]) == (False, True)
    assert "average over steps (exponential, decay 0.8)" in (whole / "final_ema" / "README.md").read_text()
