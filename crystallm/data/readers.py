"""One reader for each form in which structures come; each yields entries and leaves the judgement to `convert`."""

from __future__ import annotations

import gzip
import json
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from crystallm.data.optimade import HELPFUL, NEEDED
from crystallm.errors import InputError

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


def cif_files(folder: Path) -> list[Path]:
    """All .cif files below a folder, sorted; `._x.cif` files, which macOS leaves in archives, are not CIFs."""
    return sorted(file for file in folder.rglob("*") if is_cif_name(file.name) and file.is_file())


def is_cif_name(name: str) -> bool:
    """Whether a file is taken for a CIF."""
    return name.lower().endswith(".cif") and not name.startswith("._")


def cif_entry(name: str, content: bytes) -> Entry:
    """Decode one file; old CIFs hold author names in Latin-1, so only a zero byte shows that it is no text at all."""
    if b"\0" in content:
        return Entry(name, Form.UNREADABLE, "binary content, not a CIF")
    try:
        return Entry(name, Form.CIF, content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return Entry(name, Form.CIF, content.decode("latin-1"))


def read_folder(folder: Path) -> Iterator[Entry]:
    """The CIFs below a folder; the id is the path below it."""
    for file in cif_files(folder):
        yield _read_file(file, file.relative_to(folder).as_posix())


def read_single_cif(path: Path) -> Iterator[Entry]:
    """One CIF."""
    yield _read_file(path, path.name)


def _read_file(file: Path, name: str) -> Entry:
    try:
        return cif_entry(name, file.read_bytes())
    except OSError as error:
        return Entry(name, Form.UNREADABLE, f"cannot be read: {error.strerror}")


def read_zip(path: Path) -> Iterator[Entry]:
    """The CIFs in a zip archive."""
    found = False
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if is_cif_name(Path(member.filename).name):
                found = True
                try:
                    yield cif_entry(member.filename, archive.read(member))
                except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
                    yield Entry(member.filename, Form.UNREADABLE, f"damaged or locked in the archive: {error}")
    _require(found, path)


def read_tar(path: Path) -> Iterator[Entry]:
    """The CIFs in a tar archive, compressed or not."""
    found = False
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                content = archive.extractfile(member) if is_cif_name(Path(member.name).name) else None
                if content is not None:
                    found = True
                    yield cif_entry(member.name, content.read())
    except (tarfile.ReadError, EOFError, zlib.error, OSError) as error:
        raise InputError(f"{path} is damaged ({error}); fetch it again") from error
    _require(found, path)


def _require(found: bool, path: Path) -> None:
    if not found:
        raise InputError(f"the archive {path} holds no .cif file")


def read_parquet(location: str, split_column: str | None) -> Iterator[Entry]:
    """The rows of a parquet with a `cif` column, or with the columns of OPTIMADE and LeMat-Bulk."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(location)
        columns = _columns(table.schema_arrow.names, location, split_column)
        row = 0
        for batch in table.iter_batches(batch_size=1000, columns=list(columns.values())):
            for values in batch.to_pylist():
                yield _table_entry(values, columns, f"{Path(location).stem}:{row}")
                row += 1
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise InputError(f"{location} is damaged ({error}); fetch or write it again") from error


def read_hub(location: str, split_column: str | None) -> Iterator[Entry]:
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
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is damaged ({error}); fetch or write it again") from error
    return head.lstrip().startswith('{"1":') and '"sites"' not in head and '"@module"' not in head


def read_json(path: Path) -> Iterator[Entry]:
    """Structure dictionaries in a list, in an object by id, or under `structure` in a list of records."""
    with _open_text(path) as file:
        try:
            content = json.load(file)
        except (ValueError, OSError, EOFError) as error:
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
    name = str(names[0]) if names else default_id
    structure = record.get("structure", record) if isinstance(record, dict) else record
    if isinstance(structure, dict) and "lattice" in structure and "sites" in structure:
        return Entry(name, Form.STRUCTURE, json.dumps(structure))
    return Entry(name, Form.UNREADABLE, "no structure dictionary with `lattice` and `sites`")


def _open_text(path: Path) -> Any:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
