"""What a report keeps of each target: rows in a table beside `report.json`; older reports hold them inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crystallm.base.errors import InputError
from crystallm.base.whole_file import whole_file

TABLE = "per_target.parquet"
"""Beside `report.json`, whose `per_target_of_sets` names it."""

SCHEMA = pa.schema(
    [
        ("set", pa.int32()),
        ("id", pa.string()),
        ("samples", pa.int32()),
        ("first_match", pa.int32()),
        ("first_match_smact", pa.int32()),
        ("first_match_strict", pa.int32()),
        ("rms", pa.float64()),
        ("undecided", pa.list_(pa.int32())),
        ("seen", pa.bool_()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class TargetRow:
    """What became of one target in one set of samples; samples are numbered from 1."""

    id: str
    samples: int
    first_match: int | None = None
    """The first sample that matches; None where none does, and where a report withholds it."""
    first_match_smact: int | None = None
    first_match_strict: int | None = None
    rms: float | None = None
    """The smallest of the samples that count."""
    undecided: tuple[int, ...] = ()
    """Samples whose comparison gave no verdict; reports of version 1 of the benchmarks do not know them."""
    seen: bool | None = None
    """Whether the model has seen the target; None where that is not known."""

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self) | {"undecided": list(self.undecided)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> TargetRow:
        """A row of a report of any version, or of its table.

        Example:
            >>> TargetRow.from_json({"id": "mp-1", "samples": 20, "first_match": 3}).undecided
            ()
        """
        known = {name: row[name] for name in cls.__dataclass_fields__ if row.get(name) is not None}
        return cls(**known | {"undecided": tuple(known.get("undecided", ()))})

    def without_matches(self) -> TargetRow:
        """The row without what says whether the target was matched."""
        return TargetRow(id=self.id, samples=self.samples, seen=self.seen)


Rows = tuple[tuple[TargetRow, ...], ...]
"""Rows of each set of samples."""


def rows_from_json(sets: Sequence[Sequence[Mapping[str, Any]]]) -> Rows:
    """Rows as a report holds them inside."""
    return tuple(tuple(TargetRow.from_json(row) for row in rows) for rows in sets)


def write_rows(rows: Rows, path: Path) -> None:
    """Write the rows of all sets of samples as one parquet table, compressed with zstd."""
    flat = [{"set": number} | row.to_json() for number, found in enumerate(rows) for row in found]
    with whole_file(path) as partial:
        pq.write_table(pa.Table.from_pylist(flat, SCHEMA), partial, compression="zstd", compression_level=19)


def read_rows(path: Path) -> Rows:
    """Read what `write_rows` wrote.

    Args:
        path: of the table.

    Returns:
        The rows of each set of samples, sets and rows in their order.

    Raises:
        InputError: the table is missing, or it is none of ours.
    """
    try:
        flat = pq.read_table(path).to_pylist()
        count = max((row["set"] for row in flat), default=-1) + 1
        return rows_from_json([[row for row in flat if row["set"] == number] for number in range(count)])
    except (OSError, pa.ArrowException, KeyError, TypeError) as error:
        raise InputError(f"cannot read {path}: {error}; a report.json needs its table in the same folder") from error
