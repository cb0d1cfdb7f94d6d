"""The benchmark runs on an untrained model: what it counts adds up, and only ours are crystals of the formula."""

import json
from pathlib import Path

import pytest

from crystallm.cli import main
from crystallm.sample import bench


def test_bench_sample(
    checkpoints: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench, "LONGEST_PLAIN", 40)  # an untrained model does not come to an end by itself
    out, figure = tmp_path / "bench.json", tmp_path / "bench.png"
    options = [
        "--draws",
        "3",
        "--recomputed",
        "1",
        "--rows",
        "1",
        "2",
        "--contact",
        "0",
        "--json",
        str(out),
        "--figure",
        str(figure),
    ]
    assert main(["bench", "sample", "--model", str(checkpoints["llama"]), *options]) == 0
    timings = {(timing["way"], timing["rows"]): timing for timing in json.loads(out.read_text())["timings"]}
    assert list(timings) == [
        ("recompute", 1),
        *(("generate", 1), ("generate, constrained", 1), ("crystallm", 1)),
        *(("generate", 2), ("generate, constrained", 2), ("crystallm", 2)),
    ]
    assert {timing["texts"] for key, timing in timings.items() if key[0] != "recompute"} == {3}
    one, two = timings["crystallm", 1], timings["crystallm", 2]
    assert one["tokens"] == two["tokens"]
    assert one["model_steps"] < one["tokens"]
    for rows in (1, 2):
        assert 0 < timings["generate, constrained", rows]["tokens"] <= 3 * 40
    assert 0 < one["share_outside_model"] < 1
    assert "| crystallm | 2 | 3 |" in capsys.readouterr().out
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_bad_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "smaple"]) == 2
    assert main(["bench", "sample", "--rows", "0"]) == 2
    assert "unknown benchmark 'smaple'" in capsys.readouterr().err
    free = tmp_path / "free.jsonl"
    free.write_text('{"space_group": 225}\n')
    assert main(["bench", "sample", "--prompts", str(free)]) == 2
    assert "every prompt of the benchmark needs a formula" in capsys.readouterr().err
