"""What can be wrong with a row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from crystallm.base.errors import InputError
from crystallm.base.provenance import write_text


class Contradiction(StrEnum):
    """Why a row contradicts itself."""

    UNREADABLE = "unreadable"
    FORMULA = "formula is not that of the atoms"
    COUNTS = "number of sites or elements is not that of the atoms"
    DENSITY = "density or volume is not that of the cell"
    SPACE_GROUP = "space group is another at 0.1 angstrom"
    TOO_CLOSE = "atoms closer than any bond"
    LONELY_HYDROGEN = "hydrogen bonded to nothing"
    CLOSE_HYDROGEN = "two hydrogens closer than a molecule"
    LOST_HYDROGEN = "hydrogen lost"
    LABELS = "labels taken for elements"
    VOLUME = "volume does not fit the composition"
    ENERGY = "energy far above that of other crystals of the formula"


@dataclass(frozen=True)
class Finding:
    """One contradiction in one row: with numbers, and whether it is certain."""

    id: str
    reason: Contradiction
    detail: str
    certain: bool


def write_findings(path: Path, findings: Sequence[Finding]) -> None:
    """One JSON object a line."""
    write_text(path, "".join(json.dumps(asdict(finding)) + "\n" for finding in findings))


def contradicted(path: Path) -> set[str]:
    """Ids of rows with a certain contradiction, from a file of `write_findings`.

    Raises:
        InputError: the file cannot be read or is no such file.
    """
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return {line["id"] for line in lines if line["certain"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read {path}: {error}; give the JSONL file of `crystallm data check`") from error
