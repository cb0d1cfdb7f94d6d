"""Rows of a parquet file, whose texts may be larger than anybody meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crystallm.base.input_files import MAX_FILE_MB, Unread, decoded, why_too_large

MOST_ROWS, MOST_BYTES = 1000, 256e6
"""Read at once, by the size that the file states."""

_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)


def rows_of(
    path: Path | str, columns: Sequence[str] | None = None, *, text: str = "cif", max_file_mb: float = MAX_FILE_MB
) -> Iterator[dict[str, Any]]:
    """The rows of a parquet file, some at a time.

    Args:
        path: the file.
        columns: all unless given.
        text: the column of texts. A cell of more megabytes than `max_file_mb` is refused where it lies, before it
            becomes a Python text, and so is one that is no text at all: the row holds an `Unread` in its place.
        max_file_mb: see there.

    Raises:
        pyarrow.ArrowInvalid, OSError, UnicodeDecodeError: the file is damaged.
    """
    file = pq.ParquetFile(path)
    if text in file.schema_arrow.names and any(check(file.schema_arrow.field(text).type) for check in _TEXTS):
        file = pq.ParquetFile(path, read_dictionary=[text])  # a text that comes again is held once
    names = file.schema_arrow.names if columns is None else list(columns)
    for batch in file.iter_batches(batch_size=_rows_at_once(file.metadata, text), columns=names):
        others = batch.drop_columns([text]) if text in batch.schema.names else batch
        rows: list[dict[str, Any]] = others.to_pylist() if others.num_columns else [{} for _ in range(len(batch))]
        if text in batch.schema.names:
            for row, value in zip(rows, _texts(batch.column(text), max_file_mb), strict=True):
                row[text] = value
        yield from rows


def _rows_at_once(metadata: pq.FileMetaData, text: str) -> int:
    """How many rows to read at once so that their texts fit into memory."""
    sizes = [0.0]
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        columns = map(group.column, range(group.num_columns))
        stated = sum(column.total_uncompressed_size for column in columns if column.path_in_schema == text)
        sizes.append(stated / max(1, group.num_rows))
    return max(1, min(MOST_ROWS, int(MOST_BYTES / max(1.0, *sizes))))


def _texts(column: pa.Array, max_file_mb: float) -> Iterator[Any]:
    if not isinstance(column, pa.DictionaryArray):  # not texts: numbers, lists
        yield from column.to_pylist()
        return
    sizes = pc.binary_length(column.dictionary)
    known: dict[int, Any] = {}
    for place in column.indices.to_pylist():
        if place is None:
            yield None
            continue
        if place not in known:
            refusal = why_too_large(sizes[place].as_py(), max_file_mb)
            known[place] = _text(column.dictionary[place]) if refusal is None else refusal
        yield known[place]


def _text(cell: pa.Scalar) -> str | bytes | Unread:
    try:
        value: str | bytes = cell.as_py()
    except UnicodeDecodeError:
        return decoded(cell.as_buffer().to_pybytes())
    return value
