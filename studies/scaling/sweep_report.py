"""What a sweep over sizes shows: a table, where a larger model overtakes a smaller one, and loss against compute."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from crystallm.base.markdown import table
from crystallm.base.whole_file import save_figure

logger = logging.getLogger(__name__)

Points = Sequence[Mapping[str, Any]]


def markdown(points: Points) -> str:
    """Return the report: a row for each size and budget, the best size of each budget, and where sizes cross."""
    names = ("size", "parameters", "budget, FLOPs", "tokens", "tokens a parameter", "steps", "minutes")
    rows = [
        (
            *(p["size"], f"{p['parameters']:,}", f"{p['budget']:.3g}", f"{p['tokens']:,}"),
            *(f"{p['tokens'] / p['parameters']:.2f}", f"{p['steps']:,}", f"{p['seconds'] / 60:.1f}"),
            *(f"{p['loss']:.4f}", f"{p['loss_per_crystal']:.2f}"),
        )
        for p in points
    ]
    shown = table((*names, "loss a token", "a crystal"), rows)
    lines = ["# Loss against compute", "", shown, "", "Validation loss in nats, at the end of the decay.", ""]
    for budget in sorted({p["budget"] for p in points}):
        best = min((p for p in points if p["budget"] == budget), key=lambda p: p["loss"])
        lines.append(f"- {budget:.3g} FLOPs: the lowest loss is that of {best['size']}, {best['loss']:.4f} a token.")
    sizes = by_size(points)
    for small, large in pairwise(sizes):
        lines.append(f"- {large} against {small}: {told(sizes[small], sizes[large])}")
    return "\n".join(lines) + "\n"


def by_size(points: Points) -> dict[str, list[Mapping[str, Any]]]:
    """Return the points of each size, the smallest size first."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for point in sorted(points, key=lambda p: (p["parameters"], p["budget"])):
        found.setdefault(point["size"], []).append(point)
    return found


def told(small: Points, large: Points) -> str:
    """Say what the losses of two sizes at equal compute are, and where they would be equal."""
    pairs = [(a["budget"], a["loss"] - b["loss"]) for a in small for b in large if a["budget"] == b["budget"]]
    gaps = ", ".join(f"{gap:+.4f} at {budget:.3g}" for budget, gap in pairs)
    equal = crossing(*zip(*pairs, strict=True)) if len(pairs) > 1 else None
    if equal is None:
        return f"ahead by {gaps}; no crossing in sight"
    budgets = [budget for budget, _ in pairs]
    kind = "between budgets" if min(budgets) <= equal <= max(budgets) else "extrapolated, so only a hint"
    return f"ahead by {gaps}; equal at about {equal:.2g} FLOPs ({kind})"


def crossing(budgets: Sequence[float], gaps: Sequence[float]) -> float | None:
    """Return the compute at which a gap, taken as a straight line in its logarithm, is zero.

    gaps: loss of the smaller model minus that of the larger one. None where the larger does not gain with compute.
    """
    slope, start = np.polyfit(np.log(budgets), gaps, 1)
    if slope <= 0:
        return None
    power = -start / slope
    return math.exp(power) if power < math.log(1e30) else None


def draw(points: Points, reference: Points, path: Path) -> None:
    """Draw validation loss against compute, a line for each size; without matplotlib, say so."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        logger.info("no figure: install crystallm[train] for one")
        return
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    if reference:
        label = f"a longer run, {reference[0]['parameters'] / 1e6:.1f} M"
        flops, losses = [p["flops"] for p in reference], [p["loss"] for p in reference]
        axes.plot(flops, losses, color="0.7", linewidth=1, label=label)
    for found in by_size(points).values():
        label = f"{found[0]['parameters'] / 1e6:.1f} M parameters"
        axes.plot([p["flops"] for p in found], [p["loss"] for p in found], marker="o", label=label)
    axes.set(xscale="log", xlabel="training compute (FLOPs)", ylabel="validation loss (nats per token)")
    axes.legend()
    save_figure(figure, path, dpi=150, metadata={"Software": None})
