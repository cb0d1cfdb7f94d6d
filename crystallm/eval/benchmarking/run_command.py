"""`crystallm eval run`: draw targets of a benchmark, sample a model for them, score the samples."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from crystallm.base.command_line import Command, Option
from crystallm.base.errors import ConfigError, InputError
from crystallm.base.folder_lock import only_writer
from crystallm.base.launch import launch_command, run_command
from crystallm.base.provenance import output_folder, write_json, write_text
from crystallm.eval.benchmarking.score_command import (
    Asked,
    TargetSet,
    choose_targets,
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
from crystallm.model.editions import Edition

DRAWS_ALONE = ("--no-checks", "--no-merge", "--generated-only", "--no-energies")
"""What is measured are draws as they are drawn; a crystal that is looked up is no prediction."""


@dataclass(frozen=True, kw_only=True)
class Draws:
    """How samples are drawn: evaluation never imports the model, so other processes do."""

    model: Path
    n: int
    seeds: Sequence[int]
    processes: int
    more: Sequence[str]
    """Options of `crystallm sample`."""

    def command(self, prompts: Path | None, out: Path, seed: int) -> list[str]:
        """The command line that draws with a seed; prompts: None for free samples, whose compositions the model
        chooses."""
        wanted = [] if prompts is None else ["--prompts", str(prompts)]
        wanted += ["-n", str(self.n), "--seed", str(seed), "--out", str(out)]
        wanted += [*DRAWS_ALONE, "--model", str(self.model)]
        return launch_command("crystallm.sample", [*wanted, *self.more], processes=self.processes)


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


def run(
    name: str,
    asked: Asked,
    config: ScoreConfig,
    *,
    model: Path | None = None,
    edition: Edition | None = None,
    n: Annotated[int | None, Option("-n")] = None,
    targets: Annotated[str, Option(metavar="N")] = "500",
    seed: tuple[int, ...] = (0,),
    processes: int = 1,
    out: Path | None = None,
    more: Sequence[str] = (),
) -> None:
    """Draw targets, sample, score, and write OUT/report.json, OUT/report.md and figures; the same command resumes.

    Options after `--` are those of `crystallm sample`, such as `--temperature 0.7`. Draws are independent unless
    `--repeat 0` asks for unlike ones.

    Args:
        name: Benchmark, see `crystallm eval list`, or a .yaml file.
        model: Checkpoint folder (default: the benchmark edition).
        edition: A model that ships, instead of --model (default: benchmark).
        n: Samples of each target (default: the benchmark's).
        targets: All, a number to draw, or a file.
        seed: Of sampling; several give mean and spread.
        processes: Processes that sample.
        out: Folder of everything (default: runs/NAME_MODEL).
    """
    benchmark = load_benchmark(name, asked.benchmarks)
    model = chosen_folder(model, edition, otherwise="benchmark")
    maker, label = maker_in(model), asked.label or model.resolve().name
    refuse_other_model(more)
    out = output_folder(out or Path("runs") / f"{benchmark.name}_{label}")
    data, n = data_folder(asked.data), benchmark.samples_per_target if n is None else n
    if n < 1 or len(set(seed)) < len(seed):
        raise ConfigError(f"-n must be >= 1 and seeds must differ, got {n} and {list(seed)}")
    # Draws are independent, as published rows are drawn, unless a later option says otherwise.
    draws = Draws(model=model, n=n, seeds=seed, processes=processes, more=("--repeat", "1", *more))
    if benchmark.task == "de_novo":
        judge_free_samples(benchmark, out, data, draws, config)
        return
    with only_writer(out, remedy="choose another --out"):
        chosen = choose_targets(benchmark, data, targets, asked.target_seed)
        predict(benchmark, chosen, out, config, asked, draws, label=label, maker=maker)


main = Command(run, "crystallm eval run")


def judge_free_samples(benchmark: Benchmark, out: Path, data: Path, draws: Draws, config: ScoreConfig) -> None:
    """Draw without prompts and judge, seed by seed; several seeds have folders of their own, and a table of all."""
    several = len(draws.seeds) > 1
    found: dict[str, list[Rate]] = {}
    for seed in draws.seeds:
        folder = output_folder(out / f"seed{seed}") if several else out
        draw(draws.command(None, folder / "samples", seed))
        score_free_samples(benchmark, folder / "samples" / "samples.jsonl", data, folder, config)
        rates = json.loads((folder / "denovo.json").read_text(encoding="utf-8"))["rates"]
        for name, rate in rates.items():
            found.setdefault(name, []).append(Rate.from_json(rate))
    if several:
        by_seed = [{name: rates[place] for name, rates in found.items()} for place in range(len(draws.seeds))]
        table = over_seeds(by_seed)
        rows = {name: row.to_json() for name, row in table.items()}
        write_json(out / "denovo.json", {"seeds": draws.seeds, "over_seeds": rows})
        lines = [f"{benchmark.name}, seeds {', '.join(map(str, draws.seeds))}: mean and spread of shares", ""]
        lines += ["| | mean | spread | by seed |", "|---|---:|---:|---|"]
        for name, row in table.items():
            shares = ", ".join(rate.with_interval() for rate in found[name])
            lines.append(f"| {name} | {row.mean:.4f} | {row.spread:.4f} | {shares} |")
        write_text(out / "denovo.md", "\n".join(lines) + "\n")
        print("\n".join(lines))


def predict(
    benchmark: Benchmark,
    chosen: TargetSet,
    out: Path,
    config: ScoreConfig,
    asked: Asked,
    draws: Draws,
    *,
    label: str,
    maker: Maker,
) -> None:
    """Draw for the targets of a benchmark and score, over all seeds."""
    _, prompts = write_targets(out, chosen.targets, level=asked.prompt or benchmark.prompt)
    files = []
    for seed in draws.seeds:
        draw(draws.command(prompts, out / f"seed{seed}", seed))
        files.append(out / f"seed{seed}" / "samples.jsonl")
    report = score_files(benchmark, chosen, files, config, asked, out=out, label=label, maker=maker)
    report = replace(report, sampling=how_drawn(files, seeds=draws.seeds, options=draws.more))
    print(write_report(report, out))
    print(f"report: {out / 'report.json'}")
