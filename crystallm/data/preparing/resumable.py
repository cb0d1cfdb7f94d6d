"""Work cut into parts, each written once and whole, so that a killed run continues where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from crystallm.base.whole_file import whole_file
from crystallm.base.workers import Lost, Worker, run_limited

Item = TypeVar("Item")
Rows = list[dict[str, Any]]

ITEM_LIMIT_S = 20.0
"""An item that needs longer is given up; nearly all take milliseconds."""

PART_LIMIT_S = 120.0
"""A part that needs longer is done again item by item, so that only the items at fault are given up."""


ROWS_PER_GROUP = 2_000
"""Rows of a parquet file that are read together; streaming draws these groups in random order."""


class Job(Generic[Item]):
    """A function from items to rows, one row an item, over items that are made part by part when they are due."""

    def __init__(
        self,
        function: Callable[[list[Item]], Rows],
        *,
        schema: pa.Schema,
        lost: Callable[[Item, Lost], dict[str, Any]],
    ) -> None:
        """`lost` makes the row of an item that took too long or took its process down."""
        self.function = function
        self.schema = schema
        self.lost = lost

    def run(
        self,
        folder: Path,
        make: Callable[[int], list[Item]],
        sizes: Sequence[int],
        *,
        workers: int,
        title: str,
        unit: str,
    ) -> pa.Table:
        """The rows of all parts in order; only parts that `folder` does not hold yet are made and done.

        `make(i)` returns the `sizes[i]` items of part i.
        """
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{index:06d}.parquet" for index in range(len(sizes))]
        missing = [index for index, path in enumerate(paths) if not path.exists()]
        done = sum(sizes) - sum(sizes[index] for index in missing)
        with tqdm(total=sum(sizes), initial=done, desc=title, unit=f" {unit}", smoothing=0.02) as bar:
            for index, rows in self._run(missing, make, workers):
                write_table(pa.Table.from_pylist(rows, schema=self.schema), paths[index])
                bar.update(sizes[index])
        return pa.concat_tables([self.schema.empty_table(), *(pq.read_table(path) for path in paths)])

    def _run(self, missing: list[int], make: Callable[[int], list[Item]], workers: int) -> Iterator[tuple[int, Rows]]:
        items = map(make, missing)
        for position, rows in run_limited(self.function, items, workers=workers, time_limit_s=PART_LIMIT_S):
            index = missing[position]
            yield index, self._one_by_one(make(index)) if isinstance(rows, Lost) else rows

    def _one_by_one(self, items: list[Item]) -> Rows:
        rows: Rows = []
        with Worker(self.function) as worker:
            for item in items:
                result = worker.call([item], time_limit_s=ITEM_LIMIT_S)
                rows.extend([self.lost(item, result)] if isinstance(result, Lost) else result)
        return rows


def write_table(table: pa.Table, path: Path) -> None:
    """Write a parquet so that a reader sees nothing or the whole file; InputError where it cannot be written."""
    with whole_file(path) as partial:
        pq.write_table(table, partial, compression="zstd", row_group_size=ROWS_PER_GROUP)
