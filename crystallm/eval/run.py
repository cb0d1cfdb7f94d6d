"""`crystallm eval run`: draw targets of a benchmark, sample a model for them, score the samples."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crystallm.errors import ConfigError, InputError
from crystallm.eval.benchmark import data_folder, load_benchmark
from crystallm.eval.rate import Rate
from crystallm.eval.score import (
    add_options,
    choose_targets,
    options_and_rest,
    score_config,
    score_files,
    score_free_samples,
    write_report,
)
from crystallm.eval.seen import maker_in
from crystallm.eval.select import write_targets
from crystallm.launch import launch_command, run_command
from crystallm.model.checkpoint import chosen_folder
from crystallm.model.editions import EDITIONS
from crystallm.provenance import output_folder

DRAWS_ALONE = ("--no-checks", "--no-merge", "--generated-only", "--no-energies")
"""What is measured are draws as they are drawn; a crystal that is looked up is no prediction."""


def sample_command(
    prompts: Path, out: Path, *, model: Path, n: int, seed: int, processes: int, more: list[str]
) -> list[str]:
    """The command line that draws samples: evaluation never imports the model, so another process does."""
    wanted = ["--prompts", str(prompts), "-n", str(n), "--seed", str(seed), "--out", str(out)]
    wanted += [*DRAWS_ALONE, "--model", str(model)]
    return launch_command("crystallm.sample", [*wanted, *more], processes=processes)


def refuse_other_model(more: Sequence[str]) -> None:
    """ConfigError where the options of sampling choose a model: the report would name another one."""
    for option in (word.partition("=")[0] for word in more):
        if len(option) > 2 and any(name.startswith(option) for name in ("--model", "--edition")):
            raise ConfigError(f"{option} stands after --; give --model or --edition to `eval run`, before the --")


def draw(command: list[str]) -> None:
    """Run a sampling command; a mistake in its options is ours to report."""
    code = run_command(command, stdout=subprocess.DEVNULL)
    if code == 2:
        raise InputError("sampling refused its options, see its message above; nothing was scored")
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise RuntimeError(f"sampling ended with exit code {code}: {' '.join(command)}")


def how_drawn(files: Sequence[Path]) -> dict[str, Any]:
    """How many of all draws followed a known crystal, and how many were in part drawn again, by reason; see
    docs/sample.md."""
    records = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    followed = sum(record.get("template") is not None for record in records)
    reasons = Counter(reason for record in records for reason in record.get("redrawn", ()))
    return {
        "followed_templates": Rate(followed, len(records)).to_json(),
        "redrawn": {reason: Rate(number, len(records)).to_json() for reason, number in sorted(reasons.items())},
    }


def main(argv: list[str]) -> None:
    """Draw targets, sample, score, and write OUT/report.json, OUT/report.md and figures; the same command resumes.

    Options after `--` are those of `crystallm sample`, such as `--temperature 0.7`. Draws are independent unless
    `--repeat 0` asks for unlike ones.
    """
    arguments, more = options_and_rest(argv)
    parser = argparse.ArgumentParser(prog="crystallm eval run", description=main.__doc__)
    parser.add_argument("name", metavar="NAME", help="benchmark, see `crystallm eval list`, or a .yaml file")
    parser.add_argument("--model", type=Path, metavar="DIR", help="checkpoint folder (default: the benchmark edition)")
    parser.add_argument("--edition", choices=EDITIONS, help="a model that ships, instead of --model (benchmark)")
    parser.add_argument("-n", "--n", type=int, metavar="N", help="samples of each target (default: the benchmark's)")
    parser.add_argument("--targets", default="500", metavar="N", help="all, a number to draw, or a file (%(default)s)")
    parser.add_argument(
        "--seed", type=int, nargs="+", default=[0], metavar="S", help="of sampling; several give mean and spread (0)"
    )
    parser.add_argument("--processes", type=int, default=1, help="processes that sample (%(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of everything (default: runs/NAME_MODEL)")
    add_options(parser)
    options = parser.parse_args(arguments)
    benchmark = load_benchmark(options.name, options.benchmarks)
    model = chosen_folder(options.model, options.edition, otherwise="benchmark")
    maker = maker_in(model)
    label = options.label or model.resolve().name
    refuse_other_model(more)
    out = output_folder(options.out or Path("runs") / f"{benchmark.name}_{label}")
    data, config = data_folder(options.data), score_config(options)
    more = ["--repeat", "1", *more]  # as published rows are drawn, unless a later option says otherwise
    n = options.n or benchmark.samples_per_target
    if n < 1 or len(set(options.seed)) < len(options.seed):
        raise ConfigError(f"-n must be >= 1 and seeds must differ, got {n} and {options.seed}")
    if benchmark.task == "de_novo":
        prompts = ["-n", str(n), "--seed", str(options.seed[0]), "--out", str(out / "samples")]
        prompts += [*DRAWS_ALONE, "--model", str(model), *more]
        draw([sys.executable, "-m", "crystallm.sample", *prompts])
        score_free_samples(benchmark, out / "samples" / "samples.jsonl", data, out, [])
        return
    chosen = choose_targets(benchmark, data, options.targets, options.target_seed)
    level = options.prompt or benchmark.prompt
    _, prompts_file = write_targets(out, chosen.targets, level=level)
    files = []
    for seed in options.seed:
        folder = out / f"seed{seed}"
        draw(sample_command(prompts_file, folder, model=model, n=n, seed=seed, processes=options.processes, more=more))
        files.append(folder / "samples.jsonl")
    report = score_files(
        benchmark,
        chosen,
        files,
        config,
        data=data,
        out=out,
        cache=options.cache or out,
        label=label,
        prompt=level,
        maker=maker,
        print_seen=options.print_seen,
    )
    drawn = {"seeds": options.seed, "sampling": more} | how_drawn(files)
    print(write_report(report | drawn, out))
    print(f"report: {out / 'report.json'}")
