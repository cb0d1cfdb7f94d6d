"""`crystallm eval select`: draw targets for structure prediction from parquet files, and write the prompts for them."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq

from crystallm.base.command_line import Command, Option
from crystallm.base.errors import ConfigError, InputError
from crystallm.base.provenance import output_folder, provenance, write_json, write_text
from crystallm.base.whole_file import whole_file
from crystallm.crystal.cell import Rejection
from crystallm.eval.sets.inputs import read_parquet
from crystallm.eval.sets.targets import Target, make_target, target_name


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """Settings of the draw."""

    number: Annotated[int, Option("-n")] = 500
    """Targets to draw; fewer when the files hold fewer."""
    seed: int = 0
    """Of the draw."""
    max_sites: int = 20
    """Largest number of atoms in the stored cell; 0 takes all."""
    split_column: str = "suggested_split"
    """Column that `split` is looked for in."""
    split: str = "val"
    """Rows with this value in `split_column`; an empty text takes all rows."""

    def __post_init__(self) -> None:
        if self.number < 1:
            raise ConfigError(f"number must be >= 1, got {self.number}")
        if self.max_sites < 0:
            raise ConfigError(f"max_sites must be >= 0, got {self.max_sites}; 0 takes all")


@dataclass(frozen=True)
class Selection:
    """Targets drawn, in random order, and the rows drawn but refused, counted by reason."""

    targets: list[Target]
    refused: Counter[str]


def select_targets(rows: list[dict[str, Any]], config: SelectConfig) -> Selection:
    """Targets drawn without replacement; a row whose true structure cannot be read is refused and another is drawn.

    InputError where no row has the split, or two rows have one id.
    """
    fitting = [row for row in rows if not config.split or row.get(config.split_column) == config.split]
    if not fitting:
        found = sorted({str(row.get(config.split_column)) for row in rows})
        raise InputError(
            f"no row has {config.split_column} == {config.split!r}; it takes the values {', '.join(found)}"
        )
    names = Counter(target_name(row, "a file of targets") for row in fitting)
    if repeated := [name for name, count in names.items() if count > 1]:
        raise InputError(f"the target {repeated[0]!r} occurs twice; ids must be unique")
    fitting.sort(key=lambda row: str(row["id"]))  # the draw does not depend on the order of the files
    random.Random(config.seed).shuffle(fitting)
    targets: list[Target] = []
    refused: Counter[str] = Counter()
    for row in fitting:
        if len(targets) == config.number:
            break
        target = make_target(str(row["id"]), row["cif"])
        if isinstance(target, Rejection):
            refused[str(target.reason)] += 1
        elif not config.max_sites or target.n_sites <= config.max_sites:
            targets.append(target)
    return Selection(targets, refused)


def write_targets(folder: Path, targets: Sequence[Target], *, level: str) -> tuple[Path, Path]:
    """Write targets.parquet and prompts.jsonl of a prompt level; returns their paths."""
    parquet, prompts = folder / "targets.parquet", folder / "prompts.jsonl"
    with whole_file(parquet) as partial:
        pq.write_table(pa.Table.from_pylist([target.row() for target in targets]), partial)
    write_text(prompts, "".join(json.dumps(target.prompt(level)) + "\n" for target in targets))
    return parquet, prompts


def select(parquet: tuple[Path, ...], config: SelectConfig, *, out: Path) -> None:
    """Draw random rows and write OUT/targets.parquet, OUT/prompts.jsonl and OUT/select.json.

    Args:
        parquet: Files with the columns id, cif and the split column.
        out: Folder to write.
    """
    out = output_folder(out)
    columns = ["id", "cif", "n_sites", config.split_column]
    rows = [row for path in parquet for row in read_parquet(path, columns)]
    selection = select_targets(rows, config)
    targets, prompts = write_targets(out, selection.targets, level="formula_units")
    count, refused = len(selection.targets), selection.refused
    write_json(
        out / "select.json",
        {"targets": count, "refused": dict(refused), "provenance": provenance(config, inputs=parquet)},
    )
    print(f"{count} targets in {targets}, prompts in {prompts}")
    for reason, count in refused.most_common():
        print(f"  {count} rows drawn but refused: {reason}")


main = Command(select, "crystallm eval select")
