"""The files of a split, one or many; read in pieces, so that none is ever held whole."""

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from crystallm.base.errors import InputError

BATCH_ROWS = 1_000
"""Rows that are read at a time."""

ARROW_PIECE_ROWS = 2_000
"""Arrow files have no groups of rows to be read one by one; they are read in slices of this many rows."""


def files_of(path: Path) -> list[Path]:
    """Return `path`, such as `train.parquet`, or the parquet and arrow files of the folder `train`, in order of name.

    Raises InputError if there are none, if there are both, or if one of `train-00000-of-00012.parquet` ... is missing.
    """
    folder = path.with_suffix("")
    files = sorted(file for file in folder.glob("*") if file.suffix in (".parquet", ".arrow"))
    if files and path.is_file():
        raise InputError(f"there are both {path} and {len(files)} files in {folder}; delete one of them")
    if path.is_file():
        return [path]
    if not files:
        raise InputError(
            f"there is no {path}, and no folder {folder} with parquet files; make it with `crystallm data prepare`"
        )
    _require_all(files)
    return files


def _require_all(files: list[Path]) -> None:
    numbered = [re.fullmatch(r"(.+)-(\d+)-of-(\d+)", file.stem) for file in files]
    matches = [match for match in numbered if match is not None]
    if len(matches) < len(files):
        return
    there = {int(match[2]) for match in matches}
    missing = [number for number in range(max(int(match[3]) for match in matches)) if number not in there]
    if missing:
        raise InputError(
            f"{files[0].parent} lacks {len(missing)} of the {matches[0][3]} files that the names of the others speak "
            f"of, such as number {missing[0]:05d}; copy or prepare them again"
        )


def piece_rows(file: Path) -> list[int]:
    """Return the number of rows of each piece of a file: a row group of parquet, a slice of arrow."""
    with _named(file):
        if file.suffix == ".arrow":
            rows = len(_arrow(file))
            starts = range(0, rows, ARROW_PIECE_ROWS)
            return [min(ARROW_PIECE_ROWS, rows - start) for start in starts]
        about = _parquet(file).metadata
        return [about.row_group(i).num_rows for i in range(about.num_row_groups)]


def read_piece(file: Path, piece: int, column: str) -> Iterator[list[Any]]:
    """Yield one column of a piece in batches of up to BATCH_ROWS values; InputError if it is missing or has gaps."""
    with _named(file):
        if file.suffix == ".arrow":
            start = piece * ARROW_PIECE_ROWS
            table = _arrow(file).with_format("arrow")
            _require_column(table.column_names, column, file)
            slices = range(start, min(start + ARROW_PIECE_ROWS, len(table)), BATCH_ROWS)
            batches = (table[i : min(i + BATCH_ROWS, start + ARROW_PIECE_ROWS)] for i in slices)
        else:
            parquet = _parquet(file)
            _require_column(parquet.schema_arrow.names, column, file)
            batches = parquet.iter_batches(batch_size=BATCH_ROWS, row_groups=[piece], columns=[column])
        for batch in batches:
            values = batch[column]
            if values.null_count:
                raise InputError(f"{file} has rows without {column}; prepare it again with `crystallm data prepare`")
            yield values.to_pylist()


def read_all(file: Path, column: str) -> Iterator[list[Any]]:
    """Yield one column of a whole file in batches."""
    for piece in range(len(piece_rows(file))):
        yield from read_piece(file, piece, column)


class _named:  # noqa: N801
    """Turn what a reader raises over a broken file into an InputError that names it."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        import pyarrow

        if isinstance(error, pyarrow.ArrowException | OSError):
            raise InputError(
                f"{self.file} is not a prepared file or is damaged: {error}; "
                "copy it again, or make it with `crystallm data prepare`"
            ) from error


def _require_column(names: list[str], column: str, file: Path) -> None:
    if column not in names:
        raise InputError(
            f"{file} is not a prepared file: it has no column {column!r} but {', '.join(names)}; "
            "make it with `crystallm data prepare`"
        )


@lru_cache(maxsize=4)
def _parquet(file: Path) -> Any:
    # Pieces of a file are read in random order; the few handles that are kept save reading its footer each time.
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(file)


@lru_cache(maxsize=4)
def _arrow(file: Path) -> Any:
    import datasets

    return datasets.Dataset.from_file(str(file))
