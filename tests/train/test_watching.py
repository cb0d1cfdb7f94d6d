"""What watches a run: warnings, trackers, draws during training, and the page that explains a run directory."""

import json
import logging
import sys
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crystallm.base.config import from_mapping
from crystallm.base.errors import ConfigError, DivergenceError
from crystallm.crystal.cif import write_cif
from crystallm.eval.sets.targets import make_target
from crystallm.tokenizer.layout import get_layout
from crystallm.train import probe
from crystallm.train.config import TrainConfig
from crystallm.train.monitor.alarm import Watch, require_finite
from crystallm.train.monitor.meter import BY_THE_CLOCK
from crystallm.train.monitor.run_readme import explained
from crystallm.train.monitor.tracking import open_tracker, require_tracker
from crystallm.train.probe import counts, judge
from crystallm.train.schedule import Position
from crystallm.train.state.run_folder import RunFolder

ORIGIN = {"time_utc": "2026-01-01T00:00:00+00:00", "command": "crystallm train", "crystallm": "1", "commit": None}


def train_line(loss: float, norm: float = 1.0) -> dict[str, Any]:
    return {"kind": "train", "loss": loss, "gradient_norm": norm}


def test_a_loss_that_rises_is_told_once() -> None:
    """From 2 to 3 nats: smoothed by 0.8 it is 0.2, 0.36, ... above, so the sixth line is the fifth above 0.3."""
    watch = Watch()
    told = [watch.see(loss=loss, norm=1.0) for loss in [2.0] * 10 + [3.0] * 10]
    (warning,) = told[15]
    assert "0.738 above its lowest" in warning  # 1 - 0.8 ** 6
    assert not any(told[:15] + told[16:])
    resumed = Watch([train_line(loss) for loss in [2.0] * 10 + [3.0] * 6])
    assert not resumed.see(loss=3.0, norm=1.0)


def test_a_gradient_far_above_its_median_is_told() -> None:
    watch = Watch([train_line(2.0)] * 19)
    assert not watch.see(loss=2.0, norm=50.0)  # a median of 19 lines is not yet one
    (warning,) = watch.see(loss=2.0, norm=11.0)
    assert "the gradient norm is 11, 11 times its running median" in warning


def test_numbers_pass(tmp_path: Path) -> None:
    run, position, settled = RunFolder(tmp_path), Position(step=4), list[bool]()
    given = {"loss": 2.0, "learning_rate": 0.1, "settle": lambda: settled.append(True)}
    require_finite(run, position, norms=[1.0, 1e9], **given)
    assert not settled
    with pytest.raises(DivergenceError, match="at step 3 the gradient norm was inf"):
        require_finite(run, position, norms=[float("inf"), 1.0], **given)
    assert settled  # what is being written is waited for before it is named


def test_a_run_that_leaves_the_numbers_stops(
    arguments: Any, train_here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The seventh step is taken at a rate beyond reason; the eighth finds no finite gradient."""
    monkeypatch.setattr("crystallm.train.loop.learning_rate", lambda config, step, done: 0.01 if step < 6 else 1e38)
    out = tmp_path / "run"
    assert train_here(arguments(out, save_every=3, log_every=10, patience=9)) == 2
    said = capsys.readouterr().err
    assert "training stopped: at step 8 the gradient norm was nan" in said
    assert "learning_rate=3e+37 or lower" in said
    assert f"{out / 'checkpoints' / 'step-00000006'} is kept" in said
    assert RunFolder(out).latest() == out / "checkpoints" / "step-00000006"
    assert "# Run run: stopped by an error\n\ntraining stopped: at step 8" in (out / "README.md").read_text()


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that stands for wandb or trackio and remembers what it was told."""

    def make(name: str) -> Any:
        told = SimpleNamespace(opened=[], logged=[], config={}, finished=0)

        def finish() -> None:
            told.finished += 1

        def init(**settings: Any) -> Any:
            told.opened.append(settings)
            return SimpleNamespace(log=lambda values, step: told.logged.append((step, values)), finish=finish)

        module: Any = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        module.init = init
        module.config = SimpleNamespace(update=lambda values, allow_val_change: told.config.update(values))
        monkeypatch.setitem(sys.modules, name, module)
        return told

    return make


def test_a_run_is_tracked_and_resumed_under_one_name(
    tracker: Any, arguments: Any, train_here: Any, tmp_path: Path
) -> None:
    told, out = tracker("wandb"), tmp_path / "run"
    assert train_here(arguments(out, "--track", "wandb", max_steps=2)) == 0
    assert train_here(arguments(out, "--resume", "--track", "wandb", max_steps=3)) == 0
    assert [(step, set(values)) for step, values in told.logged if "eval/loss" in values] == [
        (step, {"eval/loss", "eval/loss_per_crystal"}) for step in (2, 3)
    ]
    losses = [line["loss"] for line in RunFolder(out).lines() if line["kind"] == "train"]
    assert [values["train/loss"] for _, values in told.logged if "train/loss" in values] == losses
    first, second = told.opened
    assert first["project"] == "crystallm"
    assert first["name"] == first["id"] == second["id"]
    assert first["name"].startswith("run-")
    assert told.config["max_steps"] == 3
    assert told.finished == 2


def test_trackio(tracker: Any, tmp_path: Path) -> None:
    told = tracker("trackio")
    opened = open_tracker(TrainConfig(max_steps=1, track="trackio"), RunFolder(tmp_path))
    opened.log({"train/loss": 2.0}, step=1)
    assert told.logged == [(1, {"train/loss": 2.0})]
    assert told.opened[0].keys() == {"project", "name", "resume"}


def test_a_tracker_that_is_not_installed(
    arguments: Any, train_here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("crystallm.train.monitor.tracking.find_spec", lambda name: None)
    assert train_here(arguments(tmp_path / "run", "--track", "wandb")) == 2
    assert "track=wandb needs the package wandb: pip install wandb" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    require_tracker(None)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("decay_fraction", 0, "decay_fraction must be above 0 and at most 1, got 0"),
        ("decay_shape", "cosine", "decay_shape must be one of '1-sqrt', 'linear', got 'cosine'"),
        ("schedule", "wds", "schedule must be one of 'cosine', 'wsd', got 'wds'"),
        ("ema_decay", 1, "ema_decay must be at least 0 and below 1, got 1"),
        ("probe", -1, "probe must not be negative, got -1"),
        ("probe_every", 0, "probe_every must be at least 1, got 0"),
        ("track", "mlflow", "track must be one of 'wandb', 'trackio', got 'mlflow'"),
    ],
)
def test_fields_that_cannot_work(field: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(TrainConfig, {"max_steps": 9, field: value})


def cif_of(text: str) -> str:
    return write_cif(get_layout("wyckoff").read(text))  # type: ignore[arg-type]


def test_a_draw_is_judged_against_its_own_target(rutile_text: str, rock_salt_text: str) -> None:
    """Rutile drawn for rutile is right; rock salt with atoms at half the distance matches but is not valid."""
    texts = {"a": rutile_text, "b": rock_salt_text, "c": rutile_text}
    targets: Any = [make_target(name, cif_of(text)) for name, text in texts.items()]
    shrunk = cif_of(rock_salt_text.replace("5.6402", "2.8201"))
    assert counts(judge(targets, {"a": cif_of(rutile_text), "b": shrunk}), finished=2) == {
        "attempted": 3,
        "finished": 2,
        "valid": 1,
        "matched": 2,
        "undecided": 0,
    }


def never_ends(pair: tuple[str, str]) -> probe.Verdict:
    time.sleep(60)
    raise AssertionError(pair)


def test_a_judgement_that_runs_out_of_time_is_undecided(rutile_text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "judge_one", never_ends)
    monkeypatch.setattr(probe, "TIME_LIMIT_S", 0.5)
    targets: Any = [make_target(name, cif_of(rutile_text)) for name in "ab"]
    found = counts(judge(targets, {"a": cif_of(rutile_text)}), finished=1)
    assert found == {"attempted": 2, "finished": 1, "valid": 0, "matched": 0, "undecided": 1}


def test_draws_during_training_do_not_disturb_it(
    train_here: Any, rutile_text: str, rock_salt_text: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train", "val"):
        pq.write_table(pa.table({"text": [rutile_text, rock_salt_text] * 8}), data / f"{name}.parquet")
    recipe = Path(__file__).parents[2] / "train" / "tiny.yaml"
    fields = ["max_steps=3", "eval_every=1", "batch_tokens=512", "precision=fp32", "model.dropout=0.1", "probe_every=2"]
    fields.append("patience=9")  # which leaves the figure to the end

    def run(name: str, *more: str) -> list[dict[str, Any]]:
        sets = [part for field in (*fields, *more) for part in ("--set", field)]
        assert train_here([str(recipe), "--data", str(data), "--out", str(tmp_path / name), *sets]) == 0
        return RunFolder(tmp_path / name).lines()

    without, probed = run("without"), run("probed", "probe=3")
    draws = [line for line in probed if line["kind"] == "probe"]
    assert [(line["step"], line["attempted"]) for line in draws] == [(2, 3), (3, 3)]
    assert all(0 <= line["matched"] <= line["finished"] <= 3 for line in draws)
    kept = [line for line in probed if line["kind"] != "probe"]
    assert [{k: line[k] for k in line.keys() - BY_THE_CLOCK} for line in kept] == [
        {k: line[k] for k in line.keys() - BY_THE_CLOCK} for line in without
    ]
    page = (tmp_path / "probed" / "README.md").read_text()
    assert page.startswith("# Run probed: finished")
    assert f"step 3: {kept[-1]['loss']:.4f} nats a token" in page
    assert f"step 3: valid {draws[-1]['valid']}/3" in page
    assert "| `best/` |" in page
    assert "adapter" not in page


def test_the_page_is_there_while_a_run_goes_on(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with explained(run, ORIGIN, enabled=True):
        assert f"# Run {tmp_path.name}: running" in (tmp_path / "README.md").read_text()
        run.log({"kind": "eval", "step": 5, "tokens": 70, "loss": 2.5, "loss_per_crystal": 80.0})
        run.after_evaluation()
        assert "| last evaluation | step 5: 2.5000 nats a token, 80.00 a crystal |" in (
            (tmp_path / "README.md").read_text()
        )
    assert "finished" in (tmp_path / "README.md").read_text().splitlines()[0]


def test_a_warning_names_the_remedy(
    arguments: Any, train_here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every norm but the first is above 0 times the median; one of them is told."""
    monkeypatch.setattr("crystallm.train.monitor.alarm.NORM_LEAST", 1)
    monkeypatch.setattr("crystallm.train.monitor.alarm.NORM_FACTOR", 0.0)
    with caplog.at_level(logging.WARNING):
        assert train_here(arguments(tmp_path / "run", max_steps=4)) == 0
    warnings = [record.getMessage() for record in caplog.records if "gradient norm" in record.getMessage()]
    assert len(warnings) == 1
    assert warnings[0].startswith("step 2: the gradient norm is")
    assert "a lower learning_rate, a longer warmup_steps or a lower clip_norm" in warnings[0]
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])["largest_gradient_norm"] > 0
