"""`crystallm eval run`: draw targets of a benchmark, sample a model for them, score the samples."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from crystallm.base.errors import ConfigError, InputError
from crystallm.base.folder_lock import only_writer
from crystallm.base.launch import launch_command, run_command
from crystallm.base.provenance import output_folder, write_json, write_text
from crystallm.eval.benchmarking.score_command import (
    add_options,
    choose_targets,
    options_and_rest,
    reading_options,
    score_config,
    score_files,
    score_free_samples,
    write_report,
)
from crystallm.eval.prediction.results import Sampling
from crystallm.eval.prediction.scoring import ScoreConfig, over_seeds
from crystallm.eval.rate import Rate
from crystallm.eval.seen import Maker, maker_in
from crystallm.eval.sets.benchmark import Benchmark, data_folder, load_benchmark
from crystallm.eval.sets.select import write_targets
from crystallm.model.checkpoint import chosen_folder
from crystallm.model.editions import EDITIONS

DRAWS_ALONE = ("--no-checks", "--no-merge", "--generated-only", "--no-energies")
"""What is measured are draws as they are drawn; a crystal that is looked up is no prediction."""


def sample_command(
    prompts: Path | None, out: Path, *, model: Path, n: int, seed: int, processes: int, more: list[str]
) -> list[str]:
    """The command line that draws samples: evaluation never imports the model, so another process does.

    prompts: file of prompts; None for free samples, whose compositions the model chooses.
    """
    wanted = [] if prompts is None else ["--prompts", str(prompts)]
    wanted += ["-n", str(n), "--seed", str(seed), "--out", str(out)]
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


def how_drawn(files: Sequence[Path], *, seeds: Sequence[int], options: Sequence[str]) -> Sampling:
    """How many of all draws followed a known crystal, and how many were in part drawn again, by reason; see
    docs/explanation/sample.md."""
    records = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    followed = sum(record.get("template") is not None for record in records)
    reasons = Counter(reason for record in records for reason in record.get("redrawn", ()))
    return Sampling(
        seeds=seeds,
        options=options,
        followed_templates=Rate(followed, len(records)),
        redrawn={reason: Rate(number, len(records)) for reason, number in sorted(reasons.items())},
    )


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
        judge_free_samples(benchmark, out, data, model=model, n=n, options=options, more=more)
        return
    with only_writer(out, remedy="choose another --out"):
        predict(benchmark, out, data, config, model=model, n=n, label=label, options=options, more=more, maker=maker)


def judge_free_samples(
    benchmark: Benchmark, out: Path, data: Path, *, model: Path, n: int, options: argparse.Namespace, more: list[str]
) -> None:
    """Draw without prompts and judge, seed by seed; several seeds have folders of their own, and a table of all."""
    several = len(options.seed) > 1
    found: dict[str, list[Rate]] = {}
    for seed in options.seed:
        folder = output_folder(out / f"seed{seed}") if several else out
        command = sample_command(
            None, folder / "samples", model=model, n=n, seed=seed, processes=options.processes, more=more
        )
        draw(command)
        score_free_samples(benchmark, folder / "samples" / "samples.jsonl", data, folder, reading_options(options))
        rates = json.loads((folder / "denovo.json").read_text(encoding="utf-8"))["rates"]
        for name, rate in rates.items():
            found.setdefault(name, []).append(Rate.from_json(rate))
    if several:
        by_seed = [{name: rates[place] for name, rates in found.items()} for place in range(len(options.seed))]
        table = over_seeds(by_seed)
        rows = {name: row.to_json() for name, row in table.items()}
        write_json(out / "denovo.json", {"seeds": options.seed, "over_seeds": rows})
        lines = [f"{benchmark.name}, seeds {', '.join(map(str, options.seed))}: mean and spread of shares", ""]
        lines += ["| | mean | spread | by seed |", "|---|---:|---:|---|"]
        for name, row in table.items():
            shares = ", ".join(rate.with_interval() for rate in found[name])
            lines.append(f"| {name} | {row.mean:.4f} | {row.spread:.4f} | {shares} |")
        write_text(out / "denovo.md", "\n".join(lines) + "\n")
        print("\n".join(lines))


def predict(
    benchmark: Benchmark,
    out: Path,
    data: Path,
    config: ScoreConfig,
    *,
    model: Path,
    n: int,
    label: str,
    options: argparse.Namespace,
    more: list[str],
    maker: Maker,
) -> None:
    """Draw for the targets of a benchmark and score, over all seeds."""
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
    report = replace(report, sampling=how_drawn(files, seeds=options.seed, options=more))
    print(write_report(report, out))
    print(f"report: {out / 'report.json'}")
