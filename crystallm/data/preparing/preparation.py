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

from crystallm.base.errors import InputError
from crystallm.base.folder_lock import only_writer
from crystallm.base.provenance import output_folder, provenance, write_json, write_text
from crystallm.data.config import PrepareConfig
from crystallm.data.preparing import shards, steps
from crystallm.data.preparing.convert import OTHER_SPLIT
from crystallm.data.preparing.report import markdown, statistics
from crystallm.data.preparing.resumable import write_table
from crystallm.data.preparing.steps import Ledger, Shop
from crystallm.data.preparing.workspace import REPORT, Workspace, manifest
from crystallm.data.sources.sources import Source, SourceKind, open_source

logger = logging.getLogger(__name__)

PREPARED_COLUMNS = ["id", "text", "reduced_formula", "n_sites", "space_group", "n_tokens"]


def prepare(config: PrepareConfig) -> dict[str, Any]:
    """Prepare `config.sources` into `config.out` and return the report; continues where an earlier run stopped."""
    sources = [open_source(source) for source in config.sources]
    benchmarks = [open_source(str(path)) for path in config.exclude_matching]
    wanted = manifest(config, sources, benchmarks)
    with only_writer(output_folder(config.out), remedy="choose another folder"):
        return _prepare(config, sources, benchmarks, Workspace.open(config.out, wanted))


def _prepare(
    config: PrepareConfig, sources: list[Source], benchmarks: list[Source], space: Workspace
) -> dict[str, Any]:
    if space.finished_report is not None:
        logger.info("%s was prepared before with the same inputs and options; nothing to do", config.out)
        return space.finished_report
    shop = Shop(space, config.workers or os.cpu_count() or 1)
    if shards.are_shards(sources):
        ledger, seconds = shards.merge(sources, config, space.manifest, shop)
    else:
        ledger, seconds = _described(sources, config, shop)
    counts = _count_drops(ledger)
    about = {
        "describe_seconds": round(seconds, 1),
        "workers": shop.workers,
        "manifest": space.manifest,
        "provenance": provenance(inputs=_files([*sources, *benchmarks])),
    }
    if config.shard is not None:
        shards.write_shard(ledger, {"counts": counts} | about, config.out)
        space.clear()
        return {"counts": counts} | about
    counts["duplicates"] = steps.drop_duplicates(ledger, config, shop)
    counts["leakage"] = steps.drop_leakage(ledger, benchmarks, config, shop)
    if not ledger.kept:
        reasons = Counter(reason for reason, _ in ledger.drops.values())
        raise InputError(
            f"nothing is left of {len(ledger.entries)} entries: "
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
    } | about
    _write(config, tables, ledger, report)
    space.clear()
    return report


def _described(sources: list[Source], config: PrepareConfig, shop: Shop) -> tuple[Ledger, float]:
    """The ledger of the sources, or of one part of them, and the seconds that describing took."""
    limit = config.max_file_mb
    entries = steps.read(sources, config.split_column, shop, title="read", shard=config.shard, max_file_mb=limit)
    started = time.monotonic()
    return steps.describe_all(entries, config, shop, title="describe"), time.monotonic() - started


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


def _write(config: PrepareConfig, tables: dict[str, pa.Table], ledger: Ledger, report: dict[str, Any]) -> None:
    """Write all results; report.json comes last and says that the others are complete."""
    out = config.out
    for name, table in tables.items():
        if name == "train" and config.rows_per_file is not None:
            _write_many(table, output_folder(out / name), config.rows_per_file)
        else:
            write_table(table, out / f"{name}.parquet")
    names = ledger.rows["id"]
    lines = [
        json.dumps({"id": names[index].as_py(), "reason": reason, "detail": detail}, ensure_ascii=False)
        for index, (reason, detail) in sorted(ledger.drops.items())
    ]
    write_text(out / "drops.jsonl", "".join(f"{line}\n" for line in lines))
    write_text(out / "report.md", markdown(report))
    write_json(out / REPORT, report)


def _write_many(table: pa.Table, folder: Path, rows_per_file: int) -> None:
    """Write `train-00000-of-00012.parquet` and so on: names by which a reader can tell that one is missing."""
    pieces = [table.slice(start, rows_per_file) for start in range(0, max(table.num_rows, 1), rows_per_file)]
    for number, piece in enumerate(pieces):
        write_table(piece, folder / f"{folder.name}-{number:05d}-of-{len(pieces):05d}.parquet")
