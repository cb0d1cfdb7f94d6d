"""Moves the rows of targets out of reports of version 0.1 into a compressed table beside each; figures stay.

python -m studies.size.move_rows eval/reports/*/report.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from crystallm.base.provenance import write_json
from crystallm.eval.prediction.report_file import ROWS, write_table
from crystallm.eval.prediction.target_rows import TABLE, read_rows, rows_from_json


def move_rows(file: Path) -> bool:
    """Move the rows that a report.json of version 0.1 holds into a table beside it; nothing else of it changes.

    Args:
        file: The report.

    Returns:
        Whether it held rows.

    Raises:
        RuntimeError: The table does not hold what the report held; the report was left as it is.
    """
    found = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or not isinstance(found.get(ROWS), list):
        return False
    rows = rows_from_json(found[ROWS])
    table = write_table(rows, file.parent)
    if read_rows(file.parent / TABLE) != rows:
        raise RuntimeError(f"the rows of {file} do not come back as they were; it was left as it is")
    write_json(file, found | {ROWS: table})
    return True


def main() -> None:
    """Convert the reports given, and say what each weighs before and after."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path, nargs="+", metavar="REPORT", help="report.json")
    for file in parser.parse_args().reports:
        before = file.stat().st_size
        if move_rows(file):
            print(f"{file}: {before} bytes, now {file.stat().st_size} and {(file.parent / TABLE).stat().st_size}")


if __name__ == "__main__":
    main()
