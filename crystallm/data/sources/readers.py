"""One reader for each form in which structures come; each yields entries and leaves the judgement to `convert`."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from crystallm.base.errors import InputError
from crystallm.base.input_files import MAX_FILE_MB, Unread, texts, why_too_large
from crystallm.base.provenance import readable
from crystallm.crystal.cell import Rejection
from crystallm.crystal.cif.text.several import named_parts
from crystallm.data.sources.optimade import HELPFUL, NEEDED
from crystallm.data.sources.tables import rows_of

ID_COLUMNS = ("id", "material_id", "immutable_id")


class Form(StrEnum):
    """What the text of an entry is."""

    CIF = "cif"
    STRUCTURE = "structure"
    """JSON of a pymatgen structure's dictionary."""
    OPTIMADE = "optimade"
    """JSON of the columns of OPTIMADE that say what a structure is."""
    UNREADABLE = "unreadable"
    """Not a structure; the text says why."""


@dataclass(frozen=True)
class Entry:
    """One structure as it came: text in one of the forms, and the value of the split column if one was asked for."""

    id: str
    form: Form
    text: str
    split: str | None = None


def read_cifs(path: Path, max_file_mb: float = MAX_FILE_MB) -> Iterator[Entry]:
    """The CIFs of a folder, of an archive, or the file itself; the id is the path there."""
    for name, text in texts(path, max_file_mb=max_file_mb):
        for part_name, part in named_parts(name, text):
            if isinstance(part, Rejection):
                yield Entry(part_name, Form.UNREADABLE, part.detail)
            else:
                yield Entry(part_name, Form.CIF, part)


def read_parquet(location: str, split_column: str | None, max_file_mb: float = MAX_FILE_MB) -> Iterator[Entry]:
    """The rows of a parquet with a `cif` column, or with the columns of OPTIMADE and LeMat-Bulk."""
    import pyarrow
    import pyarrow.parquet

    try:
        names = pyarrow.parquet.read_schema(location).names
        columns = _columns(names, location, split_column)
        for row, values in enumerate(rows_of(location, list(columns.values()), max_file_mb=max_file_mb)):
            yield _table_entry(values, columns, f"{Path(location).stem}:{row}")
    except (pyarrow.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{location} is damaged ({error}); fetch or write it again") from error


def read_hub(location: str, split_column: str | None, max_file_mb: float = MAX_FILE_MB) -> Iterator[Entry]:
    """The rows of all splits of a data set on the Hugging Face hub; `location` is `owner/name` or `owner/name:part`."""
    import datasets

    name, _, part = location.partition(":")
    try:
        splits = datasets.load_dataset(name, part or None)
    except (datasets.exceptions.DatasetNotFoundError, ConnectionError, FileNotFoundError, ValueError) as error:
        raise InputError(
            f"{location} is no file here, and no data set of that name could be loaded ({type(error).__name__}: "
            f"{error}); check the spelling, or fetch the data while online and give the file"
        ) from error
    for name, rows in splits.items():
        columns = _columns(rows.column_names, location, split_column)
        for row, values in enumerate(rows):
            if isinstance(text := values.get("cif"), str):
                values["cif"] = why_too_large(len(text), max_file_mb) or text
            yield _table_entry(values, columns, f"{name}:{row}")


def _columns(names: Iterable[str], location: str, split_column: str | None) -> dict[str, str]:
    """Which column gives what; InputError names the columns there are."""
    names = list(names)
    structure = ["cif"]
    if "cif" not in names and "lattice_vectors" in names:
        structure = [*NEEDED, *(name for name in HELPFUL if name in names)]
    columns = {name: name for name in structure}
    known_ids = [name for name in ID_COLUMNS if name in names]
    if known_ids:
        columns["id"] = known_ids[0]
    if split_column is not None:
        columns["split"] = split_column
    for column in columns.values():
        if column not in names:
            raise InputError(f"{location} has no column {column!r}; it has {', '.join(names)}")
    return columns


def _table_entry(values: dict[str, Any], columns: dict[str, str], default_id: str) -> Entry:
    name = values[columns["id"]] if "id" in columns else None
    split = values[columns["split"]] if "split" in columns else None
    form, text = _cif_of(values) if "cif" in columns else _optimade_of(values, columns)
    return Entry(default_id if name is None else str(name), form, text, None if split is None else str(split))


def _cif_of(values: dict[str, Any]) -> tuple[Form, str]:
    cif = values["cif"]
    if isinstance(cif, Unread):
        return Form.UNREADABLE, cif.reason
    return (Form.CIF, cif) if isinstance(cif, str) else (Form.UNREADABLE, f"the cif column holds {cif!r:.40}")


def _optimade_of(values: dict[str, Any], columns: dict[str, str]) -> tuple[Form, str]:
    return Form.OPTIMADE, json.dumps({name: values[name] for name in (*NEEDED, *HELPFUL) if name in columns})


def read_ase(path: Path) -> Iterator[Entry]:
    """The rows of an ASE database."""
    import sqlite3

    from ase.db import connect

    try:
        for row in connect(path).select():
            name = f"{path.stem}:{row.id}"
            if not all(row.pbc):
                yield Entry(name, Form.UNREADABLE, f"not periodic in three directions (pbc {row.pbc.tolist()})")
                continue
            atoms = row.toatoms()
            sites = [
                {"species": [{"element": symbol, "occu": 1}], "abc": position}
                for symbol, position in zip(
                    atoms.get_chemical_symbols(), atoms.get_scaled_positions(wrap=False).tolist(), strict=True
                )
            ]
            structure = {"lattice": {"matrix": atoms.cell.tolist()}, "sites": sites}
            yield Entry(name, Form.STRUCTURE, json.dumps(structure))
    except (sqlite3.DatabaseError, KeyError) as error:
        raise InputError(f"{path} is not an ASE database ({error}); write it again with ase.db") from error


def is_ase_json(path: Path) -> bool:
    """Whether a .json file is an ASE database: those open with an object whose keys are row numbers."""
    with _open_text(path) as file:
        try:
            head = file.read(200)
        except _NO_JSON as error:
            raise InputError(f"{path} is damaged ({error}); fetch or write it again") from error
    return head.lstrip().startswith('{"1":') and '"sites"' not in head and '"@module"' not in head


_NO_JSON = (ValueError, OSError, EOFError, zlib.error, RecursionError)
"""What reading JSON raises; the last for brackets within brackets, thousands deep."""

JSON_FACTOR = 16
"""A JSON file of many structures may be so many times larger than one CIF."""


def read_json(path: Path, max_file_mb: float = MAX_FILE_MB) -> Iterator[Entry]:
    """Structure dictionaries in a list, in an object by id, or under `structure` in a list of records."""
    limit = int(max_file_mb * 1e6) * JSON_FACTOR
    with _open_text(path) as file:
        try:
            text = file.read(limit + 1)
            if len(text) > limit:
                raise InputError(
                    f"{path} unpacks to more than {limit / 1e6:g} MB, {JSON_FACTOR} times max_file_mb; raise that if "
                    "it is meant, or give a .parquet"
                )
            content = json.loads(text)
        except _NO_JSON as error:
            raise InputError(f"{path} is not valid JSON ({error}); write it again") from error
    if isinstance(content, dict) and "sites" in content:
        content = [content]
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    found = False
    for key, record in items:
        found = True
        yield _json_entry(record, str(key) if isinstance(content, dict) else f"{path.name.split('.')[0]}:{key}")
    if not found:
        raise InputError(f"{path} holds no structures; give a list of pymatgen structure dictionaries (`as_dict()`)")


def _json_entry(record: Any, default_id: str) -> Entry:
    names = [record[column] for column in ID_COLUMNS if column in record] if isinstance(record, dict) else []
    name = readable(str(names[0]) if names else default_id)
    structure = record.get("structure", record) if isinstance(record, dict) else record
    if isinstance(structure, dict) and "lattice" in structure and "sites" in structure:
        return Entry(name, Form.STRUCTURE, json.dumps(structure))
    return Entry(name, Form.UNREADABLE, "no structure dictionary with `lattice` and `sites`")


def _open_text(path: Path) -> io.TextIOBase:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")
