"""The texts of a fine-tuning: prepared, split by formula, with general texts beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crystallm.base.errors import InputError
from crystallm.base.provenance import output_folder
from crystallm.crystal.cell import Rejection
from crystallm.crystal.formulas.composition import format_formula
from crystallm.data import PrepareConfig, prepare
from crystallm.data.general import GeneralText, replay_texts, training_formulas, validation_texts
from crystallm.data.preparing.resumable import write_table
from crystallm.tokenizer.layout import get_layout
from crystallm.train.finetune.config import FinetuneConfig
from crystallm.train.texts.split_files import files_of

Rows = list[dict[str, Any]]

FEWEST_FORMULAS = 3
"""One to train on, one to say when to stop, one to be held out."""

PARTS = {"train": "train", "val": "val", "test": "heldout"}
"""Split of the prepared data -> name of the part here."""


@dataclass(frozen=True)
class Material:
    """What a fine-tuning works on: a folder of texts by part, and what is known about them."""

    folder: Path
    """Holds train.parquet, val.parquet, heldout.parquet, general.parquet and replay.parquet."""
    rows: dict[str, Rows]
    """Prepared rows of train, val and heldout."""
    prepared: dict[str, Any]
    """Counts of the preparation: read, refused, duplicates."""
    known: dict[str, tuple[int, int]]
    """For each part and `all`: formulas that occur in the general training corpus, of how many."""


def prepare_material(
    config: FinetuneConfig, sources: Sequence[str], out: Path, *, layout: str, context: int
) -> Material:
    """Prepare the sources and divide them; what was done in an earlier run is not done again.

    InputError where there are too few crystals, with the number and the remedy.
    """
    report = prepare(
        PrepareConfig(
            sources=tuple(sources),
            out=out / "prepared",
            layout=layout,
            max_sites=config.max_sites,
            max_tokens=context,
            deduplicate="off" if config.deduplicate == "none" else config.deduplicate,
            exclude_matching=config.exclude_matching,
            split_column=config.split_column,
            seed=config.seed,
            val_fraction=0.0,  # what is divided here, below; a split column goes its own way
            test_fraction=0.0,
        )
    )
    found = {part: pq.read_table(out / "prepared" / f"{name}.parquet").to_pylist() for name, part in PARTS.items()}
    rows = found if config.split_column else divide(found["train"], config)
    require_enough(rows, report["counts"], out / "prepared" / "drops.jsonl")
    folder = output_folder(out / "data")
    for part, members in rows.items():
        write_table(pa.Table.from_pylist(members), folder / f"{part}.parquet")
    write_table(_texts(item.text for item in validation_texts(layout)), folder / "general.parquet")
    write_table(replay_table(config, layout), folder / "replay.parquet")
    return Material(folder, rows, report["counts"], known_formulas(rows))


def divide(rows: Rows, config: FinetuneConfig) -> dict[str, Rows]:
    """Split by reduced formula, so that polymorphs stay on one side: exact numbers of formulas, drawn by a hash."""

    def place(formula: str) -> bytes:
        return hashlib.sha256(f"{config.seed} {formula}".encode()).digest()

    formulas = sorted({row["reduced_formula"] for row in rows}, key=place)
    heldout = min(max(1, round(config.heldout_share * len(formulas))), config.most_heldout)
    val = min(max(1, round(config.val_share * len(formulas))), config.most_val)
    chosen = dict.fromkeys(formulas, "train")
    chosen |= dict.fromkeys(formulas[:heldout], "heldout") | dict.fromkeys(formulas[heldout : heldout + val], "val")
    parts: dict[str, Rows] = {part: [] for part in PARTS.values()}
    for row in rows:
        parts[chosen[row["reduced_formula"]]].append(row)
    return parts


def require_enough(rows: dict[str, Rows], counts: dict[str, Any], drops: Path) -> None:
    """InputError unless every part has a crystal."""
    if all(rows.values()):
        return
    members = [row for part in rows.values() for row in part]
    formulas = len({row["reduced_formula"] for row in members})
    refused = ", ".join(f"{reason} {number}" for reason, number in counts["refused"].items())
    raise InputError(
        f"{len(members)} crystals of {formulas} formulas are left of {counts['read']} read"
        + (f" (refused: {refused}; see {drops})" if refused else "")
        + f"; fine-tuning splits by formula into training, validation and held-out crystals and needs at least "
        f"{FEWEST_FORMULAS} formulas. Give more crystals, or a table with a column that says train, val or test "
        "(--set split_column=NAME)"
    )


def replay_table(config: FinetuneConfig, layout: str) -> pa.Table:
    """The texts to be replayed: the packaged sample, or those of the prepared folder that the recipe names."""
    if config.replay is None:
        return named_texts(replay_texts(layout), layout)
    files = files_of(config.replay / "train.parquet")
    wanted = ["text", "id", "reduced_formula"]
    named = all(set(wanted) <= set(pq.read_schema(file).names) for file in files)
    return pa.concat_tables([pq.read_table(file, columns=wanted if named else ["text"]) for file in files])


def named_texts(items: Sequence[GeneralText], layout: str) -> pa.Table:
    """Texts of the general corpus with the ids and reduced formulas of their crystals."""
    formulas = []
    for item in items:
        description = get_layout(layout).read(item.text)
        assert not isinstance(description, Rejection)  # written by us
        formulas.append(format_formula(description.amounts))
    return pa.table({"text": [x.text for x in items], "id": [x.id for x in items], "reduced_formula": formulas})


def known_formulas(rows: dict[str, Rows]) -> dict[str, tuple[int, int]]:
    """How many formulas of each part, and of all, occur among the training formulas of the general corpus."""
    general = training_formulas()
    formulas = {part: {row["reduced_formula"] for row in members} for part, members in rows.items()}
    formulas["all"] = set().union(*formulas.values())
    return {part: (len(found & general), len(found)) for part, found in formulas.items()}


def _texts(texts: Iterable[str]) -> pa.Table:
    return pa.table({"text": list(texts)})
