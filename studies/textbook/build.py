"""Makes eval/benchmarks/textbook.jsonl: the density of each textbook phase, from observed crystals of a corpus.

    python studies/textbook/build.py LIST.txt CORPUS.parquet... > eval/benchmarks/textbook.jsonl

LIST has a formula and the space groups that count on each line. A phase takes the densities of the observed crystal of
lowest DFT energy above hull in its space group and of the measured ones (COD, AMCSD); without an observed crystal that
of a handbook, from HANDBOOK below. A phase with neither is left out, and said on stderr.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

from crystallm.crystal.formulas.composition import format_formula, parse_formula

MINERALS = "Anthony et al., Handbook of Mineralogy (Mineralogical Society of America)"
HANDBOOK = {
    ("Mn2O3", 206): (4.95, f"{MINERALS}: bixbyite, 4.95"),
    ("TiS2", 164): (3.25, "a = 3.407, c = 5.695 A (Chianelli, Scanlon, Thompson 1975): calculated density 3.25"),
    ("Y3Al5O12", 230): (4.55, "a = 12.01 A (Geller, Z. Kristallogr. 125, 1, 1967): calculated density 4.55"),
    ("Ca3Al2Si3O12", 230): (3.594, f"{MINERALS}: grossular, 3.594"),
}
COLUMNS = ["id", "reduced_formula", "spacegroup_number", "density", "e_above_hull", "experimentally_observed", "origin"]


def phase(formula: str, number: int, rows: pd.DataFrame) -> dict[str, object] | None:
    """Densities of a phase in g/cm3 and where they come from."""
    found = rows[(rows.spacegroup_number == number) & (rows.experimentally_observed == True)]  # noqa: E712 - null too
    if len(found):
        computed = found[found.origin != "experiment"].sort_values("e_above_hull").head(1)
        chosen = pd.concat([computed, found[found.origin == "experiment"]])
        densities = [round(float(density), 3) for density in chosen.density]
        return {"space_group": number, "densities": densities, "source": " ".join(chosen.id)}
    if (formula, number) in HANDBOOK:
        density, source = HANDBOOK[formula, number]
        return {"space_group": number, "densities": [density], "source": source}
    print(f"{formula} {number}: no observed crystal, no handbook", file=sys.stderr)
    return None


def main(listing: str, *corpus: str) -> None:
    """Write the benchmark to stdout."""
    table = pd.concat([pd.read_parquet(file, columns=COLUMNS) for file in corpus])
    names = {formula: format_formula(parse_formula(formula)) for formula in table.reduced_formula.unique()}
    table["name"] = table.reduced_formula.map(names)
    for line in Path(listing).read_text(encoding="utf-8").splitlines():
        formula, *numbers = line.split()
        rows = table[table.name == format_formula(parse_formula(formula))]
        phases = [one for number in numbers if (one := phase(formula, int(number), rows)) is not None]
        print(json.dumps({"formula": formula, "phases": phases}, ensure_ascii=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
