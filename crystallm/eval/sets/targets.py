"""Targets of a structure-prediction benchmark: the true structures, and what a prompt may give away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crystallm.base.errors import InputError
from crystallm.crystal.cell import Rejection
from crystallm.crystal.cif import read_cif
from crystallm.crystal.description import Description, describe
from crystallm.crystal.formulas.composition import Amounts, format_formula, reduce_amounts, symbol_of
from crystallm.eval.sets.inputs import read_parquet

GIVEN = {"formula": 1, "formula_units": 2, "space_group": 3}
"""How many of formula, formula units and space group a prompt of each level holds."""


@dataclass(frozen=True)
class Target:
    """A crystal to be predicted.

    formula_units: Z of the primitive cell at 0.1 angstrom; of the stored cell where no symmetry is found.
    n_sites: atoms in the stored cell.
    """

    id: str
    cif: str
    amounts: Amounts
    formula_units: int
    n_sites: int
    description: Description | Rejection

    @property
    def formula(self) -> str:
        """Reduced formula."""
        return format_formula(self.amounts)

    @property
    def space_group(self) -> int | None:
        """Number of the space group at 0.1 angstrom; None where no symmetry is found."""
        return None if isinstance(self.description, Rejection) else self.description.space_group

    def row(self) -> dict[str, Any]:
        """The target as a row of a parquet file, which `read_targets` reads."""
        return {
            "id": self.id,
            "cif": self.cif,
            "formula": self.formula,
            "formula_units": self.formula_units,
            "space_group": self.space_group,
            "n_sites": self.n_sites,
        }

    def prompt(self, level: str) -> dict[str, Any]:
        """What `crystallm sample --prompts` reads, up to the level; an unknown space group is left out."""
        given = {"formula": self.formula, "formula_units": self.formula_units, "space_group": self.space_group}
        known = {key: given[key] for key in list(given)[: GIVEN[level]] if given[key] is not None}
        return {"id": self.id} | known


def make_target(name: str, cif: str) -> Target | Rejection:
    """The target of a true structure as CIF text; a Rejection where it cannot be read."""
    cell = read_cif(cif)
    if isinstance(cell, Rejection):
        return cell
    amounts = reduce_amounts({symbol_of(number): count for number, count in cell.amounts.items()})
    description = describe(cell)
    units = cell.formula_units if isinstance(description, Rejection) else description.formula_units
    return Target(name, cif, amounts, units, len(cell), description)


def read_targets(path: Path) -> list[Target]:
    """Targets from a parquet file with the columns id and cif; InputError where one is unreadable or an id repeats."""
    targets = []
    seen: set[str] = set()
    for row in read_parquet(path, ["id", "cif"]):
        name = target_name(row, str(path))
        if name in seen:
            raise InputError(f"{path}: the target {name!r} occurs twice; ids must be unique")
        seen.add(name)
        target = make_target(name, row["cif"])
        if isinstance(target, Rejection):
            raise InputError(f"{path}: the true structure of {name!r} cannot be read ({target}); leave it out")
        targets.append(target)
    if not targets:
        raise InputError(f"{path} holds no targets")
    return targets


def target_name(row: Mapping[str, Any], source: str) -> str:
    """The id of a row; InputError where there is none."""
    if "id" not in row:
        raise InputError(f"{source} has no column `id`, by which samples name their target")
    return str(row["id"])
