"""The comparison of layouts for people: tables with intervals, and a figure."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crystallm.base.markdown import table
from crystallm.base.whole_file import save_figure
from crystallm.eval.benchmarking.report import show

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]


def markdown(report: Mapping[str, Any]) -> str:
    """A report (as JSON holds it) for people."""
    settings, arms = report["settings"], report["arms"]
    top = settings["draws"]
    made = report["provenance"]
    lines = [
        "# Layouts side by side",
        "",
        f"{settings['teraflop']:g} teraflop of training for each arm. Bits on {report['validation_crystals']} "
        f"validation crystals of formulas that are not trained on; {top} draws for each of {report['targets']} of "
        f"them, formula and formula units given, temperature {settings['temperature']:g}, contact "
        f"{settings['contact']:g}{'' if settings['contact'] else ' (geometry off)'}, seed {settings['seed']}; "
        f"speed with {settings['batch_size']} at a time.",
        "",
        table(TRAINED, [trained_cells(row) for row in arms]),
        "",
        table(BITS, [bits_cells(row) for row in arms]),
        "",
        table(STAGES, [stage_cells(row) for row in arms if "free" in row["bits"]]),
        "",
        table(drawn_head(settings), [drawn_cells(row, top) for row in arms]),
        "",
        f"Reference checks of the true structures: {show(report['truth_valid'])} valid. Intervals of shares are "
        "Wilson's, those of bits are normal, over crystals, both at 95 %; neither holds the spread over seeds of "
        "training.",
        "",
        f"Made by `{made['command']}`, commit {made['commit']}.",
    ]
    return "\n".join(lines) + "\n"


TRAINED = ("arm", "parameters", "vocabulary", "tokens a crystal", "steps", "epochs", "minutes", "teraflop")
BITS = (
    *("arm", "bits a crystal, whole text", "less reference", "free bits, constraint on", "less reference"),
    "texts the automaton does not write",
)
STAGES = ("arm", "space group", "cell", "letters", "coordinates", "last digit of a number", "such digits a crystal")


def drawn_head(settings: Mapping[str, Any]) -> list[str]:
    """The columns of `drawn_cells`."""
    top, reference = settings["draws"], settings["reference"]
    tops = dict.fromkeys((1, top))
    head = ["arm", "draws finished", "first draws valid", *(f"match @{k}" for k in tops), "draws that match"]
    only = [f"@{k}: only here, only {reference}" for k in tops]
    return [*head, "crystals/s", "tokens a draw", "steps a draw", *only]


def trained_cells(row: Row) -> list[str]:
    """What an arm was given."""
    budget = row["budget"]
    cells = [row["arm"], f"{row['parameters']:,}", f"{row['vocabulary']:,}", f"{budget['tokens_a_crystal']:.1f}"]
    cells += [f"{row['steps']:,}", f"{row['epochs']:.2f}", f"{row['seconds'] / 60:.1f}", f"{budget['teraflop']:.1f}"]
    return cells


def bits_cells(row: Row) -> list[str]:
    """What validation crystals cost an arm."""
    less = row.get("against_reference", {})
    pairs = [_mean(found.get(name)) for name in ("whole", "free") for found in (row["bits"], less)]
    return [row["arm"], *pairs, str(row["not_walked"])]


def stage_cells(row: Row) -> list[str]:
    """Where the free bits go."""
    bits = row["bits"]
    cells = [row["arm"], *(f"{value:.1f}" for value in bits["free_by_stage"].values())]
    if "last_digit" not in bits:
        return [*cells, "-", "-"]
    return [*cells, f"{bits['last_digit']['value']:.2f}", f"{bits['last_digits_a_crystal']:.1f}"]


def drawn_cells(row: Row, top: int) -> list[str]:
    """What the draws of an arm are worth."""
    metrics, speed = row["metrics"], row["speed"]
    changes = row.get("against_reference", {}).get("gained_and_lost", {})
    tops = dict.fromkeys((1, top))
    rates = [row["finished"], row["validity"], *(metrics[f"match_rate@{k}"] for k in tops), row["matching_draws"]]
    cells = [row["arm"], *map(show, rates), f"{speed['crystals_per_second']:.1f}"]
    cells += [f"{speed[name] / speed['texts']:.0f}" for name in ("tokens", "model_steps")]
    pairs = [changes.get(f"@{k}") for k in tops]
    return [*cells, *("-" if pair is None else _change(pair) for pair in pairs)]


def _change(pair: Mapping[str, int]) -> str:
    """`3, 1`: targets gained and lost; `3, 1 (2 undecided)`."""
    told = f"{pair['gained']}, {pair['lost']}"
    return f"{told} ({pair['undecided']} undecided)" if pair["undecided"] else told


def _mean(found: Mapping[str, Any] | None) -> str:
    return "-" if found is None else f"{found['value']:.1f} ± {found['high'] - found['value']:.1f}"


def draw_figure(report: Mapping[str, Any], path: Path) -> None:
    """Free bits by what they are about, and match rates with intervals; without matplotlib, say so."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        logger.warning("no figure: install crystallm[train] for one")
        return
    arms = report["arms"]
    names = [row["arm"] for row in arms]
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    below = [0.0] * len(arms)
    for stage in arms[0]["bits"].get("free_by_stage", {}):
        bits = [row["bits"].get("free_by_stage", {}).get(stage, 0.0) for row in arms]
        left.bar(names, bits, bottom=below, label=stage.replace("_", " "))
        below = [low + more for low, more in zip(below, bits, strict=True)]
    left.set(ylabel="bits of the free choices of a crystal")
    left.legend()
    for place, top in enumerate(dict.fromkeys((1, report["settings"]["draws"]))):
        rates = [row["metrics"][f"match_rate@{top}"] for row in arms]
        shares = [rate["share"] for rate in rates]
        spread = [[abs(rate["interval_95"][side] - rate["share"]) for rate in rates] for side in (0, 1)]
        places = [x + 0.2 * place - 0.1 for x in range(len(arms))]
        right.errorbar(places, shares, yerr=spread, fmt="o", capsize=3, label=f"{top} draw{'s' if top > 1 else ''}")
    right.set_xticks(range(len(arms)), names)
    right.set(ylabel="targets matched (Wilson interval, 95 %)", ylim=(0, None))
    right.legend()
    for axes in (left, right):
        axes.tick_params(axis="x", rotation=20)
    save_figure(figure, path, dpi=120, metadata={"Software": None})
