"""Reading anyone's crystals: a folder, a CIF, a zip, a JSONL, a parquet or an extxyz file, one record at a time."""

from __future__ import annotations

import itertools
import json
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as pq

from crystallm.crystal.cell import Cell, Reason, Rejection
from crystallm.errors import InputError

KINDS = (
    "a folder or zip of .cif files, a .cif, a .jsonl with a `cif` key, a .parquet with a `cif` column, or an .extxyz"
)


@dataclass(frozen=True)
class Record:
    """One crystal of a source: its CIF text, or why there is none; `fields` holds the rest of its row."""

    name: str
    cif: str | Rejection
    fields: dict[str, Any] = field(default_factory=dict)


def read_records(path: Path) -> list[Record]:
    """All crystals of a source in a fixed order; a broken file is a record with a reason, never left out."""
    if not path.exists():
        raise InputError(f"{path} does not exist; give {KINDS}")
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            records = list(_folder(path))
        elif suffix == ".cif":
            records = [Record(path.name, _decode(path.read_bytes()))]
        elif suffix == ".zip":
            records = list(_zip(path))
        elif suffix == ".jsonl":
            records = list(_jsonl(path))
        elif suffix == ".parquet":
            records = list(_parquet(path))
        elif suffix in {".extxyz", ".xyz"}:
            records = list(_extxyz(path))
        else:
            raise InputError(f"{path}: {suffix or 'a file without suffix'} is not understood; give {KINDS}")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if not records:
        raise InputError(f"{path} holds no CIF; give {KINDS}")
    return records


def _decode(content: bytes) -> str | Rejection:
    if not content.strip():
        return Rejection(Reason.EMPTY, "the file is empty")
    if b"\0" in content[:4096]:
        return Rejection(Reason.UNREADABLE, "a binary file, not CIF text")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")  # older CIFs hold accented names


def _folder(path: Path) -> Iterator[Record]:
    for file in sorted(file for file in path.rglob("*") if file.suffix.lower() == ".cif"):
        name = str(file.relative_to(path))
        try:
            yield Record(name, _decode(file.read_bytes()))
        except OSError as error:  # no permission, a dangling link, a folder named .cif
            yield Record(name, Rejection(Reason.UNREADABLE, f"cannot be read: {error.strerror}"))


def _zip(path: Path) -> Iterator[Record]:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(name for name in archive.namelist() if name.lower().endswith(".cif")):
                try:
                    yield Record(name, _decode(archive.read(name)))
                except (zipfile.BadZipFile, RuntimeError) as error:  # damaged or encrypted member
                    yield Record(name, Rejection(Reason.UNREADABLE, str(error)))
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is no zip archive: {error}") from error


def _jsonl(path: Path) -> Iterator[Record]:
    usable = False
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError as error:  # a truncated line, or bytes that are no UTF-8
            yield Record(f"line {number}", Rejection(Reason.UNREADABLE, f"line {number} is no JSON: {error}"))
            continue
        if not isinstance(fields, dict):
            yield Record(f"line {number}", Rejection(Reason.UNREADABLE, f"line {number} is no JSON object"))
            continue
        usable = usable or "cif" in fields
        cif = fields.pop("cif", None)
        name = str(fields.get("id", f"line {number}"))
        missing = Rejection(Reason.EMPTY, str(fields.get("reason") or "no CIF in the record"))
        yield Record(name, cif if isinstance(cif, str) and cif.strip() else missing, fields)
    if lines and not usable:
        raise InputError(f"{path}: no line is a JSON object with the key `cif`")


def _parquet(path: Path) -> Iterator[Record]:
    for number, row in enumerate(read_parquet(path)):
        cif = row.pop("cif")
        missing = Rejection(Reason.EMPTY, "no CIF in the row")
        yield Record(str(row.get("id", f"row {number}")), cif if isinstance(cif, str) else missing, row)


def _extxyz(path: Path) -> Iterator[Record]:
    """Frames by their number from 0; what a frame's comment line says is in `fields`."""
    from ase.io import iread

    path.open("rb").close()  # what cannot be opened at all is no broken frame
    frames = iread(path, index=":", format="extxyz")
    for number in itertools.count():
        try:
            atoms = next(frames)
        except StopIteration:
            return
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:  # how ASE reports a broken frame
            yield Record(str(number), Rejection(Reason.UNREADABLE, f"frame {number} and what follows: {error}"))
            return
        yield Record(str(number), _cif_of_atoms(atoms), dict(atoms.info))


def _cif_of_atoms(atoms: Any) -> str | Rejection:
    numbers = np.array(atoms.numbers, dtype=np.int64)
    if not atoms.pbc.all() or abs(np.linalg.det(np.array(atoms.cell))) < 1e-6:
        return Rejection(Reason.BAD_CELL, "the frame has no cell that repeats in three directions")
    if len(numbers) == 0 or numbers.min() < 1:
        return Rejection(Reason.EMPTY, "the frame has no atoms, or atoms without an element")
    return plain_cif(Cell(np.array(atoms.cell), atoms.get_scaled_positions(wrap=False), numbers))


def plain_cif(cell: Cell) -> str:
    """A CIF that lists all atoms of a cell under P 1, eight decimals."""
    from pymatgen.io.cif import CifWriter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns about noble gases
        return str(CifWriter(cell.to_structure()))


def read_parquet(path: Path, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a parquet file that has a `cif` column; of the other columns named, those that exist."""
    try:
        available = pq.read_schema(path).names
        if "cif" not in available:
            raise InputError(f"{path} has no column `cif`; its columns are {', '.join(available)}")
        wanted = available if columns is None else [name for name in columns if name in available]
        rows: list[dict[str, Any]] = pq.read_table(path, columns=wanted).to_pylist()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from error
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{path} is no parquet file: {error}") from error
    return rows
