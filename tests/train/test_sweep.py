"""The sweep over sizes: what compute is, where lines cross, and that a second start only does what is missing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState, GradientState

from crystallm.base.config import load_recipe
from crystallm.base.errors import ConfigError
from crystallm.cli import exit_code
from crystallm.model.architecture import ModelConfig
from crystallm.train.config import TrainConfig
from crystallm.train.monitor.throughput import flops_per_token
from studies.scaling.sweep import Size, main, sweep
from studies.scaling.sweep_report import crossing, markdown

RECIPES = sorted((Path(__file__).parents[2] / "train" / "sweep").glob("*.yaml"))


def test_compute_of_a_token() -> None:
    """6 N, and for each of two layers 12 times width 4 times 10 tokens looked at."""
    config = TrainConfig(max_steps=1, model=ModelConfig(layers=2, hidden=4, heads=2, ffn=8))
    assert flops_per_token(config.model, parameters=1000, length=10) == 6000 + 960


def test_lines_cross_where_the_gap_is_zero() -> None:
    """The gap grows by 1 for each power of ten and is zero at 1e15."""
    assert crossing([1e13, 1e14], [-2.0, -1.0]) == pytest.approx(1e15)
    assert crossing([1e13, 1e14, 1e16], [-2.0, -1.0, 1.0]) == pytest.approx(1e15)
    assert crossing([1e13, 1e14], [-1.0, -2.0]) is None


def test_the_report_names_the_best_of_each_budget() -> None:
    rows = {("1m", 1e13): 3.0, ("1m", 1e14): 2.5, ("6m", 1e13): 3.2, ("6m", 1e14): 2.4}
    points = [
        {"size": size, "parameters": int(size[0]) * 10**6, "budget": budget, "flops": budget, "tokens": 10**6}
        | {"steps": 10, "seconds": 60.0, "loss": loss, "loss_per_crystal": 60 * loss}
        for (size, budget), loss in rows.items()
    ]
    text = markdown(points)
    assert "- 1e+13 FLOPs: the lowest loss is that of 1m, 3.0000 a token." in text
    assert "- 1e+14 FLOPs: the lowest loss is that of 6m, 2.4000 a token." in text
    # -0.2 at 1e13 and +0.1 at 1e14: zero after two thirds of the way
    assert "ahead by -0.2000 at 1e+13, +0.1000 at 1e+14; equal at about 4.6e+13 FLOPs (between budgets)" in text


def test_committed_recipes_differ_in_shape_alone() -> None:
    configs = [load_recipe(TrainConfig, path) for path in RECIPES]
    assert len(configs) == 3
    assert len({repr(replace(config, model=ModelConfig())) for config in configs}) == 1
    assert {config.model.hidden // config.model.heads for config in configs} == {32}


def test_a_budget_spent_on_warm_up_is_refused() -> None:
    size = Size("tiny", TrainConfig(epochs=1, schedule="wsd", warmup_steps=300), 10, 100.0, 1000)
    with pytest.raises(ConfigError, match=r"8.192e\+07 FLOPs are about 100 steps of tiny, and warmup_steps=300 would"):
        size.with_budget(100 * 100 * 8192)
    assert size.with_budget(1000 * 100 * 8192).epochs == pytest.approx(8192)


def test_a_cosine_cannot_be_continued(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text("epochs: 1\n")
    asked = [str(prepared), str(tmp_path / "runs"), "--recipes", str(recipe), "--flops", "1e13"]
    assert exit_code(main, asked) == 2
    assert "small: schedule=cosine; a sweep continues its runs and needs schedule: wsd" in capsys.readouterr().err


@pytest.fixture
def recipes(prepared: Path, tmp_path: Path) -> list[Path]:
    common = (prepared / "recipe.yaml").read_text().replace("max_steps: 24", "epochs: 1").replace("warmup_steps: 4", "")
    common += "schedule: wsd\nwarmup_steps: 1\neval_every: 1000\npatience: 9\n"
    files = []
    for name, layers in (("small", 1), ("large", 2)):
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(common.replace("layers: 1", f"layers: {layers}"))
    return files


def test_a_sweep_trains_each_size_for_each_budget(
    prepared: Path, recipes: list[Path], train_here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the real training; a second start with a larger budget continues, and makes nothing twice."""
    trained: list[float] = []

    def run(*budgets: float, reference: Path | None = None) -> list[dict[str, Any]]:
        return sweep(
            recipes,
            budgets,
            prepared,
            tmp_path / "runs",
            tmp_path / "report",
            reference=reference,
            tokenizer_folder=prepared / "tokenizer",
        )

    def counted(config: TrainConfig, *args: Any, **named: Any) -> Any:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        trained.append(config.epochs or 0)
        return train(config, *args, **named)

    from crystallm.train.session import train

    monkeypatch.setattr("crystallm.train.session.train", counted)
    first = run(2.5e8)
    assert len(trained) == 2
    second = run(2.5e8, 5e8, reference=tmp_path / "runs" / "small")
    assert len(trained) == 4
    assert [point["size"] for point in second] == ["small", "small", "large", "large"]
    assert [point for point in second if point["budget"] == 2.5e8] == first
    for point in second:  # an epoch has few and unequal steps here
        assert point["flops"] == pytest.approx(point["budget"], rel=0.25)
    assert all(b["loss"] < a["loss"] for a, b in zip(second[::2], second[1::2], strict=True))
    report = json.loads((tmp_path / "report" / "scaling.json").read_text())
    assert report["points"] == second
    assert report["reference"][-1]["loss"] == first[0]["loss"]  # as it stood when the sweep was started
    assert (tmp_path / "report" / "scaling.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "report" / "scaling.md").read_text() == markdown(second)
    with pytest.raises(ConfigError, match=r"small has gone beyond 3e\+08 FLOPs already"):
        run(3e8)
