"""The benchmark runs on an untrained model: what it counts adds up, and only ours are crystals of the formula."""

import json
from pathlib import Path

import pytest

from crystallm.cli import exit_code, main
from crystallm.crystal.description import Description
from crystallm.sample.config import SampleConfig
from crystallm.sample.generator import Generator
from crystallm.sample.prompts import make_prompt
from crystallm.tokenizer.published_texts import PublishedLayout
from studies.bench import sampling_ways as bench_ways
from studies.bench.sampling import FORMULAS, read_bench_prompts
from studies.bench.sampling import main as bench


def test_bench_sample(
    checkpoints: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench_ways, "LONGEST_PLAIN", 40)  # an untrained model does not come to an end by itself
    monkeypatch.setattr(bench_ways, "LONGEST_PUBLISHED", 40)  # nor is what it writes short in another layout
    out, figure = tmp_path / "bench.json", tmp_path / "bench.png"
    options = [
        "--draws",
        "3",
        "--recomputed",
        "1",
        "--rows",
        "1",
        "2",
        "--processes",
        "1",
        "2",
        "--contact",
        "0",
        "--json",
        str(out),
        "--figure",
        str(figure),
    ]
    assert exit_code(bench, ["--model", str(checkpoints["llama"]), *options]) == 0
    found = json.loads(out.read_text())["timings"]
    timings = {(timing["way"], timing["rows"]): timing for timing in found if timing["processes"] == 1}
    assert list(timings) == [
        ("recompute", 1),
        *(("generate", 1), ("generate, constrained", 1), ("crystallm", 1), ("crystallm, defaults", 1)),
        *(("generate", 2), ("generate, constrained", 2), ("crystallm", 2), ("crystallm, defaults", 2)),
    ]
    assert {timing["texts"] for key, timing in timings.items() if not key[0].startswith("recompute")} == {3}
    one, two = timings["crystallm", 1], timings["crystallm", 2]
    assert one["tokens"] == two["tokens"]
    # Two processes make the same texts as one.
    shared = [timing for timing in found if timing["processes"] == 2]
    assert [timing["rows"] for timing in shared] == [1, 1, 2, 2]
    for timing in shared:
        alone = timings[timing["way"], 1]
        assert [timing[key] for key in ("texts", "tokens", "crystals")] == [3, alone["tokens"], alone["crystals"]]
        assert 0 < timing["share_outside_model"] < 1
    assert one["model_steps"] < one["tokens"]
    for rows in (1, 2):
        assert 0 < timings["generate, constrained", rows]["tokens"] <= 3 * 40
    assert 0 < one["share_outside_model"] < 1
    printed = capsys.readouterr().out
    assert "| crystallm | 2 | 3 |" in printed
    assert "| crystallm, 2 processes | 2 | 3 |" in printed
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_the_text_of_crystallm_is_recomputed(generator: Generator, rutile: Description, anatase: Description) -> None:
    layout = PublishedLayout("crystallm")
    timing = bench_ways.published(generator, [rutile, anatase])
    assert timing is not None
    lengths = [len(layout.split(layout.write(crystal))) for crystal in (rutile, anatase)]
    assert min(lengths) > 200
    assert (timing.texts, timing.tokens, timing.model_steps) == (2, sum(lengths), sum(lengths) - 2)
    assert bench_ways.published(generator, []) is None


def test_the_defaults_draw_each_formula_as_often() -> None:
    drawn = bench_ways.Drawn(1.0, 7, 0.5)
    assert drawn.config(4) == SampleConfig(
        n=1, repeat=1.0, guide=0.0, bond_tries=0, temperature=1.0, seed=7, contact=0.5, batch_size=4
    )
    prompts, shipped = drawn.as_shipped(read_bench_prompts(None, 70))
    assert [item.prompt for item in prompts] == [make_prompt(formula).prompt for formula in FORMULAS]
    assert shipped.config(4) == SampleConfig(n=2, seed=7, batch_size=4)


def test_bad_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "sample", "--rows", "0"]) == 2
    assert "`python -m studies.bench.sampling`" in capsys.readouterr().err
    assert exit_code(bench, ["--rows", "0"]) == 2
    free = tmp_path / "free.jsonl"
    free.write_text('{"space_group": 225}\n')
    assert exit_code(bench, ["--prompts", str(free)]) == 2
    assert "every prompt of the benchmark needs a formula" in capsys.readouterr().err
