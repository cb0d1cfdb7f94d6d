"""`crystallm eval compare`: reports side by side, and whether two of them differ by more than chance."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from crystallm.base.command_line import Command, Option
from crystallm.base.errors import InputError
from crystallm.base.provenance import write_json
from crystallm.eval.benchmarking.report import show
from crystallm.eval.prediction.metrics import PairedTest, mcnemar
from crystallm.eval.prediction.report_file import read_report
from crystallm.eval.prediction.results import Report, values_to_json
from crystallm.eval.prediction.target_rows import TargetRow
from crystallm.eval.seen import MARK

FIRST_MATCH = {"": "first_match", "_smact": "first_match_smact", "_strict": "first_match_strict"}
"""Variant of the match rate -> the field of a row with the number of the first sample that matches."""


def matched(rows: Sequence[TargetRow], *, top: int, variant: str = "") -> dict[str, bool]:
    """Whether each target was matched by one of its first `top` samples.

    Targets on which there is no verdict are left out: no match, and a comparison that ran out of time.
    """
    key = FIRST_MATCH[variant]
    hits = {row.id: (first := getattr(row, key)) is not None and first <= top for row in rows}
    is_open = {row.id for row in rows if any(number <= top for number in row.undecided)}
    return {name: hit for name, hit in hits.items() if hit or name not in is_open}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """McNemar's test of two reports at one k and variant."""

    first: str
    second: str
    metric: str
    test: PairedTest

    def to_json(self) -> dict[str, Any]:
        """All fields, those of the test among them."""
        return {"first": self.first, "second": self.second, "metric": self.metric} | asdict(self.test)


def differences(reports: Mapping[str, Report], *, tops: Sequence[int]) -> list[Difference]:
    """McNemar's test of every pair of reports of one benchmark, at every k and variant, on their first sets."""
    found = []
    for (one, first), (other, second) in itertools.combinations(reports.items(), 2):
        if _same_benchmark(first, second):
            sets = [() if report.withheld else report.per_target[0] for report in (first, second)]
            for top, variant in itertools.product(tops, FIRST_MATCH):
                test = mcnemar(*(matched(rows, top=top, variant=variant) for rows in sets))
                name = f"match_rate@{top}{variant}"
                found.append(Difference(first=one, second=other, metric=name, test=test))
    return found


def _same_benchmark(first: Report, second: Report) -> bool:
    one, other = first.benchmark, second.benchmark
    return (one.name, one.version) == (other.name, other.version)


def side_by_side(reports: Mapping[str, Report], tests: Sequence[Difference]) -> str:
    """Reports and tests as Markdown."""
    names = list(dict.fromkeys(name for report in reports.values() for name in report.metrics))
    about: Mapping[str, Callable[[Report], object]] = {
        "benchmark name": lambda report: report.benchmark.name,
        "benchmark version": lambda report: report.benchmark.version,
        "prompt": lambda report: report.prompt,
        "targets": lambda report: report.targets,
        "made by": made_by,
        "targets seen": targets_seen,
    }
    lines = ["| | " + " | ".join(reports) + " |", "|---|" + "---|" * len(reports)]
    for name, told in about.items():
        lines.append(f"| {name} | " + " | ".join(str(told(report)) for report in reports.values()) + " |")
    for name in names:
        lines.append(f"| {name} | " + " | ".join(show(r.metrics.get(name)) for r in reports.values()) + " |")
    if tests:
        lines += ["", "McNemar's exact test on the targets that two reports share:", ""]
        lines += [
            "| metric | first | second | common | only first | only second | p |",
            "|---|---|---|---|---|---|---|",
        ]
        for found in tests:
            test = found.test
            cells = (found.metric, found.first, found.second, test.common_targets, test.only_first, test.only_second)
            lines.append("| " + " | ".join(map(str, cells)) + f" | {test.p:.3g} |")
    return "\n".join(lines) + "\n"


def made_by(report: Report) -> str:
    """The model that made the samples of a report, as far as it says."""
    return "unknown" if report.made_by is None else report.made_by.name


def targets_seen(report: Report) -> str:
    """How many targets the model has seen, and what that does to the match rates."""
    seen = report.seen
    if seen is None or seen.targets is None:
        return "unknown"
    text = f"{seen.targets} of {seen.of}" + (f", {n} undecided" if (n := seen.undecided) else "")
    if seen.missed:
        return text + ": count as not matched"
    return text + (": rates withheld" if report.withheld else f": {MARK}" if report.marked else "")


def compare(
    paths: Annotated[tuple[Path, ...], Option(metavar="REPORT")],
    *,
    tops: tuple[int, ...] = (1, 20),
    json: Annotated[Path | None, Option(metavar="FILE")] = None,
) -> None:
    """Print reports side by side, with McNemar's test between those of one benchmark.

    Args:
        paths: Files report.json, or the folders they are in.
        tops: The numbers of samples that are tested.
        json: Also write metrics and tests here.
    """
    if len(paths) < 2:
        raise InputError("one report has nothing to be compared with; give at least two")
    reports: dict[str, Report] = {}
    for path in paths:
        report = read_report(path)
        name, number = report.label, 2
        while name in reports:
            name, number = f"{report.label} ({number})", number + 1
        reports[name] = report
    tests = differences(reports, tops=tops)
    if not tests:
        print("the reports are of different benchmarks or versions: no test is made between them\n")
    elif any(report.withheld for report in reports.values()):
        print("a report withholds its match rates: score its samples again with --print-seen to compare them\n")
    elif not any(found.test.common_targets for found in tests):
        print("the reports share no target: draw the same ones with --targets and --target-seed\n")
    print(side_by_side(reports, tests))
    if json:
        metrics = {name: values_to_json(report.metrics) for name, report in reports.items()}
        write_json(json, {"metrics": metrics, "mcnemar": [found.to_json() for found in tests]})


main = Command(compare, "crystallm eval compare")
