"""Finding out what a source is, and what it looked like when it was read."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from crystallm.base.errors import InputError
from crystallm.base.input_files import MAX_FILE_MB, archive_kind, cif_files, is_cif_name, require_file
from crystallm.base.provenance import readable
from crystallm.data.sources import readers
from crystallm.data.sources.readers import Entry


class SourceKind(StrEnum):
    """The forms in which structures come."""

    FOLDER = "folder of CIFs"
    CIF = "CIF"
    ZIP = "zip archive of CIFs"
    TAR = "tar archive of CIFs"
    PARQUET = "parquet table"
    ASE = "ASE database"
    JSON = "JSON list of structures"
    HUB = "data set of the Hugging Face hub"
    SHARD = "part of a preparation"


ACCEPTED = (
    "a folder, zip or tar of .cif files (or .mcif, .cif.gz and so on), "
    "a .parquet with a `cif` column or the columns of OPTIMADE, an ASE .db, "
    "or a .json of structures"
)


SHARD_FILES = ("entries.parquet", "described.parquet", "report.json")
"""What a part of a preparation consists of; the last is written last."""


@dataclass(frozen=True)
class Source:
    """One place to read structures from; `location` is a path, or `owner/name` or `owner/name:part` for the hub."""

    location: str
    kind: SourceKind

    @property
    def name(self) -> str:
        """The location without the folders above it."""
        return self.location if self.kind is SourceKind.HUB else Path(self.location).resolve().name

    def entries(self, split_column: str | None = None, *, max_file_mb: float = MAX_FILE_MB) -> Iterator[Entry]:
        """Every structure in the source in a fixed order, broken ones included.

        Args:
            split_column: of a table; says where a row goes.
            max_file_mb: a file or member of an archive with more megabytes than these is an entry that says so.
        """
        tables = {SourceKind.PARQUET: readers.read_parquet, SourceKind.HUB: readers.read_hub}
        files = {
            SourceKind.FOLDER: readers.read_cifs,
            SourceKind.CIF: readers.read_cifs,
            SourceKind.ZIP: readers.read_cifs,
            SourceKind.TAR: readers.read_cifs,
            SourceKind.JSON: readers.read_json,
        }
        if self.kind is SourceKind.SHARD:
            raise InputError(
                f"{self.location} is a part of a preparation; merge all parts with `crystallm data prepare`"
            )
        if self.kind in tables:
            return tables[self.kind](self.location, split_column, max_file_mb)
        if split_column is not None:
            raise InputError(
                f"{self.location} is a {self.kind} and has no column {split_column!r}; "
                "leave --split-column out to split by formula, or give a parquet"
            )
        if self.kind is SourceKind.ASE:
            return readers.read_ase(Path(self.location))
        return files[self.kind](Path(self.location), max_file_mb)

    def fingerprint(self) -> dict[str, Any]:
        """Name, size and a digest of names, sizes and times: changes when the source was changed."""
        if self.kind is SourceKind.HUB:
            return {"name": self.name, "kind": self.kind.value, "files": None, "bytes": None, "digest": None}
        path = Path(self.location)
        files = [path]
        if self.kind is SourceKind.FOLDER:
            files = [found.path for found in cif_files(path)]
        elif self.kind is SourceKind.SHARD:
            files = [path / name for name in SHARD_FILES]
        digest, size = hashlib.sha256(), 0
        for file in files:
            try:
                stat = file.stat() if file.exists() else file.lstat()
            except OSError as error:
                raise InputError(f"cannot look at {file}: {error.strerror}; is it being changed?") from error
            size += stat.st_size
            name = readable(str(file.relative_to(path)))
            digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        return {
            "name": self.name,
            "kind": self.kind.value,
            "files": len(files),
            "bytes": size,
            "digest": digest.hexdigest(),
        }


def open_source(location: str) -> Source:
    """Recognise what `location` is; InputError with the remedy when it is nothing that can be read."""
    path = Path(location)
    try:
        exists = path.exists()
    except OSError as error:
        raise InputError(f"cannot look at {location}: {error.strerror}") from error
    if not exists:
        if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*(:[\w.-]+)?", location) and not path.parent.exists():
            return Source(location, SourceKind.HUB)
        raise InputError(f"{location} does not exist; give {ACCEPTED}")
    require_file(path)
    if not os.access(path, os.R_OK):
        raise InputError(f"no permission to read {location}")
    source = Source(location, _kind(path))
    if source.kind is SourceKind.FOLDER and not cif_files(path):
        others = sorted({file.suffix for file in path.iterdir() if file.is_file() and file.suffix})
        hint = f"; it holds {', '.join(others)} files, give those by name" if others else ""
        raise InputError(f"the folder {location} holds no .cif file{hint}")
    return source


def _kind(path: Path) -> SourceKind:
    """What an existing path holds, by content where a signature exists and by suffix otherwise."""
    if path.is_dir():
        return SourceKind.SHARD if all((path / name).is_file() for name in SHARD_FILES) else SourceKind.FOLDER
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if not head:
        raise InputError(f"{path} is empty; give {ACCEPTED}")
    name = path.name.lower()
    if head.startswith(b"PAR1"):
        return SourceKind.PARQUET
    if head.startswith(b"SQLite format 3"):
        return SourceKind.ASE
    if name.endswith((".json", ".json.gz")):
        return SourceKind.ASE if readers.is_ase_json(path) else SourceKind.JSON
    if (kind := archive_kind(path)) is not None:
        return SourceKind.ZIP if kind == "zip" else SourceKind.TAR
    if is_cif_name(name):
        return SourceKind.CIF
    if name.endswith((".parquet", ".db")):
        raise InputError(f"{path} is damaged: its content is not what its name says; fetch or write it again")
    raise InputError(f"cannot tell what {path} is; give {ACCEPTED}")
