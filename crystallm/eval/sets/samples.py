"""Samples for the targets of a benchmark, ours or a stranger's: a folder of CIFs, a JSONL, parquet or extxyz file."""

from __future__ import annotations

import csv
import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crystallm.base.errors import InputError
from crystallm.base.input_files import MAX_FILE_MB
from crystallm.base.provenance import digest_or_reason, sha256
from crystallm.crystal.cell import Reason, Rejection
from crystallm.eval.sets.inputs import Record, read_records
from crystallm.eval.sets.targets import Target

NAMES = "name files <target id>__<sample number>.cif, or give --table FILE with the columns file,target_id"


SCORES = ("log_probability", "protostructure_log_probability", "ranking_log_probability")
"""By which the samples of a target can be ranked: of the whole crystal, or of Z, space group and Wyckoff letters; by
the model alone, or by what the sampler ranks by."""


@dataclass(frozen=True)
class Sample:
    """One attempt at a target; an attempt without a CIF stays an attempt. scores: those of SCORES that it states."""

    number: int
    cif: str | Rejection
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SampleSet:
    """The attempts for each target in the order of their numbers, and what did not belong to any."""

    by_target: Mapping[str, Sequence[Sample]]
    ignored: Counter[str] = field(default_factory=Counter)
    """Records that count for no target, by reason."""

    @property
    def longest(self) -> int:
        """Most attempts for one target."""
        return max((len(samples) for samples in self.by_target.values()), default=0)

    def first(self, most: int) -> SampleSet:
        """At most `most` attempts for each target."""
        return SampleSet({name: list(found)[:most] for name, found in self.by_target.items()}, self.ignored)


def read_samples(
    path: Path,
    targets: Sequence[Target],
    *,
    table: Path | None = None,
    trust_atoms: bool = False,
    max_file_mb: float = MAX_FILE_MB,
) -> SampleSet:
    """Attempts by target.

    A JSONL, parquet or extxyz record names its target by `target_id` (and `sample`, and SCORES); a CIF of a folder or
    zip by its name, <target id>__<sample number>.cif; and any record by a row of `table` (CSV with the columns file,
    target_id and, if wanted, sample), `file` being the name in the folder, or the number of an extxyz frame. An id may
    leave out what stands before its colon (mp_20:mp-1 is mp-1). InputError where nothing fits.
    trust_atoms, max_file_mb: as in `read_records`.
    """
    known = _aliases(target.id for target in targets)
    rows = None if table is None else _read_table(table)
    found: dict[str, dict[int, Sample]] = {target.id: {} for target in targets}
    ignored: Counter[str] = Counter()
    for record in read_records(path, trust_atoms=trust_atoms, max_file_mb=max_file_mb):
        name, number = _named(record, rows)
        if name is None:
            broken = isinstance(record.cif, Rejection) and record.cif.reason is Reason.UNREADABLE
            ignored["broken line" if broken else "names no target"] += 1
            continue
        target = known.get(str(name))
        if target is None:
            ignored["no such target"] += 1
            continue
        attempts = found[target]
        number = len(attempts) if number is None else number
        if not isinstance(number, int):
            ignored["sample number is no whole number"] += 1
        elif number in attempts:
            ignored["target and sample number repeated"] += 1
        else:
            attempts[number] = Sample(number, record.cif, _scores(record))
    if not any(found.values()):
        raise InputError(f"{path} has no sample for any target ({_told(ignored)}); {NAMES}")
    return SampleSet({name: [attempts[n] for n in sorted(attempts)] for name, attempts in found.items()}, ignored)


def _named(record: Record, rows: Mapping[str, tuple[str, int | None]] | None) -> tuple[Any, Any]:
    """Target id and sample number that a record states; None for what it does not."""
    if rows is not None:
        return rows.get(record.name, (None, None))
    if "target_id" in record.fields:
        return record.fields["target_id"], _whole(record.fields.get("sample"))
    # A file of several structures gives several records, `x__0.cif#block`; they are one attempt, the first.
    stem = Path(re.sub(r"\.m?cif(\.\w+)?(#.*)?$", "", record.name, flags=re.IGNORECASE)).name
    name, mark, number = stem.rpartition("__")
    return (name, int(number)) if mark and number.isdecimal() else (None, None)


def _whole(number: Any) -> Any:
    """A sample number of a table of floats or of numpy as int; anything else as it is."""
    if isinstance(number, bool) or not hasattr(number, "__int__"):
        return "no number" if number is not None else None
    return int(number) if math.isfinite(number) and int(number) == number else "no whole number"


def _aliases(names: Iterable[str]) -> dict[str, str]:
    """Every id, and its part after the first colon where only one id ends so."""
    names = list(names)
    short = Counter(name.partition(":")[2] for name in names)
    aliases = {name.partition(":")[2]: name for name in names if short[name.partition(":")[2]] == 1}
    aliases.pop("", None)
    return aliases | {name: name for name in names}


def _read_table(path: Path) -> dict[str, tuple[str, int | None]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"cannot read the table {path}: {error}; give a CSV with the columns file,target_id"
        ) from error
    rows: dict[str, tuple[str, int | None]] = {}
    for number, line in enumerate(lines, start=2):
        if not line.get("file") or not line.get("target_id"):
            raise InputError(f"{path}, line {number}: a row needs the columns file and target_id (and may have sample)")
        sample = (line.get("sample") or "").strip()
        if sample and not sample.isdecimal():
            raise InputError(f"{path}, line {number}: sample must be a whole number, got {sample!r}")
        if line["file"] in rows:
            raise InputError(f"{path}, line {number}: the file {line['file']!r} occurs twice; a file has one target")
        rows[line["file"]] = line["target_id"], int(sample) if sample else None
    if not rows:
        raise InputError(f"{path} holds no rows; give a CSV with the columns file,target_id")
    return rows


def samples_digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files of a folder."""
    if not path.is_dir():
        return sha256(path)
    whole = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        name = os.fsencode(file.relative_to(path))  # whatever bytes it is of
        whole.update(name + f"\0{digest_or_reason(file)}\n".encode())
    return whole.hexdigest()


def _scores(record: Record) -> dict[str, float]:
    stated = {name: record.fields.get(name) for name in SCORES}
    return {name: float(x) for name, x in stated.items() if isinstance(x, int | float) and math.isfinite(x)}


def _told(found: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in found.items()) or "it is empty"
