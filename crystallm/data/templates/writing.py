"""Writes libraries of templates: `crystallm data templates SOURCE [SOURCE ...] OUT`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq

from crystallm.base.command_line import Command, Option
from crystallm.base.errors import InputError
from crystallm.base.whole_file import whole_file
from crystallm.crystal.formulas.composition import element_order, parse_formula
from crystallm.crystal.formulas.element_similarity import kind_of
from crystallm.data.consistency.findings import contradicted
from crystallm.data.templates.copies import mark_copies
from crystallm.data.templates.facts import join_energies, join_sources
from crystallm.data.templates.numbers import Deviations, join_numbers
from crystallm.data.templates.schema import FACTS, SCHEMA, TEMPLATE_COLUMNS, TEMPLATES, kind_name
from crystallm.tokenizer.layout import DEFAULT_LAYOUT, Layout, get_layout

ROWS_PER_GROUP = 4096
"""Kinds of formulas lie together, so that little is read for one of them."""

PREPARED = ("id", "text", "reduced_formula", "n_sites", "space_group")
"""Columns of a prepared file that are needed."""


def write_library(
    sources: Sequence[Path],
    out: Path,
    *,
    layout: str,
    corpus: Sequence[Path] = (),
    energies: Sequence[Path] = (),
    without: Path | None = None,
    workers: int = 1,
    show_progress: bool = False,
    replace: bool = False,
) -> Written:
    """Write the crystals of prepared files and of other libraries into one, each text once.

    Args:
        sources: files made by `crystallm data prepare`, and libraries.
        out: file to write.
        layout: of the texts; `wyckoff`.
        corpus: parquet files with the crystals themselves and what is known of them (`facts.join_sources`).
        energies: tables of energies of the packaged potential (`facts.join_energies`).
        without: findings of `crystallm data check`; rows with a certain one are left out.
        workers: processes; does not change the result.
        show_progress: on stderr.
        replace: whether a library that is there may be replaced by one of fewer crystals.

    Returns:
        What was written.

    Raises:
        InputError: another layout than `wyckoff`, a file that is neither prepared nor a library, or a larger library
            in the place of the new one.
    """
    if not isinstance(get_layout(layout), Layout):
        raise InputError(f"templates are texts of layout 'wyckoff', not {layout!r}")
    table = pa.concat_tables([known_crystals(source, layout) for source in sources])
    rows: list[dict[str, Any]] = table.to_pylist()
    n_before = len(rows)
    left_out = set() if without is None else contradicted(without)
    rows = [row for row in rows if row["id"] not in left_out]
    n_left_out = n_before - len(rows)
    rows = _each_text_once(rows)
    if not replace and (there := _rows_of(out)) > len(rows):
        raise InputError(
            f"{out} holds {there:,} known crystals, and the new library would hold {len(rows):,}; add that file to the "
            "sources to keep its crystals, write to another place, or give --replace"
        )
    deviations = None
    if corpus:
        join_sources(rows, corpus)
        kept = out.with_name(f".{out.name}.numbers.jsonl")
        deviations = join_numbers(rows, corpus, kept=kept, workers=workers, show_progress=show_progress)
    n_energies = join_energies(rows, energies)
    n_copies = mark_copies(rows) if corpus else 0
    table = pa.Table.from_pylist(rows, schema=table.schema).sort_by([(name, "ascending") for name in TEMPLATE_COLUMNS])
    with whole_file(out) as partial:
        pq.write_table(table, partial, compression="zstd", compression_level=19, row_group_size=ROWS_PER_GROUP)
    return Written(len(rows), n_left_out, n_copies, n_energies, deviations)


@dataclass(frozen=True)
class Written:
    """What a library holds: rows, those that are copies of others, those that got energies, distances to sources; and
    how many rows of the sources were left out because they contradict themselves."""

    rows: int
    left_out: int
    copies: int
    energies: int
    deviations: Deviations | None


def _rows_of(out: Path) -> int:
    """How many crystals a library that is to be written over holds; 0 if there is none."""
    try:
        return int(pq.read_metadata(out).num_rows) if out.is_file() else 0
    except (OSError, pa.ArrowException):
        return 0


def _each_text_once(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first row of each text, with the ids of the others."""
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        leader = first.setdefault(row["text"], row)
        if leader is not row and row["id"] != leader["id"]:
            merged = [leader["copies"], row["id"], row["copies"]]
            leader["copies"] = " ".join(dict.fromkeys(" ".join(filter(None, merged)).split()))
    return list(first.values())


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
    if table.column_names in (SCHEMA.names, TEMPLATE_COLUMNS):
        theirs = (table.schema.metadata or {}).get(b"layout", b"").decode()
        if theirs != layout:
            raise InputError(f"{source} holds templates of layout {theirs!r}, not {layout!r}")
        return _completed(table).cast(schema)
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
    arrays = [pa.array(values, type=field.type) for values, field in zip(columns, TEMPLATES, strict=True)]
    return _completed(pa.Table.from_arrays(arrays, schema=TEMPLATES)).cast(schema)


def _completed(table: pa.Table) -> pa.Table:
    """With the columns of SCHEMA that it lacks, of which nothing is known."""
    for field in FACTS:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table


@cache
def _kind(formula: str) -> tuple[str, bytes, int]:
    """The kind of a formula by name, its elements as bytes, its atoms."""
    kind, elements = kind_of(parse_formula(formula))
    return kind_name(kind), bytes(element_order(symbol)[1] for symbol in elements), sum(kind)


def write_templates(
    sources: tuple[Path, ...],
    out: Path,
    *,
    layout: str = DEFAULT_LAYOUT,
    source: Annotated[tuple[Path, ...], Option(metavar="FILE")] = (),
    energies: Annotated[tuple[Path, ...], Option(metavar="FILE")] = (),
    without: Annotated[Path | None, Option(metavar="FILE")] = None,
    replace: bool = False,
    workers: int = 1,
) -> None:
    """Write the library of known crystals that draws of a formula may follow. `crystallm train` does so by itself; this
    is for a checkpoint without one.

    Args:
        sources: Folders made by `crystallm data prepare`, of which the training part is taken, parquet files of such
            folders, or other libraries.
        out: Checkpoint folder, or file to write.
        layout: Of the texts.
        source: Parquet files with columns id and cif: the crystals themselves, of which five decimals are kept, and
            from columns experimentally_observed, e_above_hull, origin and merged_ids, what is known of them.
        energies: Parquet or CSV files with columns id, energy, relaxed_energy: eV/atom by the packaged potential.
        without: Findings of `crystallm data check`; certain ones are left out.
        replace: Write over a library that holds more crystals than the new one.
        workers: Processes.
    """
    sources = tuple(source / "train.parquet" if source.is_dir() else source for source in sources)
    out = out / "templates.parquet" if out.is_dir() else out
    written = write_library(
        sources,
        out,
        layout=layout,
        corpus=source,
        energies=energies,
        without=without,
        workers=workers,
        show_progress=sys.stderr.isatty(),
        replace=replace,
    )
    print(f"{written.rows:,} known crystals in {out}")
    if without is not None:
        print(f"{written.left_out:,} left out because they contradict themselves")
    if written.deviations is not None:
        print(f"{written.copies:,} of them copies of others")
        print(written.deviations)
    if energies:
        print(f"{written.energies:,} with energies")


main = Command(write_templates, "crystallm data templates")
