"""Looks through tables of crystals: `crystallm data check SOURCE [SOURCE ...] OUT`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crystallm.base.command_line import Command, Option
from crystallm.base.errors import InputError
from crystallm.base.provenance import write_text
from crystallm.base.workers import Lost, run_limited
from crystallm.crystal.cell import Rejection
from crystallm.crystal.cif import read_cif
from crystallm.data.consistency.columns import check_columns
from crystallm.data.consistency.distances import check_distances
from crystallm.data.consistency.findings import Contradiction, Finding, write_findings
from crystallm.data.consistency.hydrogen import check_hydrogen, check_labels

COLUMNS = (
    "formula",
    "reduced_formula",
    "n_sites",
    "n_elements",
    "density",
    "volume_per_atom",
    "spacegroup_number",
    "origin",
    "merged_ids",
)
"""Columns that are looked at where a source has them, beside `id` and `cif`."""

ROWS_PER_PART = 500
PART_LIMIT_S = 600.0

FAR_ABOVE_EV = 3.0
"""eV/atom above the lowest crystal of the formula, by the packaged potential."""


def check_row(row: Mapping[str, Any]) -> list[Finding]:
    """All contradictions of one row.

    Args:
        row: `id`, `cif` and what there is of COLUMNS. Lost hydrogen and labels are looked for where `origin` is
            "experiment".

    Returns:
        What was found, certain or not.

    Example:
        >>> check_row({"id": "1", "cif": rutile, "formula": "Ti O"})[0].reason
        <Contradiction.FORMULA: 'formula is not that of the atoms'>
    """
    cell = read_cif(row["cif"])
    if isinstance(cell, Rejection):
        return [Finding(row["id"], Contradiction.UNREADABLE, str(cell), True)]
    measured = row.get("origin") == "experiment"
    found = [*check_columns(row, cell), *check_distances(row["id"], cell, measured=measured)]
    if measured:
        found += [*check_hydrogen(row, cell), *check_labels(row, cell)]
    return found


@dataclass(frozen=True)
class Checked:
    """How many rows were looked at, how many of them are measured, what was found."""

    rows: int
    measured: int
    findings: tuple[Finding, ...]

    @property
    def certain(self) -> tuple[str, ...]:
        """Ids of rows with a certain contradiction."""
        return tuple(dict.fromkeys(finding.id for finding in self.findings if finding.certain))


def findings_of_sources(sources: Sequence[Path], *, energies: Sequence[Path] = (), workers: int = 1) -> Checked:
    """Look through tables of crystals.

    Args:
        sources: parquet files with columns `id` and `cif`, and those of COLUMNS that they have.
        energies: parquet files with columns `id` and `energy` (eV/atom) by one potential.
        workers: processes; does not change the result.

    Raises:
        InputError: a file cannot be read or lacks a column.
    """
    rows = 0
    measured: set[str] = set()
    formulas: dict[str, str] = {}
    found: dict[int, list[Finding]] = {}

    def parts() -> Iterator[list[dict[str, Any]]]:
        nonlocal rows
        for part in _parts(sources):
            rows += len(part)
            measured.update(row["id"] for row in part if row.get("origin") == "experiment")
            formulas.update((row["id"], row["reduced_formula"]) for row in part if row.get("reduced_formula"))
            yield part

    for number, answer in run_limited(_check, parts(), workers=workers, time_limit_s=PART_LIMIT_S):
        if isinstance(answer, Lost):
            raise InputError(f"rows {number * ROWS_PER_PART} and following took too long: {answer.detail}")
        found[number] = answer
    findings = [finding for number in sorted(found) for finding in found[number]]
    return Checked(rows, len(measured), (*findings, *far_above(formulas, _energies(energies), measured)))


def far_above(
    formulas: Mapping[str, str], energies: Mapping[str, float], measured: Set[str] = frozenset()
) -> list[Finding]:
    """Crystals more than FAR_ABOVE_EV above the lowest of their formula: a calculated one may be hypothetical, a
    measured one cannot be.

    Args:
        formulas: id -> reduced formula.
        energies: id -> eV/atom.
        measured: ids of measured crystals.
    """
    by_formula: dict[str, list[str]] = defaultdict(list)
    for id_, formula in formulas.items():
        if id_ in energies and np.isfinite(energies[id_]):
            by_formula[formula].append(id_)
    found = []
    for ids in by_formula.values():
        lowest = min(energies[id_] for id_ in ids)
        for id_ in ids:
            if energies[id_] - lowest > FAR_ABOVE_EV:
                detail = f"{energies[id_] - lowest:.2f} eV/atom above the lowest of {len(ids)}"
                found.append(Finding(id_, Contradiction.ENERGY, detail, id_ in measured))
    return found


def _check(rows: list[dict[str, Any]]) -> list[Finding]:
    return [finding for row in rows for finding in check_row(row)]


def _parts(sources: Iterable[Path]) -> Iterator[list[dict[str, Any]]]:
    for source in sources:
        try:
            file = pq.ParquetFile(source)
            names = file.schema_arrow.names
            if not {"id", "cif"} <= set(names):
                raise InputError(f"{source} has no columns id, cif")
            columns = ["id", "cif", *(name for name in COLUMNS if name in names)]
            for batch in file.iter_batches(batch_size=ROWS_PER_PART, columns=columns):
                yield batch.to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"cannot read {source}: {error}; give a parquet file") from error


def _energies(tables: Sequence[Path]) -> dict[str, float]:
    found: dict[str, float] = {}
    for path in tables:
        try:
            table = pq.read_table(path, columns=["id", "energy"])
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"cannot read {path}: {error}; give parquet with columns id, energy") from error
        found.update(
            (id_, energy)
            for id_, energy in zip(table["id"].to_pylist(), table["energy"].to_pylist(), strict=True)
            if energy is not None
        )
    return found


def markdown(checked: Checked) -> str:
    """A report: how many rows of each reason, and the ids of those that are certain."""
    lines = [
        "# Rows that contradict themselves",
        "",
        f"{checked.rows:,} rows, {checked.measured:,} of them measured; {len(checked.certain):,} with a certain "
        "contradiction.",
        "",
        "| reason | certain | suspected | of |",
        "| --- | ---: | ---: | ---: |",
    ]
    certain: Counter[Contradiction] = Counter()
    suspected: Counter[Contradiction] = Counter()
    for finding in checked.findings:
        (certain if finding.certain else suspected)[finding.reason] += 1
    for reason in Contradiction:
        only_measured = reason in (Contradiction.LOST_HYDROGEN, Contradiction.LABELS)
        of = checked.measured if only_measured else checked.rows
        lines.append(f"| {reason.value} | {certain[reason]:,} | {suspected[reason]:,} | {of:,} |")
    lines += ["", "Certain:", "", "| id | reason | detail |", "| --- | --- | --- |"]
    lines += [f"| {f.id} | {f.reason.value} | {f.detail} |" for f in checked.findings if f.certain]
    return "\n".join(lines) + "\n"


def check(
    sources: tuple[Path, ...],
    out: Path,
    *,
    energies: Annotated[tuple[Path, ...], Option(metavar="FILE")] = (),
    workers: int = 1,
) -> None:
    """Look for rows that contradict themselves: columns against atoms, lost hydrogen, labels taken for elements, atoms
    on top of each other.

    Writes OUT.jsonl (every finding) and OUT.md (counts, and the certain ones); `crystallm data templates --without
    OUT.jsonl` leaves the certain ones out.

    Args:
        sources: Parquet files with columns id and cif.
        out: The two files without their endings.
        energies: Parquet files with columns id, energy (eV/atom).
        workers: Processes.
    """
    checked = findings_of_sources(sources, energies=energies, workers=workers)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_findings(out.with_suffix(".jsonl"), checked.findings)
    write_text(out.with_suffix(".md"), markdown(checked))
    print(
        f"{checked.rows:,} rows, {len(checked.certain):,} with a certain contradiction; {out.with_suffix('.md')}, "
        f"{out.with_suffix('.jsonl')}"
    )


main = Command(check, "crystallm data check")
