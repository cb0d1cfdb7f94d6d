"""Writes lists of crystals seen: `crystallm data seen SOURCE [SOURCE ...] OUT`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq

from crystallm.base.command_line import Command, Option
from crystallm.base.errors import CompositionError, InputError
from crystallm.crystal.formulas.composition import format_formula, parse_formula
from crystallm.data.seen.listing import SEEN_FILE, Seen

ID, FORMULAS = "id", ("reduced_formula", "formula")
"""Columns of what a list is made from: prepared files and corpora, or libraries of templates."""

MERGED = ("merged_ids", "copies")
"""Columns with the ids of dropped copies, between blanks: of a corpus, of a library."""

DROPS_FILE, COPY_OF = "drops.jsonl", re.compile(r"of (.+)")
"""Beside prepared files: what was left out and why; the reason `duplicate` names the crystal that is repeated."""


def seen_in(files: Iterable[Path], *, copies: Iterable[Path] = ()) -> Seen | None:
    """The crystals of prepared files, corpora or libraries.

    Args:
        files: parquet files with the columns `id` and `reduced_formula` or `formula`; copies that were dropped when
            they were made are found in a column of `MERGED`, or in `drops.jsonl` beside them.
        copies: corpora that name more copies of the same crystals; their other rows do not count.

    Returns:
        The list; None where a file does not name its crystals, so that nobody can know.

    Raises:
        InputError: a file cannot be read.

    Example:
        >>> seen_in([Path("prepared/train.parquet")]).has_id("mp-2657")
        True
    """
    crystals: set[tuple[str, str]] = set()
    merged: set[tuple[str, str]] = set()
    folders = set()
    for file in files:
        rows = _rows(file)
        if rows is None:
            return None
        for name, formula, dropped in rows:
            crystals.add((name, formula))
            merged.update((copy, formula) for copy in dropped)
        folders.add(file.parent)
    formulas = dict(crystals)
    for file in copies:
        for name, _, dropped in _rows(file) or ():
            if name in formulas:
                merged.update((copy, formulas[name]) for copy in dropped)
    for folder in folders:
        merged.update((copy, formulas[name]) for copy, name in _dropped_copies(folder / DROPS_FILE) if name in formulas)
    return Seen(frozenset(crystals), frozenset(merged - crystals))


def write_seen(files: Sequence[Path], out: Path, *, start: Path | None = None) -> bool:
    """Write the list of a checkpoint that is trained on some files, from another checkpoint or from nothing.

    Args:
        files: the training texts, and whatever else goes into its library.
        out: file to write.
        start: folder of the checkpoint whose weights training begins with.

    Returns:
        Whether a list was written: there is none where the files or the start do not say what they hold.

    Example:
        >>> write_seen([Path("prepared/train.parquet")], Path("run/seen.parquet"))
        True
    """
    own = seen_in(files)
    before = Seen(frozenset()) if start is None else Seen.read(start)
    if own is None or before is None:
        return False
    (own | before).write(out)
    return True


def _rows(file: Path) -> Iterator[tuple[str, str, list[str]]] | None:
    """Id, reduced formula and ids of copies of each crystal in a file; None where it does not name them."""
    try:
        names = pq.read_schema(file).names if file.suffix == ".parquet" else []
        formula = next((name for name in FORMULAS if name in names), None)
        if ID not in names or formula is None:
            return None
        copies = next((name for name in MERGED if name in names), None)
        table = pq.read_table(file, columns=[ID, formula, *([copies] if copies else [])])
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"cannot read {file}: {error}; make it again with `crystallm data prepare`") from error
    merged = table[copies].to_pylist() if copies else [None] * table.num_rows
    if table[ID].null_count or table[formula].null_count:
        return None
    rows = zip(table[ID].to_pylist(), table[formula].to_pylist(), merged, strict=True)
    return ((str(name), _reduced(text), (dropped or "").split()) for name, text, dropped in rows)


@lru_cache(maxsize=1 << 18)
def _reduced(formula: str) -> str:
    """A formula as this package writes it."""
    try:
        return format_formula(parse_formula(formula))
    except CompositionError as error:
        raise InputError(
            f"{formula!r} is no formula ({error}); make the file again with `crystallm data prepare`"
        ) from error


def _dropped_copies(file: Path) -> Iterator[tuple[str, str]]:
    """(id, id of the crystal that it repeats) of what `crystallm data prepare` dropped as a duplicate."""
    if not file.is_file():
        return
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["reason"] == "duplicate" and (found := COPY_OF.fullmatch(row["detail"])):
            yield row["id"], found[1]


def write_list(
    sources: tuple[Path, ...], out: Path, *, copies: Annotated[tuple[Path, ...], Option(metavar="FILE")] = ()
) -> None:
    """Write the list of crystals that a checkpoint has seen. `crystallm train` does so by itself; this is for a
    checkpoint without one.

    Args:
        sources: Folders made by `crystallm data prepare`, of which the training part is taken, parquet files with the
            columns id and reduced_formula, or libraries of templates.
        out: Checkpoint folder, or file to write.
        copies: Corpora that name copies, in merged_ids.
    """
    sources = tuple(source / "train.parquet" if source.is_dir() else source for source in sources)
    out = out / SEEN_FILE if out.is_dir() else out
    found = seen_in(sources, copies=copies)
    if found is None:
        raise InputError(
            f"one of {', '.join(map(str, sources))} has no columns id and reduced_formula; name its crystals"
        )
    found.write(out)
    print(f"{len(found):,} crystals of {len(found.formulas):,} formulas, {len(found.merged):,} copies, in {out}")


main = Command(write_list, "crystallm data seen")
