"""What sources and tables of energies know of the crystals of a library, joined by id."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from tqdm import tqdm

from crystallm.crystal.cell import Rejection
from crystallm.crystal.cif import read_cif
from crystallm.crystal.layout import WYCKOFF
from crystallm.crystal.limited import Lost, run_limited
from crystallm.data.templates.exact import Exact, exact_numbers
from crystallm.data.templates.schema import ENERGY_STEPS
from crystallm.errors import InputError

logger = logging.getLogger(__name__)

ROWS_PER_PART = 200
PART_LIMIT_S = 300.0
"""For so many crystals together; nearly all take some ten milliseconds."""

FACT_COLUMNS = ("origin", "experimentally_observed", "e_above_hull", "merged_ids")
"""Columns of a source that are used where they are there."""

MEASURED_SOURCES = ("cod-", "amcsd-")
"""How ids of databases of measured crystals begin."""


@dataclass(frozen=True)
class Deviations:
    """How far the crystals of a library are from their sources, in angstrom."""

    distances: tuple[float, ...]
    missing: tuple[str, ...]
    """Ids of crystals that no description was near enough to, or that could not be read."""
    described_again: int
    """Crystals described at a tighter tolerance than the project's."""

    def __str__(self) -> str:
        if not self.distances:
            return "no crystal was compared with its source"
        largest, most = max(self.distances), float(np.quantile(self.distances, 0.999))
        return (
            f"{len(self.distances):,} crystals compared with their sources: largest distance {largest:.4f} angstrom, "
            f"99.9th percentile {most:.4f}; {self.described_again:,} described at a tighter tolerance; "
            f"{len(self.missing):,} too far: {' '.join(self.missing[:10]) or 'none'}"
        )


Question = list[tuple[str, str, str]]
"""Id, CIF and text of some crystals."""


def join_sources(
    rows: list[dict[str, Any]], sources: Sequence[Path], *, workers: int = 1, show_progress: bool = False
) -> Deviations:
    """Write what sources know into rows of a library, in place.

    Args:
        rows: rows of a library; those that have exact numbers keep them.
        sources: parquet files with the columns `id` and `cif`, and those of FACT_COLUMNS where they have them.
        workers: processes; does not change the result.
        show_progress: on stderr.

    Returns:
        How far the crystals are from their sources.

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
    wanted = {id_: row["text"] for id_, row in by_id.items() if row["exact"] is None and row["exact_text"] is None}
    distances, missing, again = [], [], 0
    parts = _parts(sources, wanted)
    progress = tqdm(total=len(wanted), unit="crystals", desc="exact numbers", disable=not show_progress)
    for _, answers in run_limited(_exact, parts, workers=workers, time_limit_s=PART_LIMIT_S):
        if isinstance(answers, Lost):
            logger.warning("numbers of %d crystals given up: %s", ROWS_PER_PART, answers.detail)
            continue
        for id_, exact in answers:
            progress.update()
            if exact is None:
                missing.append(id_)
                continue
            by_id[id_]["exact"], by_id[id_]["exact_text"] = exact.residuals, exact.text
            distances.append(exact.deviation)
            again += exact.text is not None
    progress.close()
    return Deviations(tuple(distances), tuple(missing), again)


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


def _parts(sources: Sequence[Path], wanted: Mapping[str, str]) -> Iterator[Question]:
    part: Question = []
    for source in sources:
        for batch in pq.ParquetFile(source).iter_batches(batch_size=2000, columns=["id", "cif"]):
            for line in batch.to_pylist():
                if line["id"] in wanted:
                    part.append((line["id"], line["cif"], wanted[line["id"]]))
                if len(part) == ROWS_PER_PART:
                    yield part
                    part = []
    if part:
        yield part


def _exact(question: Question) -> list[tuple[str, Exact | None]]:
    answers: list[tuple[str, Exact | None]] = []
    for id_, cif, text in question:
        cell, rounded = read_cif(cif), WYCKOFF.read(text)
        if isinstance(cell, Rejection) or isinstance(rounded, Rejection):
            answers.append((id_, None))
        else:
            answers.append((id_, exact_numbers(cell, rounded)))
    return answers
