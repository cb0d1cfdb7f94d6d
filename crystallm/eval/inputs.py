"""Reading anyone's crystals: a folder, a CIF, a zip, a JSONL, a parquet or an extxyz file, one record at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as pq

from crystallm.crystal.cell import Reason, Rejection
from crystallm.crystal.cif.reading import trusting_atoms
from crystallm.crystal.cif.several import one_by_one
from crystallm.errors import InputError
from crystallm.eval.frames import read_frames
from crystallm.input_files import (
    MAX_FILE_MB,
    Unread,
    check_limit,
    cif_files,
    is_cif_name,
    members,
    read_text,
    require_file,
)
from crystallm.provenance import readable

KINDS = (
    "a folder, zip or tar of .cif files (or .mcif, .cif.gz and so on), one such file, a .jsonl with a `cif` key, a "
    ".parquet with a `cif` column, or an .extxyz"
)


@dataclass(frozen=True)
class Record:
    """One crystal of a source: its CIF text, or why there is none; `fields` holds the rest of its row."""

    name: str
    cif: str | Rejection
    fields: dict[str, Any] = field(default_factory=dict)


def read_records(path: Path, *, max_file_mb: float = MAX_FILE_MB, trust_atoms: bool = False) -> list[Record]:
    """All crystals of a source in a fixed order; a broken file is a record with a reason, never left out.

    Args:
        path: of one of KINDS.
        max_file_mb: a file or member of an archive with more megabytes than these is a record that says so.
        trust_atoms: of a CIF whose formula sum, Z or multiplicities contradict its atoms, only the atoms are kept.

    Raises:
        InputError: the source as a whole cannot be read, or holds nothing that is taken for a crystal.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; give {KINDS}")
    require_file(path)
    check_limit(max_file_mb)
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            records = list(_folder(path, max_file_mb))
        elif suffix == ".zip" or tarfile_name(path.name):
            records = [record for name, text in members(path, max_file_mb=max_file_mb) for record in _of(name, text)]
        elif is_cif_name(path.name):
            text = read_text(path, max_file_mb=max_file_mb)
            if isinstance(text, Unread) and not os.access(path, os.R_OK):
                raise InputError(f"{path} {text.reason}")
            records = list(_of(readable(path.name), text))
        elif suffix == ".jsonl":
            records = list(_jsonl(path))
        elif suffix == ".parquet":
            records = list(_parquet(path))
        elif suffix in {".extxyz", ".xyz"}:
            records = [Record(name, cif, fields) for name, cif, fields in read_frames(path)]
        else:
            raise InputError(f"{path}: {suffix or 'a file without suffix'} is not understood; give {KINDS}")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if not records:
        raise InputError(f"{path} holds no CIF; give {KINDS}")
    return [_trusted(record) for record in records] if trust_atoms else records


def _trusted(record: Record) -> Record:
    return record if isinstance(record.cif, Rejection) else replace(record, cif=trusting_atoms(record.cif))


def tarfile_name(name: str) -> bool:
    """Whether a file is taken for a tar archive by its name."""
    return name.lower().endswith((".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz"))


def _of(name: str, text: str | Unread) -> Iterator[Record]:
    """The structures in a file: a CIF may hold several, each in a block of its own."""
    if isinstance(text, Unread):
        yield Record(name, Rejection(Reason.EMPTY if text.empty else Reason.UNREADABLE, text.reason))
        return
    for block, part in one_by_one(text):
        yield Record(f"{name}#{readable(block)}" if block else name, part)


def _folder(path: Path, max_file_mb: float) -> Iterator[Record]:
    for found in cif_files(path):
        refusal = None if found.refusal is None else Unread(found.refusal)
        yield from _of(found.name, refusal or read_text(found.path, max_file_mb=max_file_mb))


def _jsonl(path: Path) -> Iterator[Record]:
    usable = False
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:  # a truncated line, bytes that are no UTF-8, endless brackets
            yield Record(f"line {number}", Rejection(Reason.UNREADABLE, f"line {number} is no JSON: {error}"))
            continue
        if not isinstance(fields, dict):
            yield Record(f"line {number}", Rejection(Reason.UNREADABLE, f"line {number} is no JSON object"))
            continue
        usable = usable or "cif" in fields
        cif = fields.pop("cif", None)
        name = readable(str(fields.get("id", f"line {number}")))
        fields = {key: readable(value) if isinstance(value, str) else value for key, value in fields.items()}
        missing = Rejection(Reason.EMPTY, str(fields.get("reason") or "no CIF in the record"))
        yield Record(name, readable(cif) if isinstance(cif, str) and cif.strip() else missing, fields)
    if lines and not usable:
        raise InputError(f"{path}: no line is a JSON object with the key `cif`")


def _parquet(path: Path) -> Iterator[Record]:
    for number, row in enumerate(read_parquet(path)):
        cif = row.pop("cif")
        missing = Rejection(Reason.EMPTY, "no CIF in the row")
        yield Record(str(row.get("id", f"row {number}")), cif if isinstance(cif, str) else missing, row)


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
