"""The Markdown of a report: tables whose rates carry their denominators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crystallm.crystal.validity import CheckName
from crystallm.eval.score import PredictionScore
from crystallm.eval.validity import ValidityCounts


def markdown(
    *,
    targets: int,
    scores: Mapping[str, PredictionScore],
    checked: Mapping[str, ValidityCounts],
    notes: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> str:
    """The report of a structure-prediction score for people."""
    lines = ["# Structure prediction", ""]
    lines += [
        f"{targets} targets, all of them in every denominator. StructureMatcher(stol=0.5, ltol=0.3, angle_tol=10); "
        "rmse is the mean over matched targets. Intervals are Wilson's at 95 %.",
        "",
    ]
    for name, found in scores.items():
        lines += [f"## Match rate: {name}", "", "| | match rate | rmse |", "|---|---|---|"]
        for label, rate in found.match_rates.items():
            rms = found.mean_rms[label.replace("match_rate", "rmse")]
            lines.append(f"| {label} | {rate.with_interval()} | {'-' if rms is None else f'{rms:.4f}'} |")
        lines += ["", f"Samples that match: {found.samples}. Targets without samples: {found.targets_without_samples}."]
        lines += [f"At most {found.most_samples} samples for a target. Not matched: {_counts(found.reasons)}.", ""]
    if checked:
        lines += ["## Validity", "", "| check | " + " | ".join(checked) + " |", "|---|" + "---|" * len(checked)]
        rates = {name: counts.rates() for name, counts in checked.items()}
        for label in ["valid", *map(str, CheckName)]:
            lines.append(f"| {label} | " + " | ".join(str(found[label]) for found in rates.values()) + " |")
        lines.append("")
        for name, counts in checked.items():
            lines += [f"- {name}, {check}: {_counts(found)}" for check, found in counts.reasons.items() if found]
        lines.append("")
    lines += ["## Settings", ""]
    lines += [f"- {key}: {value}" for key, value in {**settings, **notes}.items()]
    return "\n".join(lines) + "\n"


def _counts(found: Mapping[str, int]) -> str:
    ordered = sorted(found.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{reason} {count}" for reason, count in ordered) or "none"
