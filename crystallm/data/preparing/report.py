"""What was prepared, in numbers: statistics of the rows, and the report as Markdown. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from crystallm.base.markdown import table
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.crystal.symmetry import space_group_symbol

PERCENTILES = (50, 90, 95, 99)
LENGTH_BIN = 32


def statistics(table: pa.Table) -> dict[str, Any]:
    """Counts and distributions of prepared rows."""
    formulas = Counter(table["reduced_formula"].to_pylist())
    elements: Counter[str] = Counter()
    for formula, count in formulas.items():
        elements.update({symbol: count for symbol, _ in parse_formula(formula)})
    groups = Counter(table["space_group"].to_pylist())
    lengths = table["n_tokens"].to_numpy()
    bins = Counter((lengths // LENGTH_BIN * LENGTH_BIN).tolist())
    return {
        "rows": table.num_rows,
        "reduced_formulas": len(formulas),
        "tokens": int(lengths.sum()),
        "token_length": _summary(lengths),
        "token_length_histogram": {f"{low}-{low + LENGTH_BIN - 1}": bins[low] for low in sorted(bins)},
        "sites_in_primitive_cell": _summary(table["n_sites"].to_numpy()),
        "elements_in_rows": dict(elements.most_common()),
        "space_groups": {str(number): count for number, count in groups.most_common()},
    }


def _summary(values: np.ndarray[Any, Any]) -> dict[str, float]:
    if not len(values):
        return {}
    percentiles = zip(PERCENTILES, np.percentile(values, PERCENTILES, method="lower").tolist(), strict=True)
    summary = {"mean": round(float(values.mean()), 2), "min": int(values.min()), "max": int(values.max())}
    return summary | {f"p{share}": int(value) for share, value in percentiles}


def markdown(report: Mapping[str, Any]) -> str:
    """The report for people."""
    counts, every = report["counts"], report["statistics"]["all"]
    steps = [
        ("read", counts["read"], ""),
        ("left out by the split column", counts["other_split"], ""),
        *((f"refused: {reason}", number, "") for reason, number in counts["refused"].items()),
        ("duplicates", counts["duplicates"]["taken_out"], _details(counts["duplicates"])),
        ("equal to a benchmark structure", counts["leakage"]["taken_out"], _details(counts["leakage"])),
        *((f"written to {name}", number, "") for name, number in counts["written"].items()),
    ]
    groups = [(f"{space_group_symbol(int(n))} ({n})", rows) for n, rows in every["space_groups"].items()]
    head = ("split", "rows", "formulas", "tokens", "tokens a crystal: mean", *(f"p{p}" for p in PERCENTILES), "max")
    lines = [
        "# Prepared crystals",
        "",
        table(("step", "crystals", "detail"), steps),
        "",
        f"Described: {counts['described']}.",
        "",
        "## Rows",
        "",
        table(head, [(name, *_length_row(values)) for name, values in report["statistics"].items()]),
        "",
        "## Token lengths",
        "",
        _histogram(list(every["token_length_histogram"].items())),
        "",
        f"## Space groups ({len(groups)})",
        "",
        _histogram(groups[:30]),
        "",
        f"## Elements ({len(every['elements_in_rows'])})",
        "",
        _histogram(list(every["elements_in_rows"].items())),
        "",
        "## Provenance",
        "",
        *(f"- {name}: `{report['provenance'][name]}`" for name in ("crystallm", "commit", "command", "time_utc")),
        *(f"- input `{name}`, sha256 `{digest}`" for name, digest in report["provenance"]["inputs"].items()),
        "",
    ]
    return "\n".join(lines)


def _length_row(values: Mapping[str, Any]) -> tuple[Any, ...]:
    length = values["token_length"]
    shares = [length.get(key, "") for key in ("mean", *(f"p{share}" for share in PERCENTILES), "max")]
    return values["rows"], values["reduced_formulas"], values["tokens"], *shares


def _details(counts: Mapping[str, Any]) -> str:
    details: list[str] = []
    for name, value in counts.items():
        if isinstance(value, Mapping):
            details.extend(f"{key}: {number}" for key, number in value.items())
        elif name != "taken_out":
            details.append(f"{name.replace('_', ' ')}: {value}")
    return "; ".join(details)


def _histogram(bars: list[tuple[str, int]]) -> str:
    longest = max((count for _, count in bars), default=1)
    lines = [f"{name:>14} {count:>8} {'#' * round(40 * count / longest)}".rstrip() for name, count in bars]
    return "\n".join(["```text", *lines, "```"])
