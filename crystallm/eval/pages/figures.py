"""Figures of a report: match rate against number of samples, validity by check, space groups beside the truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crystallm.base.whole_file import save_figure
from crystallm.eval.prediction.results import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_GROUPS = 20
"""Space groups shown: those most common among the true structures."""


def write_figures(report: Report, out: Path) -> list[str]:
    """Write the figures of a report as PNG; returns their names. Without matplotlib there are none."""
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    drawings = {"match_rate.png": _match_rate, "validity.png": _validity, "space_groups.png": _space_groups}
    written = []
    for name, draw in drawings.items():
        figure = Figure(figsize=(7, 4), layout="constrained")
        if draw(report, figure.subplots()):
            save_figure(figure, out / name, dpi=120, metadata={"Software": None})
            written.append(name)
    return written


def _match_rate(report: Report, axes: Axes) -> bool:
    curve = report.curve
    if not curve:
        return False
    numbers = list(curve)
    axes.fill_between(
        numbers,
        [rate.interval_95[0] for rate in curve.values()],
        [rate.interval_95[1] for rate in curve.values()],
        alpha=0.25,
        label="Wilson interval, 95 %",
    )
    shares = [rate.share or 0.0 for rate in curve.values()]
    axes.plot(numbers, shares, marker="o", markersize=3, label=report.label)
    axes.set(xlabel="samples of each target", ylabel="targets matched", ylim=(0, 1), title=_title(report))
    axes.locator_params(axis="x", integer=True)
    axes.legend(loc="lower right")
    return True


def _validity(report: Report, axes: Axes) -> bool:
    sources = report.validity
    if not sources:
        return False
    checks = list(next(iter(sources.values())).rates)
    width = 0.8 / len(sources)
    for place, (name, found) in enumerate(sources.items()):
        shares = [found.rates[check].share or 0.0 for check in checks]
        axes.bar([x + width * (place - (len(sources) - 1) / 2) for x in range(len(checks))], shares, width, label=name)
    axes.set_xticks(range(len(checks)), checks, rotation=30, ha="right")
    axes.set(ylabel="share passed", ylim=(0, 1.05), title=_title(report))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return True


def _space_groups(report: Report, axes: Axes) -> bool:
    found = report.space_groups
    groups = [group for group in found.truth if group != "0"][:MOST_GROUPS]
    if not groups or not found.samples:
        return False
    for place, (label, counts) in enumerate({"true structures": found.truth, "first samples": found.samples}.items()):
        total = sum(counts.values())
        shares = [counts.get(group, 0) / total for group in groups]
        axes.bar([x + 0.4 * (place - 0.5) for x in range(len(groups))], shares, 0.4, label=label)
    axes.set_xticks(range(len(groups)), groups, rotation=60)
    axes.set(xlabel="space group, most common first", ylabel="share of crystals", title=_title(report))
    axes.legend()
    return True


def _title(report: Report) -> str:
    return f"{report.label}: {report.benchmark.name}, {report.targets} targets"
