"""`crystallm eval select`: draw targets for structure prediction from parquet files, and write the prompts for them."""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crystallm.crystal.cell import Rejection
from crystallm.crystal.cif import read_cif
from crystallm.crystal.composition import format_formula, reduce_amounts, symbol_of
from crystallm.crystal.description import describe
from crystallm.errors import ConfigError, InputError
from crystallm.eval.inputs import read_parquet
from crystallm.provenance import output_folder, provenance, write_json, write_text


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """Settings of the draw."""

    number: int = 500
    """Targets to draw; fewer when the files hold fewer."""
    seed: int = 0
    max_sites: int = 20
    """Largest number of atoms in the stored cell."""
    split_column: str = "suggested_split"
    split: str = "val"
    """Rows with this value in `split_column`; an empty text takes all rows."""

    def __post_init__(self) -> None:
        if self.number < 1:
            raise ConfigError(f"number must be >= 1, got {self.number}")
        if self.max_sites < 1:
            raise ConfigError(f"max_sites must be >= 1, got {self.max_sites}")


def select_targets(rows: list[dict[str, Any]], config: SelectConfig) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Targets drawn without replacement in random order, and the rows drawn but refused, counted by reason.

    A target has id, cif, formula (reduced), formula_units (of the primitive cell at 0.1 angstrom), space_group and
    n_sites. Where no symmetry is found, the stored cell counts as primitive and space_group is null.
    """
    fitting = [row for row in rows if not config.split or row.get(config.split_column) == config.split]
    if not fitting:
        found = sorted({str(row.get(config.split_column)) for row in rows})
        raise InputError(
            f"no row has {config.split_column} == {config.split!r}; it takes the values {', '.join(found)}"
        )
    fitting.sort(key=lambda row: str(row["id"]))  # the draw does not depend on the order of the files
    random.Random(config.seed).shuffle(fitting)
    targets: list[dict[str, Any]] = []
    refused: Counter[str] = Counter()
    for row in fitting:
        if len(targets) == config.number:
            break
        cell = read_cif(row["cif"])
        if isinstance(cell, Rejection):
            refused[str(cell.reason)] += 1
            continue
        if len(cell) > config.max_sites:
            continue
        description = describe(cell)
        known = None if isinstance(description, Rejection) else description
        amounts = reduce_amounts({symbol_of(number): count for number, count in cell.amounts.items()})
        targets.append(
            {
                "id": str(row["id"]),
                "cif": row["cif"],
                "formula": format_formula(amounts),
                "formula_units": known.formula_units if known else cell.formula_units,
                "space_group": known.space_group if known else None,
                "n_sites": len(cell),
            }
        )
    return targets, refused


def main(argv: list[str]) -> None:
    """Draw random rows and write OUT/targets.parquet, OUT/prompts.jsonl and OUT/select.json."""
    default = SelectConfig()
    parser = argparse.ArgumentParser(prog="crystallm eval select", description=main.__doc__)
    parser.add_argument("parquet", type=Path, nargs="+", help="files with the columns id, cif and the split column")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("-n", "--number", type=int, default=default.number, help="targets to draw (%(default)s)")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--max-sites", type=int, default=default.max_sites, help="atoms in the cell (%(default)s)")
    parser.add_argument("--split-column", default=default.split_column, help="(%(default)s)")
    parser.add_argument("--split", default=default.split, help="value of the split column (%(default)s); '' takes all")
    options = vars(parser.parse_args(argv))
    paths, out = options.pop("parquet"), output_folder(options.pop("out"))
    config = SelectConfig(**options)
    columns = ["id", "cif", "n_sites", config.split_column]
    rows = [row for path in paths for row in read_parquet(path, columns)]
    if any("id" not in row for row in rows):
        raise InputError("every file needs a column `id`, by which samples name their target")
    targets, refused = select_targets(rows, config)
    pq.write_table(pa.Table.from_pylist(targets), out / "targets.parquet")
    prompts = [{key: target[key] for key in ("id", "formula", "formula_units")} for target in targets]
    write_text(out / "prompts.jsonl", "".join(json.dumps(prompt) + "\n" for prompt in prompts))
    write_json(
        out / "select.json",
        {"targets": len(targets), "refused": dict(refused), "provenance": provenance(config, inputs=paths)},
    )
    print(f"{len(targets)} targets in {out / 'targets.parquet'}, prompts in {out / 'prompts.jsonl'}")
    for reason, count in refused.most_common():
        print(f"  {count} rows drawn but refused: {reason}")
