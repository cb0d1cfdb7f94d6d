"""Families of crystals that the default model has not seen, to compare strategies of fine-tuning on.

`python -m studies.finetuning.families DATA OUT` writes OUT/FAMILY_SIZE_SEED.parquet with the columns id, cif and split.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crystallm.base.errors import InputError
from crystallm.base.provenance import output_folder
from crystallm.crystal.cell import Rejection
from crystallm.crystal.formulas.composition import format_formula, parse_formula
from crystallm.data.general import training_formulas, validation_texts
from crystallm.eval.sets.inputs import read_parquet
from crystallm.tokenizer.layout import get_layout

Row = dict[str, Any]

CORPUS = (*(f"materials_project_0{i}.parquet" for i in range(3)), "other_dft.parquet", "experimental.parquet")
PEROVSKITES = "perov_5_train.parquet"
TESTS = ("mp_20_test_partial", "mpts_52_test", "perov_5_test", "jarvis_supercon_test", "carbon_24_test")
COLUMNS = ["id", "cif", "reduced_formula", "n_sites", "spacegroup_number"]
MARKS = ["suggested_split", "mp20_split", "mpts52_split", "benchmark_match"]

TRANSITION_METALS = frozenset(
    (
        *("Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn"),
        *("Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd"),
        *("Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg"),
    )
)
LARGEST_CELL = 24
"""Atoms in the stored cell."""

MOST_OF_A_FORMULA = 4

HELD_OUT, VAL_POOL = 100, 150
"""Crystals that are sampled, the same for every size and seed; and those from which validation crystals are drawn."""


def is_heusler(row: Row) -> bool:
    """Full and half Heuslers: three elements as 2:1:1 in Fm-3m, or 1:1:1 in F-43m."""
    counts = sorted(amount for _, amount in parse_formula(row["reduced_formula"]))
    return (counts, row["spacegroup_number"]) in (([1, 1, 2], 225), ([1, 1, 1], 216))


def is_oxide(row: Row) -> bool:
    """Oxides of a transition metal in small cells."""
    elements = {symbol for symbol, _ in parse_formula(row["reduced_formula"])}
    return "O" in elements and bool(elements & TRANSITION_METALS) and row["n_sites"] <= LARGEST_CELL


FAMILIES: dict[str, Callable[[Row], bool]] = {"heuslers": is_heusler, "oxides": is_oxide}


def is_test(row: Row) -> bool:
    """Whether a row of the corpus stands in the test split of anything, or may do so."""
    return (
        row["suggested_split"] == "test"
        or row["mp20_split"] in ("test", "heldout")
        or row["mpts52_split"] == "test"
        or "test" in (row["benchmark_match"] or "")
    )


def unseen(data: Path) -> dict[str, list[Row]]:
    """Rows of each family whose formula is neither among the training formulas nor in any test split."""
    corpus = [row for name in CORPUS for row in read_parquet(data / name, [*COLUMNS, *MARKS])]
    seen = set(training_formulas()) | {row["reduced_formula"] for row in corpus if is_test(row)}
    seen |= {row["reduced_formula"] for row in corpus if row["suggested_split"] == "train"}
    seen |= forgetting_formulas()
    seen |= {row["reduced_formula"] for name in TESTS for row in read_parquet(data / f"{name}.parquet", COLUMNS)}
    fresh = [row for row in corpus if row["reduced_formula"] not in seen]
    found = {name: few_of_each([row for row in fresh if belongs(row)]) for name, belongs in FAMILIES.items()}
    perovskites = read_parquet(data / PEROVSKITES, COLUMNS)
    found["perovskites"] = [row for row in perovskites if row["reduced_formula"] not in seen]
    return found


def few_of_each(rows: Sequence[Row]) -> list[Row]:
    """At most `MOST_OF_A_FORMULA` crystals of each formula, so that a hundred orderings of one lattice count as few."""
    counts: Counter[str] = Counter()
    kept = []
    for row in rows:
        counts[row["reduced_formula"]] += 1
        if counts[row["reduced_formula"]] <= MOST_OF_A_FORMULA:
            kept.append(row)
    return kept


def forgetting_formulas() -> set[str]:
    """The formulas on which forgetting is measured: nothing of them may be learned."""
    descriptions = (get_layout().read(item.text) for item in validation_texts())
    return {format_formula(found.amounts) for found in descriptions if not isinstance(found, Rejection)}


def cut(rows: Sequence[Row], *, size: int, seed: int) -> list[Row]:
    """`size` crystals to train on, a fifth as many to validate, and the held-out ones; by formula.

    Held-out and validation formulas do not depend on size and seed; the seed draws from the pools. InputError where the
    family is too small.
    """
    formulas = sorted({row["reduced_formula"] for row in rows})
    random.Random(0).shuffle(formulas)
    place = {formula: number for number, formula in enumerate(formulas)}
    ordered = sorted(rows, key=lambda row: (place[row["reduced_formula"]], str(row["id"])))
    heldout = _whole_formulas(ordered, HELD_OUT)
    pool = _whole_formulas(ordered[len(heldout) :], VAL_POOL)
    rest = ordered[len(heldout) + len(pool) :]
    if len(rest) < size:
        raise InputError(f"a family of {len(rows)} crystals has no {size} to train on; give smaller sizes")
    draw = random.Random(seed)
    chosen = {
        "train": draw.sample(rest, size),
        "val": draw.sample(pool, min(max(10, size // 5), len(pool))),
        "test": heldout[:HELD_OUT],
    }
    return [{"id": row["id"], "cif": row["cif"], "split": part} for part, found in chosen.items() for row in found]


def _whole_formulas(ordered: Sequence[Row], least: int) -> list[Row]:
    """The first `least` rows, and those after them that share the formula of the last."""
    end = least
    while end < len(ordered) and ordered[end]["reduced_formula"] == ordered[end - 1]["reduced_formula"]:
        end += 1
    return list(ordered[:end])


def main() -> None:
    """Write one table for every family, size and seed that the data allow."""
    parser = argparse.ArgumentParser(prog="python -m studies.finetuning.families", description=main.__doc__)
    parser.add_argument("data", type=Path, help="folder with the general corpus and the Perov-5 files")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 500], help="training crystals (50 500)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    out = output_folder(options.out)
    for name, rows in unseen(options.data).items():
        print(f"{name}: {len(rows)} crystals of {len({row['reduced_formula'] for row in rows})} formulas")
        for size in options.sizes:
            if size > len(rows) - HELD_OUT - VAL_POOL - 2 * MOST_OF_A_FORMULA:
                continue
            for seed in options.seeds:
                table = pa.Table.from_pylist(cut(rows, size=size, seed=seed))
                pq.write_table(table, out / f"{name}_{size}_{seed}.parquet")


if __name__ == "__main__":
    main()
