"""Targets of a structure-prediction benchmark and the samples made for them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crystallm.crystal.cell import Reason, Rejection
from crystallm.crystal.cif import read_cif
from crystallm.crystal.composition import Amounts, reduce_amounts, symbol_of
from crystallm.crystal.description import Description, describe
from crystallm.errors import InputError
from crystallm.eval.inputs import read_parquet, read_records


@dataclass(frozen=True)
class Target:
    """A crystal to be predicted from its formula and the number of formula units of its primitive cell."""

    id: str
    cif: str
    amounts: Amounts
    formula_units: int
    """Of the primitive cell."""
    description: Description | Rejection


@dataclass(frozen=True)
class Sample:
    """One attempt at a target, in the order drawn; an attempt without a CIF stays an attempt."""

    number: int
    cif: str | Rejection
    log_probability: float | None = None


@dataclass(frozen=True)
class SampleSet:
    """The attempts for each target, in order, and what did not belong to any."""

    by_target: Mapping[str, Sequence[Sample]]
    ignored: Counter[str] = field(default_factory=Counter)
    """Records that count for no target, by reason."""

    @property
    def longest(self) -> int:
        """Most attempts for one target."""
        return max((len(samples) for samples in self.by_target.values()), default=0)


def read_targets(path: Path) -> list[Target]:
    """Targets from a parquet file with the columns id and cif; InputError where one is unreadable or an id repeats."""
    targets = []
    seen: set[str] = set()
    for row in read_parquet(path, ["id", "cif", "formula_units"]):
        if "id" not in row:
            raise InputError(f"{path} has no column `id`, by which samples name their target")
        name = str(row["id"])
        if name in seen:
            raise InputError(f"{path}: the target {name!r} occurs twice; ids must be unique")
        seen.add(name)
        cell = read_cif(row["cif"])
        if isinstance(cell, Rejection):
            raise InputError(f"{path}: the true structure of {name!r} cannot be read ({cell}); leave it out")
        amounts = reduce_amounts({symbol_of(number): count for number, count in cell.amounts.items()})
        description = describe(cell)
        units = cell.formula_units if isinstance(description, Rejection) else description.formula_units
        targets.append(Target(name, row["cif"], amounts, int(row.get("formula_units") or units), description))
    if not targets:
        raise InputError(f"{path} holds no targets")
    return targets


def read_samples(path: Path, targets: Sequence[Target]) -> SampleSet:
    """Attempts by target from a JSONL with the keys target_id, sample, cif and log_probability (if there is one)."""
    found: dict[str, dict[int, Sample]] = {target.id: {} for target in targets}
    ignored: Counter[str] = Counter()
    for record in read_records(path):
        name = record.fields.get("target_id")
        if name is None:
            broken = isinstance(record.cif, Rejection) and record.cif.reason is Reason.UNREADABLE
            ignored["broken line" if broken else "no target_id"] += 1
            continue
        if str(name) not in found:
            ignored["no such target"] += 1
            continue
        attempts = found[str(name)]
        number = record.fields.get("sample", len(attempts))
        if not isinstance(number, int):
            ignored["sample number is no whole number"] += 1
        elif number in attempts:
            ignored["target and sample number repeated"] += 1
        else:
            attempts[number] = Sample(number, record.cif, _finite(record.fields.get("log_probability")))
    if not any(found.values()):
        raise InputError(f"{path} has no sample for any target ({dict(ignored)}); records need the key target_id")
    return SampleSet({name: [attempts[n] for n in sorted(attempts)] for name, attempts in found.items()}, ignored)


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
