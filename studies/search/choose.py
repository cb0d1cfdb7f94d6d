"""Chooses formulas for the comparison of search and draws: held-out crystals of a prototype that the library lacks.

python -m studies.search.choose ../shared/data/materials_project_0*.parquet > studies/search/formulas.jsonl
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from crystallm.crystal.cell import Rejection
from crystallm.crystal.cif import read_cif
from crystallm.crystal.description import Description, describe
from crystallm.crystal.formulas.composition import format_formula, parse_formula
from crystallm.eval.prediction.prototypes import prototype
from crystallm.model.checkpoint import TEMPLATES_FILE
from crystallm.model.editions import edition_folder

COUNT = 20
N_ELEMENTS = 3
SITES = (5, 16)
"""Atoms of the primitive cell."""

WANTED = [("n_elements", "=", N_ELEMENTS), ("mp20_split", "=", "val"), ("experimentally_observed", "=", True)]
"""Observed validation rows of MP-20 with three elements."""

HEAVIEST = 83
"""Atomic number of bismuth; heavier elements are left out."""


def main(files: list[str]) -> None:
    """Print the chosen rows, a JSON object in each line."""
    known = library_prototypes(edition_folder("benchmark") / TEMPLATES_FILE)
    rows = sorted((row for file in files for row in candidates(Path(file))), key=order)
    formulas: set[str] = set()
    for row in rows:
        cell = read_cif(row["cif"])
        found = cell if isinstance(cell, Rejection) else describe(cell)
        if isinstance(found, Rejection) or not SITES[0] <= found.n_sites <= SITES[1]:
            continue
        formula = format_formula(found.amounts)
        if prototype(found) in known[found.space_group] or formula in formulas:
            continue
        formulas.add(formula)
        print(json.dumps(line(row["id"], formula, found)))
        if len(formulas) == COUNT:
            return


def line(name: str, formula: str, found: Description) -> dict[str, Any]:
    """What the list says of a chosen row."""
    return {
        "id": name,
        "formula": formula,
        "formula_units": found.formula_units,
        "space_group": found.space_group,
        "prototype": prototype(found),
    }


def order(row: dict[str, Any]) -> str:
    """An order that says nothing of the crystal."""
    return hashlib.sha256(str(row["id"]).encode()).hexdigest()


def candidates(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file that are wanted, without heavy elements."""
    columns = ["id", "cif", "reduced_formula", "n_elements", "mp20_split", "experimentally_observed", "n_sites"]
    for row in pq.read_table(file, columns=columns, filters=WANTED).to_pylist():
        numbers = atomic_numbers(row["reduced_formula"])
        if max(numbers) <= HEAVIEST:
            yield row


amounts_of = lru_cache(maxsize=None)(parse_formula)


def atomic_numbers(formula: str) -> list[int]:
    """Of the elements of a formula."""
    from crystallm.crystal.formulas.composition import element_order

    return [element_order(symbol)[1] for symbol, _ in parse_formula(formula)]


def library_prototypes(file: Path) -> dict[int, set[str]]:
    """Space group -> names of all structure types that a library holds, from the texts of its rows."""
    found: dict[int, set[str]] = defaultdict(set)
    table = pq.read_table(file, columns=["space_group", "formula", "text"])
    for number, formula, text in zip(*(column.to_pylist() for column in table.columns), strict=True):
        letters: dict[str, list[str]] = defaultdict(list)
        for site in text.partition("loop_atom_site\n")[2].splitlines():
            if site.startswith("#"):
                break
            element, letter = site.split()[:2]
            letters[element].append(letter)
        amounts = amounts_of(formula)
        elements = sorted(f"{amount}:{''.join(sorted(letters[symbol]))}" for symbol, amount in amounts)
        found[number].add(" ".join([str(number), *elements]))
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
