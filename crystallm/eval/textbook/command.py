"""`crystallm eval textbook`: samples the formulas of textbook compounds and says where their phases stand."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crystallm.base.errors import InputError
from crystallm.base.launch import run_command
from crystallm.base.provenance import output_folder, provenance, write_json, write_text
from crystallm.eval.benchmarking.score_command import options_and_rest
from crystallm.eval.textbook.phases import VERSION, formulas, read_compounds
from crystallm.eval.textbook.score import markdown, rates, score_run


def main(argv: list[str]) -> None:
    """Sample the formulas of textbook compounds, and report where the phase that nature makes is ranked.

    Options after `--` are those of `crystallm sample`. The same command resumes.
    """
    arguments, more = options_and_rest(argv)
    parser = argparse.ArgumentParser(prog="crystallm eval textbook", description=main.__doc__)
    parser.add_argument("--edition", choices=["full", "benchmark"], default="full", help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of sampling (default: %(default)s)")
    parser.add_argument("--list", type=Path, metavar="FILE", help="other compounds (default: the benchmark's 95)")
    parser.add_argument("--score-only", action="store_true", help="OUT/samples is there; only score it")
    parser.add_argument("--label", help="what the report calls the run (default: the edition)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of everything")
    options = parser.parse_args(arguments)
    compounds = read_compounds(options.list)
    out = output_folder(options.out)
    if not options.score_only:
        _sample(formulas(compounds), out / "samples", options.edition, options.seed, more)
    placed = score_run(compounds, out / "samples")
    report: dict[str, Any] = {
        "benchmark": "textbook",
        "version": VERSION,
        "label": options.label or f"{options.edition} edition",
        "model": f"{options.edition} edition",
        "knows": options.edition == "full" and "--generated-only" not in more,
        "seed": options.seed,
        "options": " ".join(more),
        "rates": {name: (rate.passed, rate.attempted) for name, rate in rates(placed).items()},
        "compounds": [one.to_json() for one in placed],
        "provenance": provenance(inputs=[options.list] if options.list else []),
    }
    text = markdown(report)
    write_json(out / "report.json", report)
    write_text(out / "report.md", text)
    print(text)


def _sample(names: Sequence[str], out: Path, edition: str, seed: int, more: Sequence[str]) -> None:
    wanted = ["--edition", edition, "--seed", str(seed), "--out", str(out), *more]
    code = run_command([sys.executable, "-m", "crystallm.sample", *names, *wanted])
    if code == 2:
        raise InputError("sampling refused its options, see its message above; nothing was scored")
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise RuntimeError(f"sampling ended with exit code {code}")
