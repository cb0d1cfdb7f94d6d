"""The benchmark runs on an untrained model: what it counts adds up, and only ours are crystals of the formula."""

import json
from pathlib import Path

import pytest

from crystallm.cli import main


def test_bench_sample(checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    model = str(checkpoints["llama"])
    assert main(["bench", "sample", "--model", model, "--prompts", "2", "--rows", "1", "2", "--json", str(out)]) == 0
    timings = {timing["name"]: timing for timing in json.loads(out.read_text())["timings"]}
    assert list(timings) == [
        "generate, 1 at once",
        "generate, 2 at once",
        "crystallm, 1 at once",
        "crystallm, 2 at once",
    ]
    assert {timing["texts"] for timing in timings.values()} == {2}
    assert timings["crystallm, 1 at once"]["tokens"] == timings["crystallm, 2 at once"]["tokens"]
    assert timings["crystallm, 2 at once"]["model_steps"] < timings["crystallm, 2 at once"]["tokens"]
    assert "| crystallm, 2 at once | 2 |" in capsys.readouterr().out


def test_bad_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "train"]) == 2
    assert main(["bench", "sample", "--rows", "0"]) == 2
    assert "unknown benchmark 'train'" in capsys.readouterr().err
