"""Reading anyone's crystals: a folder, a CIF, a zip, a JSONL, a parquet or an extxyz file, one record at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as pq

from crystallm.base.errors import InputError
from crystallm.base.input_files import (
    MAX_FILE_MB,
    Unread,
    archive_kind,
    check_limit,
    is_cif_name,
    require_file,
    texts,
    why_too_large,
)
from crystallm.base.provenance import readable
from crystallm.crystal.cell import Reason, Rejection
from crystallm.crystal.cif.reading import trusting_atoms
from crystallm.crystal.cif.text.several import named_parts
from crystallm.data.sources.tables import rows_of
from crystallm.eval.sets.frames import read_frames

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
        if suffix == ".jsonl" and path.is_file():
            records = list(_jsonl(path, max_file_mb))
        elif suffix == ".parquet" and path.is_file():
            records = list(_parquet(path, max_file_mb))
        elif suffix in {".extxyz", ".xyz"} and path.is_file():
            records = [Record(name, cif, fields) for name, cif, fields in read_frames(path)]
        elif path.is_dir() or is_cif_name(path.name) or archive_kind(path) is not None:
            if not os.access(path, os.R_OK):
                raise InputError(f"cannot read {path}: no permission")
            parts = (part for name, text in texts(path, max_file_mb=max_file_mb) for part in named_parts(name, text))
            records = [Record(name, cif) for name, cif in parts]
        else:
            raise InputError(f"{path}: {suffix or 'a file without suffix'} is not understood; give {KINDS}")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if not records:
        raise InputError(f"{path} holds no CIF; give {KINDS}")
    return [_trusted(record) for record in records] if trust_atoms else records


def _trusted(record: Record) -> Record:
    return record if isinstance(record.cif, Rejection) else replace(record, cif=trusting_atoms(record.cif))


def _lines(path: Path, limit: int) -> Iterator[tuple[bytes, int]]:
    """The lines of a file with their lengths in bytes; one that is longer than the limit is cut there."""
    with path.open("rb") as file:
        while line := file.readline(limit + 1):
            size, rest = len(line), line
            while rest and not rest.endswith(b"\n"):
                rest = file.readline(1 << 20)
                size += len(rest)
            yield line, size


def _jsonl(path: Path, max_file_mb: float) -> Iterator[Record]:
    usable = anything = False
    for number, (line, size) in enumerate(_lines(path, int(max_file_mb * 1e6)), start=1):
        anything = True
        if not line.strip():
            continue
        if (refusal := why_too_large(size, max_file_mb)) is not None:
            yield Record(f"line {number}", Rejection(Reason.UNREADABLE, refusal.reason))
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
    if anything and not usable:
        raise InputError(f"{path}: no line is a JSON object with the key `cif`")


def _parquet(path: Path, max_file_mb: float) -> Iterator[Record]:
    with _told(path):
        _columns(path)
        for number, row in enumerate(rows_of(path, max_file_mb=max_file_mb)):
            cif = row.pop("cif")
            missing = Rejection(Reason.EMPTY, "no CIF in the row")
            if isinstance(cif, Unread):
                missing = Rejection(Reason.EMPTY if cif.empty else Reason.UNREADABLE, cif.reason)
            yield Record(str(row.get("id", f"row {number}")), cif if isinstance(cif, str) else missing, row)


def _columns(path: Path) -> list[str]:
    available: list[str] = pq.read_schema(path).names
    if "cif" not in available:
        raise InputError(f"{path} has no column `cif`; its columns are {', '.join(available)}")
    return available


def read_parquet(path: Path, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a parquet file that has a `cif` column; of the other columns named, those that exist."""
    with _told(path):
        available = _columns(path)
        wanted = available if columns is None else [name for name in columns if name in available]
        rows: list[dict[str, Any]] = pq.read_table(path, columns=wanted).to_pylist()
    return rows


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What pyarrow says of a file as an InputError."""
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{path} is no parquet file: {error}") from error
