"""`crystallm eval ...`: finds the measurement asked for and imports only that."""

from __future__ import annotations

import sys

from crystallm.base.command_line import Group

COMMANDS = {
    "list": ("crystallm.eval.sets.benchmark", "the benchmarks: rows, what is given, pitfalls"),
    "run": ("crystallm.eval.benchmarking.run_command", "draw targets, sample a model, score: one command"),
    "score": ("crystallm.eval.benchmarking.score_command", "score anyone's samples for a benchmark, without torch"),
    "compare": ("crystallm.eval.benchmarking.compare", "reports side by side, with McNemar's test on common targets"),
    "baseline": ("crystallm.eval.baselines.baseline", "samples of untrained baselines: substitution, random"),
    "leaderboard": ("crystallm.eval.benchmarking.leaderboard", "the table of committed reports and published numbers"),
    "validity": ("crystallm.eval.validity", "check anyone's CIFs: rates, denominators and reasons"),
    "denovo": ("crystallm.eval.denovo.command", "judge free samples: valid, unique, novel, stable"),
    "textbook": ("crystallm.eval.textbook.command", "is the crystal that everybody knows the first answer?"),
    "select": ("crystallm.eval.sets.select", "draw targets from any parquet files and write the prompts"),
}

main = Group(
    "crystallm eval",
    "Measure crystals, ours or anyone's.",
    COMMANDS,
    more="docs/explanation/eval.md explains the definitions.",
    moved={
        "agreement": "studies.audit.agreement",
        "readers": "studies.audit.foreign_readers",
        "roundtrip": "studies.audit.roundtrip",
    },
)


if __name__ == "__main__":
    from crystallm.cli import main as cli

    sys.exit(cli(["eval", *sys.argv[1:]]))
