"""`crystallm eval textbook`: samples the formulas of textbook compounds and says where their phases stand."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from crystallm.base.command_line import Command, Option
from crystallm.base.errors import InputError
from crystallm.base.launch import run_command
from crystallm.base.provenance import output_folder, provenance, write_json, write_text
from crystallm.eval.textbook.phases import VERSION, formulas, read_compounds
from crystallm.eval.textbook.score import markdown, rates, score_run
from crystallm.model.editions import Edition


def textbook(
    *,
    out: Path,
    edition: Edition = "full",
    seed: int = 0,
    compounds: Annotated[Path | None, Option("--list", metavar="FILE")] = None,
    score_only: bool = False,
    label: str | None = None,
    more: Sequence[str] = (),
) -> None:
    """Sample the formulas of textbook compounds, and report where the phase that nature makes is ranked.

    Options after `--` are those of `crystallm sample`. The same command resumes.

    Args:
        out: Folder of everything.
        edition: The model that is asked.
        seed: Of sampling.
        compounds: Other compounds (default: the benchmark's 95).
        score_only: OUT/samples is there; only score it.
        label: What the report calls the run (default: the edition).
    """
    asked = read_compounds(compounds)
    out = output_folder(out)
    if not score_only:
        _sample(formulas(asked), out / "samples", edition, seed, more)
    placed = score_run(asked, out / "samples")
    report: dict[str, Any] = {
        "benchmark": "textbook",
        "version": VERSION,
        "label": label or f"{edition} edition",
        "model": f"{edition} edition",
        "knows": edition == "full" and "--generated-only" not in more,
        "seed": seed,
        "options": " ".join(more),
        "rates": {name: (rate.passed, rate.attempted) for name, rate in rates(placed).items()},
        "compounds": [one.to_json() for one in placed],
        "provenance": provenance(inputs=[compounds] if compounds else []),
    }
    text = markdown(report)
    write_json(out / "report.json", report)
    write_text(out / "report.md", text)
    print(text)


main = Command(textbook, "crystallm eval textbook")


def _sample(names: Sequence[str], out: Path, edition: str, seed: int, more: Sequence[str]) -> None:
    wanted = ["--edition", edition, "--seed", str(seed), "--out", str(out), *more]
    code = run_command([sys.executable, "-m", "crystallm.sample", *names, *wanted])
    if code == 2:
        raise InputError("sampling refused its options, see its message above; nothing was scored")
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise RuntimeError(f"sampling ended with exit code {code}")
