"""A preparation cut into parts for several machines: part i of n describes every n-th crystal, then all are merged.

Describing costs nearly all of the time and needs no other crystal. Duplicates, leakage and the split do, so they wait
until all parts are together, and come out as if one machine had done everything.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crystallm.base.errors import InputError
from crystallm.base.provenance import write_json
from crystallm.base.whole_file import whole_file
from crystallm.data.config import PrepareConfig
from crystallm.data.preparing.resumable import write_table
from crystallm.data.preparing.steps import CONVERTED, Ledger, Shop, ledger_of
from crystallm.data.preparing.workspace import REPORT
from crystallm.data.sources.sources import SHARD_FILES, Source, SourceKind

ENTRIES, DESCRIBED, _ = SHARD_FILES

FREE = ("sources", "exclude_matching", "shard", "rows_per_file")
"""Of a manifest, what need not be equal word for word in the parts and where they are merged."""


def write_shard(ledger: Ledger, report: dict[str, Any], out: Path) -> None:
    """Write a finished part: the entries as they were read, their rows, and the report, which says all is there."""
    datasets.disable_progress_bars()
    try:
        with whole_file(out / ENTRIES) as partial:
            ledger.entries.to_parquet(str(partial), batch_size=1_000)
    finally:
        datasets.enable_progress_bars()
    write_table(ledger.rows, out / DESCRIBED)
    write_json(out / REPORT, report)


def are_shards(sources: Sequence[Source]) -> bool:
    """Whether the sources are finished parts; InputError if some are and others are not."""
    kinds = {source.kind is SourceKind.SHARD for source in sources}
    if kinds == {True, False}:
        other = next(source for source in sources if source.kind is not SourceKind.SHARD)
        raise InputError(f"{other.location} is no finished part of a preparation and the others are; give all or none")
    return kinds == {True}


def merge(sources: Sequence[Source], config: PrepareConfig, wanted: dict[str, Any], shop: Shop) -> tuple[Ledger, float]:
    """Return all entries of the parts in the order of the sources, and the seconds that describing took in all.

    Raises InputError unless the parts are complete, undamaged, and of one preparation with the options of `wanted`.
    """
    if config.shard is not None:
        raise InputError("--shard cuts up sources; leave it out to put finished parts together")
    reports = [_report(source) for source in sources]
    parts = dict(_in_order(sources, [report["manifest"]["shard"] for report in reports]))
    for source, report in zip(sources, reports, strict=True):
        _require_same(source, report["manifest"], reports[0]["manifest"], wanted)
    rows = [_rows(source) for source in parts.values()]
    entries = _entries(list(parts.values()), [table.num_rows for table in rows], shop)
    number = np.concatenate(
        [part + len(parts) * np.arange(len(table)) for part, table in zip(parts, rows, strict=True)]
    )
    order = np.argsort(number)
    table = pa.concat_tables(rows).take(pa.array(order))
    return ledger_of(entries.select(order), table), sum(report["describe_seconds"] for report in reports)


def _report(source: Source) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads((Path(source.location) / REPORT).read_text(encoding="utf-8"))
        manifest = report["manifest"]
        if manifest["shard"] is None:
            raise KeyError("shard")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{source.location} is damaged: cannot read {REPORT} ({error}); prepare it again") from error
    return report


def _in_order(sources: Sequence[Source], shards: list[list[int]]) -> list[tuple[int, Source]]:
    """The parts by number, counted from 0."""
    total = shards[0][1]
    for source, (_, of) in zip(sources, shards, strict=True):
        if of != total:
            raise InputError(f"{source.location} is a part of {of}, {sources[0].location} of {total}; merge one cut")
    numbers = [number for number, _ in shards]
    missing = sorted(set(range(1, total + 1)) - set(numbers))
    if missing or len(numbers) > total:
        what = f"missing: {', '.join(f'{number}/{total}' for number in missing)}" if missing else "one is given twice"
        raise InputError(f"{len(numbers)} parts of {total} are given, {what}; give each part once")
    return sorted(((number - 1, source) for number, source in zip(numbers, sources, strict=True)), key=lambda p: p[0])


def _require_same(source: Source, found: dict[str, Any], first: dict[str, Any], wanted: dict[str, Any]) -> None:
    """The options must be those of the merge, so that none is forgotten there; the sources those of the first part."""
    different = [name for name in wanted if name not in FREE and found.get(name) != wanted[name]]
    if different:
        changes = "; ".join(f"{name} was {found.get(name)!r}, now {wanted[name]!r}" for name in different)
        raise InputError(f"{source.location} was prepared with other options ({changes}); give the same to all")
    for name, other in (("sources", first), ("exclude_matching", wanted)):
        if _sizes(found[name]) != _sizes(other[name]):
            raise InputError(
                f"{source.location} was prepared with other {name.replace('_', ' ')} ({_sizes(found[name])}, and not "
                f"{_sizes(other[name])}); give the same to all"
            )


def _sizes(fingerprints: list[dict[str, Any]]) -> str:
    """Names and sizes: the times of files, which are in their digests, differ between machines."""
    return ", ".join(f"{one['name']} of {one['bytes']} bytes" for one in fingerprints) or "none"


def _rows(source: Source) -> pa.Table:
    path = Path(source.location) / DESCRIBED
    try:
        return pq.read_table(path).cast(CONVERTED)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}); copy or prepare that part again") from error


def _entries(sources: list[Source], rows: list[int], shop: Shop) -> datasets.Dataset:
    paths = [Path(source.location) / ENTRIES for source in sources]
    for path, expected in zip(paths, rows, strict=True):
        try:
            found = pq.ParquetFile(path).metadata.num_rows
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path} is damaged ({error}); copy or prepare that part again") from error
        if found != expected:
            raise InputError(f"{path} has {found} rows and not {expected}; copy or prepare that part again")
    datasets.disable_progress_bars()
    try:
        return datasets.Dataset.from_parquet(
            [str(path) for path in paths], cache_dir=str(shop.space.folder("entries of all parts"))
        )
    except datasets.exceptions.DatasetGenerationError as error:
        raise InputError(f"a part is damaged ({error.__cause__}); copy or prepare it again") from error
    finally:
        datasets.enable_progress_bars()
