"""What sources and tables of energies know of the crystals of a library, joined by id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from crystallm.base.errors import InputError
from crystallm.data.templates.schema import ENERGY_STEPS

FACT_COLUMNS = ("origin", "experimentally_observed", "e_above_hull", "merged_ids")
"""Columns of a source that are used where they are there."""

MEASURED_SOURCES = ("cod-", "amcsd-")
"""How ids of databases of measured crystals begin."""


def join_sources(rows: list[dict[str, Any]], sources: Sequence[Path]) -> None:
    """Write what sources know into rows of a library, in place.

    Args:
        rows: rows of a library.
        sources: parquet files with the columns `id` and `cif`, and those of FACT_COLUMNS where they have them.

    Raises:
        InputError: a source cannot be read or lacks a column.
    """
    by_id: dict[str, dict[str, Any]] = {row["id"]: row for row in rows}
    merged_into = {id_: row for row in rows for id_ in (row["copies"] or "").split()}
    for facts in _facts(sources):
        row = by_id.get(facts["id"], merged_into.get(facts["id"]))
        if row is not None:
            _join(row, facts)
    # A row of a source that is not in the library may be one that is held out: it is not named.
    hidden = {facts["id"] for facts in _facts(sources)} - set(by_id) - set(merged_into)
    for row in rows:
        row["copies"] = " ".join(dict.fromkeys(i for i in (row["copies"] or "").split() if i not in hidden)) or None


def join_energies(rows: list[dict[str, Any]], tables: Sequence[Path]) -> int:
    """Write energies of the packaged potential into rows of a library, in place; return how many rows got one.

    Args:
        rows: rows of a library.
        tables: parquet or CSV files with the columns `id` and `energy`, `relaxed_energy` or both, in eV/atom. Later
            ones count.

    Raises:
        InputError: a table cannot be read or lacks a column.
    """
    by_id = {row["id"]: row for row in rows}
    found: set[str] = set()
    for path in tables:
        table = _read(path, ("id",))
        names = [name for name in ("energy", "relaxed_energy") if name in table.column_names]
        if not names:
            raise InputError(f"{path} has neither a column energy nor relaxed_energy (eV/atom)")
        for line in table.select(["id", *names]).to_pylist():
            row = by_id.get(line["id"])
            for name in names if row is not None else ():
                steps = _steps(line[name])
                if row is not None and steps is not None:
                    row[name] = steps
                    found.add(line["id"])
    return len(found)


def _join(row: dict[str, Any], facts: Mapping[str, Any]) -> None:
    """Facts of one database entry; those of several add up: observed if one is, the lowest energy above the hull."""
    measured = facts["id"].startswith(MEASURED_SOURCES) or facts.get("origin") == "experiment"
    row["measured"] = row["measured"] or measured
    observed = facts.get("experimentally_observed")
    row["observed"] = row["observed"] if observed is None else row["observed"] or observed
    above = _steps(facts.get("e_above_hull"))
    if above is not None:
        row["dft_above_hull"] = above if row["dft_above_hull"] is None else min(above, row["dft_above_hull"])
    row["copies"] = " ".join(filter(None, [row["copies"], facts.get("merged_ids")]))


def _steps(energy: float | None) -> int | None:
    return None if energy is None or not np.isfinite(energy) else round(energy * ENERGY_STEPS)


def _facts(sources: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for source in sources:
        names = pq.read_schema(source).names if source.is_file() else []
        table = _read(source, ("id", "cif"), ["id", *(name for name in FACT_COLUMNS if name in names)])
        yield from table.to_pylist()


def _read(path: Path, needed: Sequence[str], columns: list[str] | None = None) -> pa.Table:
    try:
        if path.suffix == ".csv":
            table = pyarrow.csv.read_csv(
                path, convert_options=pyarrow.csv.ConvertOptions(column_types={"id": pa.string()})
            )
        else:
            missing = set(needed) - set(pq.read_schema(path).names)
            table = pa.table({}) if missing else pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"cannot read {path}: {error}; give a parquet file") from error
    if not set(columns or needed) <= set(table.column_names):
        raise InputError(f"{path} has no columns {', '.join(needed)}")
    return table
