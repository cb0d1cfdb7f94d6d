"""Where the textbook's phase stands among the ranked crystals of a run."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crystallm.base.errors import InputError
from crystallm.crystal.cell import Rejection
from crystallm.crystal.cif import read_cif
from crystallm.crystal.formulas.composition import format_formula, parse_formula
from crystallm.crystal.symmetry import SYMPREC_ANGSTROM, space_group_number
from crystallm.eval.rate import Rate
from crystallm.eval.textbook.phases import Compound

TOPS = (1, 3, 10)


@dataclass(frozen=True)
class Placed:
    """One compound in a report."""

    formula: str
    rank: int | None
    """Of the first right crystal, from 1; None where none is right."""
    answers: int
    first: str
    """The first crystal: space group, density, where it comes from."""

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return {"formula": self.formula, "rank": self.rank, "answers": self.answers, "first": self.first}


def score_run(compounds: Sequence[Compound], folder: Path) -> list[Placed]:
    """Judge the ranked crystals that `crystallm sample` has written.

    Args:
        compounds: of the benchmark.
        folder: of a run that was given their formulas.

    Returns:
        One result for each compound, those without an answer included.

    Raises:
        InputError: the folder holds no ranking, or a crystal in it cannot be read.
    """
    ranking = folder / "crystals.jsonl"
    try:
        rows = [json.loads(line) for line in ranking.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {ranking}: {error}; give the folder of a `crystallm sample` run") from error
    by_formula: Mapping[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_formula[row["formula"]].append(row)
    return [_place(compound, by_formula[_reduced(compound.formula)], folder) for compound in compounds]


def _reduced(formula: str) -> str:
    return format_formula(parse_formula(formula))


def _place(compound: Compound, rows: Iterable[Mapping[str, Any]], folder: Path) -> Placed:
    ranked = sorted(rows, key=lambda row: row["rank"])
    found: int | None = None
    for row in ranked:
        if compound.is_right(_space_group(folder / row["file"]), row["density"]):
            found = int(row["rank"])
            break
    first = f"{ranked[0]['symbol']}, {ranked[0]['density']:.2f} g/cm3, {ranked[0]['origin']}" if ranked else "none"
    return Placed(compound.formula, found, len(ranked), first)


def _space_group(file: Path) -> int:
    """Space group number of a CIF at the project's tolerance; 0 where none is found."""
    cell = read_cif(file.read_text(encoding="utf-8"))
    if isinstance(cell, Rejection):
        raise InputError(f"{file} cannot be read ({cell}); sample again")
    return space_group_number(cell, symprec_angstrom=SYMPREC_ANGSTROM) or 0


def rates(placed: Sequence[Placed]) -> dict[str, Rate]:
    """How many compounds have their phase first, among the first three, the first ten, and at all."""
    found = {
        f"top {top}": Rate(sum(one.rank is not None and one.rank <= top for one in placed), len(placed)) for top in TOPS
    }
    return found | {"any": Rate(sum(one.rank is not None for one in placed), len(placed))}


def markdown(report: Mapping[str, Any]) -> str:
    """The report as text: rates, settings, and the compounds whose first answer is wrong."""
    lines = [
        f"# textbook, version {report['version']}: {report['label']}",
        "",
        f"Model: {report['model']}. Seed {report['seed']}, options: `{report['options'] or 'defaults'}`. "
        "A compound is right where the space group found at 0.1 angstrom is the textbook's and the density lies within "
        "8 % of it.",
        "",
    ]
    if report["knows"]:
        lines += [
            "This edition knows the crystals asked for: the table says how well it looks them up and chooses, "
            "not how well it predicts.",
            "",
        ]
    lines += ["| right structure | compounds |", "|---|---:|"]
    lines += [f"| {name} | {Rate(*rate).with_interval()} |" for name, rate in report["rates"].items()]
    wrong = [one for one in report["compounds"] if one["rank"] != 1]
    lines += ["", "| not first | rank of the right one | answers | first answer |", "|---|---:|---:|---|"]
    lines += [f"| {one['formula']} | {one['rank'] or '-'} | {one['answers']} | {one['first']} |" for one in wrong]
    return "\n".join(lines) + "\n"
