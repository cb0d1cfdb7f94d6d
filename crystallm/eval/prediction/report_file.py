"""`report.json` and the table of targets beside it, written and read; those of version 0.1 hold their rows inside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crystallm.base.errors import ConfigError, InputError
from crystallm.base.provenance import sha256, write_json
from crystallm.eval.prediction.results import Report
from crystallm.eval.prediction.target_rows import TABLE, Rows, read_rows, write_rows

REPORT = "report.json"
ROWS = "per_target_of_sets"
"""The key of a report that holds its rows (version 0.1, and copies), or name and SHA-256 of their table."""


def write_report_file(report: Report, out: Path) -> None:
    """Write OUT/report.json and its table; the table first, so that a report never names one that is not there."""
    write_json(out / REPORT, report.to_json(table=write_table(report.per_target, out)))


def write_table(rows: Rows, folder: Path) -> dict[str, str]:
    """Write the table of a report into its folder; returns what `report.json` says of it, name and SHA-256."""
    write_rows(rows, folder / TABLE)
    return {"table": TABLE, "sha256": sha256(folder / TABLE)}


def read_report(path: Path) -> Report:
    """A report of `crystallm eval score` or `run`.

    Args:
        path: the file, or the folder it is in.

    Raises:
        InputError: the file is no such report, or the table that it names cannot be read.
    """
    file = path / REPORT if path.is_dir() else path
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read the report {file}: {error}; give a report.json of `crystallm eval score`"
        ) from error
    if not isinstance(found, dict) or not {"benchmark", "metrics", ROWS, "label"} <= found.keys():
        raise InputError(f"{file} is no report of `crystallm eval score` or `crystallm eval run`")
    return report_of(found, file)


def report_of(found: Mapping[str, Any], file: Path) -> Report:
    """The report in a JSON object that was read from `file`; InputError where a part of it is missing."""
    try:
        return Report.from_json(found, None if isinstance(found[ROWS], list) else _read_table(found[ROWS], file))
    except (KeyError, TypeError, AttributeError, ValueError, ConfigError) as error:
        raise InputError(f"{file} is no whole report of `crystallm eval score` ({error!r}); score again") from error


def _read_table(named: Mapping[str, str], file: Path) -> Rows:
    table = file.parent / Path(named["table"]).name
    rows = read_rows(table)
    if sha256(table) != named["sha256"]:
        raise InputError(f"{table} is not the table that {file.name} was written with; score again")
    return rows
