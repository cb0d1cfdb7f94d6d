"""The Markdown of a benchmark's report: tables whose rates carry their denominators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crystallm.crystal.switch import told
from crystallm.eval.prediction.results import CheckRates, Report, SampleCounts, Value, value_from_json
from crystallm.eval.rate import Rate
from crystallm.eval.seen import MARK, seen_sentence
from crystallm.eval.sets.benchmark import Benchmark

SEEN_DIVISION = "seen in training"
"""The division of targets by whether the model has seen them, where it has seen some."""

VARIANTS = {
    "": "standard",
    "_smact": "standard, CDVAE filter",
    "_strict": "strict",
    "_by_log_probability": "most probable sample",
    "_by_protostructure_log_probability": "sample of the most probable protostructure",
    "_by_ranking_log_probability": "sample ranked first",
}


def show(value: Any) -> str:
    """A rate with its interval, a number, or a dash; rates may be JSON objects."""
    value = value_from_json(value)
    if isinstance(value, Rate):
        return value.with_interval()
    return "-" if value is None else f"{value:.4f}"


def markdown(report: Report) -> str:
    """A report for people."""
    benchmark, metrics = report.benchmark, report.metrics
    lines = [f"# {report.label}: {benchmark.name} (version {benchmark.version})", ""]
    lines += [f"{benchmark.title}. Given: {report.prompt}. {_drawn(report)}", ""]
    if said := seen_sentence(report):
        lines += [said, ""]
    mark = f", {MARK}" if report.marked else ""
    if not report.withheld:
        lines += [_tolerances(benchmark), "", *_matches(metrics, mark)]
    if (most := report.samples.most_samples) < max(benchmark.tops):
        lines += [f"**No target has more than {most} samples**: a rate at a larger number counts what there is.", ""]
    if not report.withheld:
        lines += _others(report, metrics, mark)
    if report.over_seeds:
        lines += [f"## Over seeds{mark}", "", "| metric | values | mean | spread |", "|---|---|---|---|"]
        for name, found in report.over_seeds.items():
            opens = found.undecided or [0] * len(found.values)
            values = ", ".join(
                _decimal(value) + (f" ({n} undecided)" if n else "")
                for value, n in zip(found.values, opens, strict=True)
            )
            lines.append(f"| {name} | {values} | {_decimal(found.mean)} | {_decimal(found.spread)} |")
        lines += [
            "",
            "Spread: sample standard deviation over sets of samples. The other tables show the first set.",
            "",
        ]
    for division, parts in report.parts.items():
        names = list(next(iter(parts.values()), {}))
        own_mark = "" if division == SEEN_DIVISION else mark
        lines += [f"## By {division}{own_mark}", "", "| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
        lines += [f"| {part} | " + " | ".join(show(found[n]) for n in names) + " |" for part, found in parts.items()]
        lines.append("")
    lines += _samples(report.samples, withheld=report.withheld)
    if report.validity:
        lines += _validity(report.validity)
    if benchmark.pitfalls:
        lines += ["## Beware", "", *(f"- {text}" for text in benchmark.pitfalls), ""]
    made = report.provenance
    lines += _judges(made)
    lines += [f"Intervals are Wilson's at 95 %. Made by `{made['command']}`, commit {made['commit']}."]
    return "\n".join(lines) + "\n"


def _judges(made: Mapping[str, Any]) -> list[str]:
    """Who compared and checked; reports of earlier versions do not say."""
    judges = [f"{question}: {told(judge)}" for question, judge in made.get("judges", {}).items()]
    return [f"Judged by {'; '.join(judges)}.", ""] if judges else []


def _drawn(report: Report) -> str:
    count, drawn = report.targets, report.drawn
    refused = sum(drawn.refused.values())
    denominator = " All of them stand in every denominator of a match rate."
    text = f"{count} of {report.benchmark.rows_at_hand:,} rows"
    if drawn.file is not None:
        text = f"{count} targets of {drawn.file}"
    if drawn.number is not None:
        text += f", drawn at random with seed {drawn.seed}"
    return text + (f" ({refused} rows with unreadable truth were passed over)." if refused else ".") + denominator


def _tolerances(benchmark: Benchmark) -> str:
    parts = []
    for name, found in {"standard": benchmark.standard, "strict": benchmark.strict}.items():
        parts.append(f"{name}: stol {found.stol:g}, ltol {found.ltol:g}, angle_tol {found.angle_tol:g}")
    return f"Matcher, {'; '.join(parts)}. RMSE: mean over matched targets; cRMSE: over all, stol where none matches."


def _matches(metrics: Mapping[str, Value], mark: str) -> list[str]:
    lines = [f"| samples | counted as | match rate{mark} | RMSE |", "|---|---|---|---|"]
    for name, value in metrics.items():
        if name.startswith("match_rate@"):
            top, _, variant = name.removeprefix("match_rate@").partition("_")
            rms = metrics[name.replace("match_rate", "rmse")]
            lines.append(f"| {top} | {VARIANTS['_' + variant if variant else '']} | {show(value)} | {show(rms)} |")
    return [*lines, ""]


def _others(report: Report, metrics: Mapping[str, Value], mark: str) -> list[str]:
    ceiling = report.ceilings.smact
    lines = [f"| | {mark.removeprefix(', ')} |" if mark else "| | |", "|---|---|"]
    for name, value in metrics.items():
        if not name.startswith(("match_rate@", "rmse@")):
            lines.append(f"| {name} | {show(value)} |")
    lines.append(f"| targets that pass SMACT: the most a filtered rate can be | {show(ceiling)} |")
    return [*lines, "", f"Filter: {report.ceilings.smact_table}.", ""]


def _samples(found: SampleCounts, *, withheld: bool) -> list[str]:
    matching = f"- that match their target: {show(found.matching)}; at most {found.most_samples} for a target"
    return [
        "## Samples",
        "",
        *([] if withheld else [matching, f"- not matched: {_counts(found.not_matched)}"]),
        f"- records that belong to no target: {_counts(found.ignored)}",
        f"- targets without samples: {found.targets_without_samples}",
        "",
    ]


def _validity(validity: Mapping[str, CheckRates]) -> list[str]:
    names = list(next(iter(validity.values())).rates)
    lines = ["## Validity", "", "| check | " + " | ".join(validity) + " |", "|---|" + "---|" * len(validity)]
    for name in sorted(names, key=lambda check: check != "valid"):
        lines.append(f"| {name} | " + " | ".join(show(found.rates[name]) for found in validity.values()) + " |")
    lines.append("")
    for source, found in validity.items():
        lines += [f"- {source}, {check}: {_counts(reasons)}" for check, reasons in found.reasons.items()]
    return [*lines, ""]


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _counts(found: Mapping[str, int]) -> str:
    ordered = sorted(found.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{reason} {count}" for reason, count in ordered) or "none"
