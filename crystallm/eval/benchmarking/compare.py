"""`crystallm eval compare`: reports side by side, and whether two of them differ by more than chance."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crystallm.base.errors import InputError
from crystallm.base.provenance import write_json
from crystallm.eval.benchmarking.report import show
from crystallm.eval.prediction.metrics import mcnemar
from crystallm.eval.seen.reporting import MARK, is_marked, is_withheld

FIRST_MATCH = {"": "first_match", "_smact": "first_match_smact", "_strict": "first_match_strict"}
"""Variant of the match rate -> where a report keeps the number of the first sample that matches."""


def read_report(path: Path) -> dict[str, Any]:
    """A report of `crystallm eval score`; InputError where the file is none."""
    file = path / "report.json" if path.is_dir() else path
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read the report {file}: {error}; give a report.json of `crystallm eval score`"
        ) from error
    if not isinstance(report, dict) or not {"benchmark", "metrics", "per_target_of_sets", "label"} <= report.keys():
        raise InputError(f"{file} is no report of `crystallm eval score` or `crystallm eval run`")
    return report


def matched(report: Mapping[str, Any], *, top: int, variant: str = "") -> dict[str, bool]:
    """Whether each target was matched by one of its first `top` samples, in the first set of samples.

    Targets on which there is no verdict are left out: no match, and a comparison that ran out of time.
    """
    key = FIRST_MATCH[variant]
    rows: Sequence[Mapping[str, Any]] = [] if is_withheld(report) else report["per_target_of_sets"][0]
    found = {str(row["id"]): row[key] is not None and row[key] <= top for row in rows}
    is_open = {str(row["id"]) for row in rows if any(number <= top for number in row.get("undecided", ()))}
    return {name: hit for name, hit in found.items() if hit or name not in is_open}


def differences(reports: Mapping[str, Mapping[str, Any]], *, tops: Sequence[int]) -> list[dict[str, Any]]:
    """McNemar's test of every pair of reports of one benchmark, at every k and variant."""
    found = []
    for (one, first), (other, second) in itertools.combinations(reports.items(), 2):
        if _same_benchmark(first, second):
            for top, variant in itertools.product(tops, FIRST_MATCH):
                verdict = mcnemar(matched(first, top=top, variant=variant), matched(second, top=top, variant=variant))
                found.append({"first": one, "second": other, "metric": f"match_rate@{top}{variant}"} | verdict)
    return found


def _same_benchmark(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    return all(first["benchmark"][key] == second["benchmark"][key] for key in ("name", "version"))


def table(reports: Mapping[str, Mapping[str, Any]], tests: Sequence[Mapping[str, Any]]) -> str:
    """Reports and tests as Markdown."""
    names = list(dict.fromkeys(name for report in reports.values() for name in report["metrics"]))
    lines = ["| | " + " | ".join(reports) + " |", "|---|" + "---|" * len(reports)]
    for key in ("name", "version"):
        lines.append(f"| benchmark {key} | " + " | ".join(str(r["benchmark"][key]) for r in reports.values()) + " |")
    for key in ("prompt", "targets"):
        lines.append(f"| {key} | " + " | ".join(str(report[key]) for report in reports.values()) + " |")
    lines.append("| made by | " + " | ".join(made_by(report) for report in reports.values()) + " |")
    lines.append("| targets seen | " + " | ".join(targets_seen(report) for report in reports.values()) + " |")
    for name in names:
        lines.append(f"| {name} | " + " | ".join(show(r["metrics"].get(name)) for r in reports.values()) + " |")
    if tests:
        lines += ["", "McNemar's exact test on the targets that two reports share:", ""]
        lines += [
            "| metric | first | second | common | only first | only second | p |",
            "|---|---|---|---|---|---|---|",
        ]
        for test in tests:
            cells = (test[key] for key in ("metric", "first", "second", "common_targets", "only_first", "only_second"))
            lines.append("| " + " | ".join(map(str, cells)) + f" | {test['p']:.3g} |")
    return "\n".join(lines) + "\n"


def made_by(report: Mapping[str, Any]) -> str:
    """The model that made the samples of a report, as far as it says."""
    return str(report.get("made_by", {"name": "unknown"})["name"])


def targets_seen(report: Mapping[str, Any]) -> str:
    """How many targets the model has seen, and what that does to the match rates."""
    seen = report.get("seen", {"targets": None})
    if seen["targets"] is None:
        return "unknown"
    text = f"{seen['targets']} of {seen['of']}" + (f", {n} undecided" if (n := seen["undecided"]) else "")
    if seen["missed"]:
        return text + ": count as not matched"
    return text + (": rates withheld" if is_withheld(report) else f": {MARK}" if is_marked(report) else "")


def main(argv: list[str]) -> None:
    """Print reports side by side, with McNemar's test between those of one benchmark."""
    parser = argparse.ArgumentParser(prog="crystallm eval compare", description=main.__doc__)
    parser.add_argument("reports", type=Path, nargs="+", metavar="REPORT", help="report.json, or the folder it is in")
    parser.add_argument("--tops", type=int, nargs="+", default=[1, 20], metavar="K", help="of the tests (1 20)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write metrics and tests here")
    options = parser.parse_args(argv)
    if len(options.reports) < 2:
        raise InputError("one report has nothing to be compared with; give at least two")
    reports: dict[str, dict[str, Any]] = {}
    for path in options.reports:
        report = read_report(path)
        name, number = str(report["label"]), 2
        while name in reports:
            name, number = f"{report['label']} ({number})", number + 1
        reports[name] = report
    tests = differences(reports, tops=options.tops)
    if not tests:
        print("the reports are of different benchmarks or versions: no test is made between them\n")
    elif any(is_withheld(report) for report in reports.values()):
        print("a report withholds its match rates: score its samples again with --print-seen to compare them\n")
    elif not any(test["common_targets"] for test in tests):
        print("the reports share no target: draw the same ones with --targets and --target-seed\n")
    print(table(reports, tests))
    if options.json:
        write_json(options.json, {"metrics": {n: r["metrics"] for n, r in reports.items()}, "mcnemar": tests})
