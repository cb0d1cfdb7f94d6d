"""`prepare`: from sources to a folder of prepared text, with every crystal accounted for."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from crystallm.data import steps
from crystallm.data.config import PrepareConfig
from crystallm.data.convert import OTHER_SPLIT
from crystallm.data.parts import write_table
from crystallm.data.report import markdown, statistics
from crystallm.data.sources import Source, SourceKind, open_source
from crystallm.data.steps import Ledger, Shop
from crystallm.data.workspace import REPORT, Workspace, manifest
from crystallm.errors import InputError
from crystallm.provenance import provenance, write_json, write_text

logger = logging.getLogger(__name__)

PREPARED_COLUMNS = ["id", "text", "reduced_formula", "n_sites", "space_group", "n_tokens"]


def prepare(config: PrepareConfig) -> dict[str, Any]:
    """Prepare `config.sources` into `config.out` and return the report; continues where an earlier run stopped."""
    sources = [open_source(source) for source in config.sources]
    benchmarks = [open_source(str(path)) for path in config.exclude_matching]
    space = Workspace.open(config.out, manifest(config, sources, benchmarks))
    if space.finished_report is not None:
        logger.info("%s was prepared before with the same inputs and options; nothing to do", config.out)
        return space.finished_report
    shop = Shop(space, config.workers or os.cpu_count() or 1)
    entries = steps.read(sources, config.split_column, shop, title="read")
    started = time.monotonic()
    ledger = steps.describe_all(entries, config, shop, title="describe")
    seconds = time.monotonic() - started
    counts = _count_drops(ledger)
    counts["duplicates"] = steps.drop_duplicates(ledger, config, shop)
    counts["leakage"] = steps.drop_leakage(ledger, benchmarks, config, shop)
    if not ledger.kept:
        reasons = Counter(reason for reason, _ in ledger.drops.values())
        raise InputError(
            f"nothing is left of {len(entries)} entries: "
            + ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
            + "; check the sources and options"
        )
    splits = steps.assign_splits(ledger, config)
    prepared = ledger.rows.select(PREPARED_COLUMNS)
    tables = {name: prepared.take(pa.array(numbers, pa.int64())) for name, numbers in splits.items()}
    counts["written"] = {name: table.num_rows for name, table in tables.items()}
    described = {"all": pa.concat_tables(tables.values()), **tables}
    report = {
        "counts": counts,
        "statistics": {name: statistics(table) for name, table in described.items()},
        "describe_seconds": round(seconds, 1),
        "workers": shop.workers,
        "manifest": space.manifest,
        "provenance": provenance(inputs=_files([*sources, *benchmarks])),
    }
    _write(config.out, tables, ledger, report)
    space.clear()
    return report


def _count_drops(ledger: Ledger) -> dict[str, Any]:
    reasons = Counter(reason for reason, _ in ledger.drops.values())
    other_split = reasons.pop(OTHER_SPLIT, 0)
    attempted = len(ledger.entries) - other_split
    passed = attempted - reasons.total()
    return {
        "read": len(ledger.entries),
        "other_split": other_split,
        "described": f"{passed}/{attempted} ({passed / attempted:.2%})" if attempted else "0/0 (undefined)",
        "refused": dict(reasons.most_common()),
    }


def _files(sources: list[Source]) -> list[Path]:
    """The sources that are single files; a folder is in the manifest with a digest of its list of files."""
    return [Path(s.location) for s in sources if s.kind not in (SourceKind.FOLDER, SourceKind.HUB)]


def _write(out: Path, tables: dict[str, pa.Table], ledger: Ledger, report: dict[str, Any]) -> None:
    """Write all results; report.json comes last and says that the others are complete."""
    for name, table in tables.items():
        write_table(table, out / f"{name}.parquet")
    names = ledger.rows["id"]
    lines = [
        json.dumps({"id": names[index].as_py(), "reason": reason, "detail": detail}, ensure_ascii=False)
        for index, (reason, detail) in sorted(ledger.drops.items())
    ]
    write_text(out / "drops.jsonl", "".join(f"{line}\n" for line in lines))
    write_text(out / "report.md", markdown(report))
    write_json(out / REPORT, report)
