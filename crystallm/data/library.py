"""Writes libraries of templates: `crystallm data templates SOURCE [SOURCE ...] OUT`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from crystallm.crystal.composition import element_order, parse_formula
from crystallm.crystal.layout import Layout, get_layout
from crystallm.crystal.similarity import kind_of
from crystallm.data.templates import SCHEMA, kind_name
from crystallm.errors import InputError

ROWS_PER_GROUP = 4096
"""Kinds of formulas lie together, so that little is read for one of them."""

PREPARED = ("id", "text", "reduced_formula", "n_sites", "space_group")
"""Columns of a prepared file that are needed."""


def write_library(sources: Sequence[Path], out: Path, *, layout: str) -> int:
    """Write the crystals of prepared files and of other libraries into one, each once, and return their number.

    Raises InputError for another layout than `wyckoff` and for what is neither prepared file nor library.
    """
    if not isinstance(get_layout(layout), Layout):
        raise InputError(f"templates are texts of layout 'wyckoff', not {layout!r}")
    table = pa.concat_tables([known_crystals(source, layout) for source in sources])
    texts: list[str] = table["text"].to_pylist()
    first = {text: row for row, text in reversed(list(enumerate(texts)))}
    table = table.take(sorted(first.values())).sort_by([(name, "ascending") for name in SCHEMA.names])
    partial = out.with_name(f".{out.name}.partial")
    try:
        pq.write_table(table, partial, compression="zstd", compression_level=19, row_group_size=ROWS_PER_GROUP)
        partial.replace(out)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"cannot write {out}: {error}; choose another place") from error
    return int(table.num_rows)


def names_crystals(file: Path) -> bool:
    """Whether a file of texts has the columns of `crystallm data prepare` that a library needs."""
    return file.suffix == ".parquet" and set(PREPARED) <= set(pq.read_schema(file).names)


def known_crystals(source: Path, layout: str) -> pa.Table:
    """The crystals of a prepared file, or of a library, as rows of a library."""
    try:
        table = pq.read_table(source)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"cannot read {source}: {error}; give a file made by `crystallm data prepare`") from error
    schema = SCHEMA.with_metadata({"layout": layout})
    if table.column_names == SCHEMA.names:
        theirs = (table.schema.metadata or {}).get(b"layout", b"").decode()
        if theirs != layout:
            raise InputError(f"{source} holds templates of layout {theirs!r}, not {layout!r}")
        return table.cast(schema)
    if not set(PREPARED) <= set(table.column_names):
        raise InputError(f"{source} has no columns {', '.join(PREPARED)}; give a file made by `crystallm data prepare`")
    formulas: list[str] = table["reduced_formula"].to_pylist()
    kinds = [_kind(formula) for formula in formulas]
    units = [sites // atoms for sites, (_, _, atoms) in zip(table["n_sites"].to_pylist(), kinds, strict=True)]
    columns: list[Iterable[object]] = [
        [name for name, _, _ in kinds],
        [numbers for _, numbers, _ in kinds],
        units,
        table["space_group"].to_pylist(),
        table["id"].to_pylist(),
        formulas,
        table["text"].to_pylist(),
    ]
    arrays = [pa.array(values, type=field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


@cache
def _kind(formula: str) -> tuple[str, bytes, int]:
    """The kind of a formula by name, its elements as bytes, its atoms."""
    kind, elements = kind_of(parse_formula(formula))
    return kind_name(kind), bytes(element_order(symbol)[1] for symbol in elements), sum(kind)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of the command."""
    command = commands.add_parser(
        "templates",
        description="Write the library of known crystals that draws of a formula may follow. SOURCE is a folder made "
        "by `crystallm data prepare`, of which the training part is taken, or a parquet file of such a folder, or "
        "another library. `crystallm train` does so by itself; this is for a checkpoint without one.",
        help="known crystals that draws may follow, for a checkpoint",
    )
    command.add_argument("sources", nargs="+", type=Path, metavar="SOURCE")
    command.add_argument("out", type=Path, metavar="OUT", help="checkpoint folder, or file to write")
    command.add_argument("--layout", default="wyckoff", help="of the texts (%(default)s)")


def templates_command(options: argparse.Namespace) -> None:
    """Write a library."""
    sources = [source / "train.parquet" if source.is_dir() else source for source in options.sources]
    out: Path = options.out / "templates.parquet" if options.out.is_dir() else options.out
    print(f"{write_library(sources, out, layout=options.layout):,} known crystals in {out}")
