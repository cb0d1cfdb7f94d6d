"""The same crystals in several layouts: MP-20 training rows, and validation rows of other formulas.

`python -m studies.layouts.texts DATA OUT` writes OUT/LAYOUT/train.parquet and val.parquet, the crystals that
every layout can write, and OUT/targets.parquet. The same command continues where it was stopped.
"""

from __future__ import annotations

import argparse
import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crystallm.base.errors import InputError
from crystallm.base.provenance import output_folder, provenance, write_json
from crystallm.data import PrepareConfig, prepare
from crystallm.data.general import rewrite
from crystallm.data.preparing.resumable import write_table
from crystallm.eval.sets.inputs import read_parquet
from crystallm.tokenizer.layout import DEFAULT_LAYOUT
from studies.finetuning.families import CORPUS, Row

logger = logging.getLogger(__name__)

FROM_CELLS = (DEFAULT_LAYOUT, "crystallm")
"""Layouts whose texts are made from the crystals as they come (docs/decisions/0006)."""

REWRITTEN = ("wyckoff-3",)
"""Layouts whose texts say the same as those of the default layout, with other numbers."""

LAYOUTS = (*FROM_CELLS, *REWRITTEN)

LARGEST_CELL = 20
"""Atoms in the stored cell, as in MP-20."""

PARTS = ("train", "val")


def chosen_crystals(rows: Sequence[Row], *, validation: int, seed: int) -> list[Row]:
    """All MP-20 training rows, and `validation` of the validation rows whose formula is not among them."""
    fitting = [row for row in rows if row["n_sites"] <= LARGEST_CELL]
    train = [row for row in fitting if row["mp20_split"] == "train"]
    learned = {row["reduced_formula"] for row in train}
    fresh = [row for row in fitting if row["mp20_split"] == "val" and row["reduced_formula"] not in learned]
    if not train or len(fresh) < validation:
        raise InputError(
            f"{len(train)} rows with mp20_split train and {len(fresh)} validation rows of other formulas are there, "
            f"{validation} are wanted; give the folder of the corpus, or lower --validation"
        )
    random.Random(seed).shuffle(fresh)
    return [{name: row[name] for name in ("id", "cif", "mp20_split")} for row in (*train, *fresh[:validation])]


def in_all(prepared: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """The rows of each layout whose crystal every layout can write, in one order."""
    common = set.intersection(*({row["id"] for row in rows} for rows in prepared.values()))
    return {name: [row for row in rows if row["id"] in common] for name, rows in prepared.items()}


def rewritten(rows: Sequence[Row], layout: str) -> list[Row]:
    """Rows of the default layout in another layout; those that it cannot hold are left out."""
    texts = ((row, rewrite(row["text"], layout)) for row in rows)
    return [row | {"text": text} for row, text in texts if text is not None]


def write_texts(data: Path, out: Path, *, validation: int, seed: int, train: int | None = None) -> dict[str, Any]:
    """Write the folders of all layouts and the table of targets; `train` takes only so many training rows."""
    columns = ["id", "cif", "reduced_formula", "n_sites", "mp20_split"]
    rows = [row for name in CORPUS for row in read_parquet(data / name, columns)]
    crystals = chosen_crystals(rows, validation=validation, seed=seed)
    if train is not None:
        crystals = [*crystals[:train], *crystals[-validation:]]
    table = out / "crystals.parquet"
    if not table.is_file() or pq.read_table(table).to_pylist() != crystals:  # `prepare` takes a new file for another
        write_table(pa.Table.from_pylist(crystals), table)
    counts: dict[str, Any] = {}
    for layout in FROM_CELLS:
        logger.info("texts of layout %s", layout)
        counts[layout] = prepare(
            PrepareConfig(
                sources=(str(table),),
                out=output_folder(out / layout) / "prepared",
                layout=layout,
                split_column="mp20_split",
                deduplicate="text",
                workers=1,
            )
        )["counts"]
    for part in PARTS:
        found = {
            layout: pq.read_table(out / layout / "prepared" / f"{part}.parquet").to_pylist() for layout in FROM_CELLS
        }
        found |= {layout: rewritten(found[DEFAULT_LAYOUT], layout) for layout in REWRITTEN}
        for layout, kept in in_all(found).items():
            counts.setdefault(layout, {})[part] = len(kept)
            write_table(pa.Table.from_pylist(kept), output_folder(out / layout) / f"{part}.parquet")
    held_out = set(pq.read_table(out / DEFAULT_LAYOUT / "val.parquet", columns=["id"])["id"].to_pylist())
    targets = [{"id": row["id"], "cif": row["cif"]} for row in crystals if row["id"] in held_out]
    write_table(pa.Table.from_pylist(targets), out / "targets.parquet")
    write_json(out / "texts.json", {"counts": counts, "provenance": provenance({"seed": seed}, inputs=[table])})
    return counts


def main() -> None:
    """Write the same crystals in every layout that is compared."""
    parser = argparse.ArgumentParser(prog="python -m studies.layouts.texts", description=main.__doc__)
    parser.add_argument("data", type=Path, help="folder with the parquet files of the corpus")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--validation", type=int, default=1000, help="validation crystals (%(default)s)")
    parser.add_argument("--train", type=int, help="only so many training crystals, to try it out")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    counts = write_texts(
        options.data, output_folder(options.out), validation=options.validation, seed=options.seed, train=options.train
    )
    print({layout: {part: found[part] for part in PARTS} for layout, found in counts.items()})


if __name__ == "__main__":
    main()
