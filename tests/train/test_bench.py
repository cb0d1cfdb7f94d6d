"""The benchmark of training: what counts as useful, and that both ways take real steps."""

import json
from pathlib import Path

import numpy as np
import pytest
from accelerate.state import AcceleratorState, GradientState

from crystallm.cli import exit_code
from crystallm.train.monitor.throughput import Work
from crystallm.train.texts.corpus import Corpus
from studies.bench.training import PACKED, WINDOWS, Timing, ratio, timed, useful_in_windows, whole_texts
from studies.bench.training import main as bench

STARTS = np.array([0, 4, 10, 13, 20])


@pytest.mark.parametrize(
    ("place", "width", "whole"),
    [
        (0, 19, 4),  # 20 tokens, the last one predicted only
        (0, 18, 3),
        (1, 18, 3),  # the first text has lost its start
        (4, 8, 2),
        (5, 6, 0),  # from the middle of one into the middle of another
        (11, 1, 0),
    ],
)
def test_a_cut_crystal_is_not_useful(place: int, width: int, whole: int) -> None:
    assert whole_texts(STARTS, place, width) == whole


@pytest.mark.parametrize("width", [1, 7, 12, 18])
def test_useful_crystals_of_a_mean_window(width: int) -> None:
    """Against counting in every window there is."""
    corpus = Corpus(ids=np.zeros(20, dtype=np.int64), starts=STARTS, texts=None, left_out=0)
    counted = [whole_texts(STARTS, place, width) for place in range(20 - width)]
    assert useful_in_windows(corpus, width) == pytest.approx(np.mean(counted) / width)


def test_ways_take_turns() -> None:
    taken: list[str] = []

    def way(name: str) -> Work:
        taken.append(name)
        return Work(crystals=2)

    timings = {name: Timing(name, 0.5) for name in "ab"}
    timed({"a": lambda: way("a"), "b": lambda: way("b")}, timings, steps=2, warm=1)
    assert taken == ["a", "b", "b", "a", "a", "b"]
    assert [timing.work.crystals for timing in timings.values()] == [4, 4]
    assert [len(timing.seconds) for timing in timings.values()] == [2, 2]


def test_ratio_of_crystals_a_second() -> None:
    """Of 10 tokens each, all useful or half of them."""
    base = Timing("base", 0.05, [2.0, 4.0], [1.0, 1.0], Work(tokens=10))
    other = Timing("other", 0.1, [1.0, 4.0], [1.0, 0.6], Work(tokens=10))
    assert ratio(other, base) == pytest.approx({"ratio": 2.4, "ratio_low": 2.5, "ratio_high": 3.5, "ratio_cpu": 2.5})
    assert set(ratio(base, base).values()) == {1}


@pytest.fixture(autouse=True)
def own_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate keeps one state for the whole process; each benchmark needs a fresh one."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setattr("crystallm.train.state.memory.keep_freed_memory", lambda: None)  # would outlive the run


def test_bench_train(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the tiny language; windows of 40 tokens cut most of its texts of 5 to 32."""
    common = ["--data", str(prepared), "--tokenizer", str(prepared / "tokenizer")]
    recipe = ["--recipe", str(prepared / "recipe.yaml"), "--set", "model.dropout=0"]
    outputs = ["--json", str(tmp_path / "all.json"), "--report", str(tmp_path), "--note", "The machine was shared."]
    assert exit_code(bench, [*common, *recipe, *outputs, "--steps", "3", "--profile", "--ways", "packed"]) == 0
    result = json.loads((tmp_path / "all.json").read_text())
    timings = {line["way"]: line for line in result["timings"]}
    assert timings[WINDOWS]["ratio"] == 1
    windows, packed = timings[WINDOWS]["work"]["crystals"], timings[PACKED]["work"]["crystals"]
    assert 0 < windows < packed
    # Three steps of two rows of 256 tokens, texts of 18.5 tokens on average.
    assert packed == pytest.approx(3 * 512 / 18.5, rel=0.15)
    assert sum(result["profiles"][WINDOWS]["operators"].values()) < 1
    report = (tmp_path / "report.md").read_text()
    assert "The machine was shared." in report
    assert "| windows | 3 |" in report
    assert "| windows | 3 |" in capsys.readouterr().out
    assert (tmp_path / "throughput.png").read_bytes().startswith(b"\x89PNG")


def test_bad_options(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(bench, ["--data", str(prepared), "--steps", "0"]) == 2
    assert "--steps must be at least 1" in capsys.readouterr().err
    assert exit_code(bench, ["--data", str(tmp_path)]) == 2
    assert "there is no" in capsys.readouterr().err
