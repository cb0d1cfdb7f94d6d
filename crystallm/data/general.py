"""A sample of the general corpus that travels with the package: to measure forgetting, to replay, to know formulas.

`python -m crystallm.data.general PREPARED OUT` made it from the folder the default model was trained on.
"""

from __future__ import annotations

import json
import lzma
import random
import sys
from dataclasses import dataclass
from pathlib import Path

from crystallm.base.errors import InputError
from crystallm.crystal.cell import Rejection
from crystallm.tokenizer.layout import DEFAULT_LAYOUT, get_layout

FOLDER = Path(__file__).parent / "general_corpus"
VALIDATION_TEXTS = 400
REPLAY_TEXTS = 1200
LONGEST = 256
"""Tokens; the default model was trained on no longer texts."""


@dataclass(frozen=True)
class GeneralText:
    """One crystal of the general corpus."""

    id: str
    text: str


def validation_texts(layout: str = DEFAULT_LAYOUT) -> list[GeneralText]:
    """Texts of the validation split: the benchmark edition has not been trained on them, the full one has."""
    return _texts("validation.jsonl.xz", layout)


def replay_texts(layout: str = DEFAULT_LAYOUT) -> list[GeneralText]:
    """Texts of the training split, to be mixed into fine-tuning."""
    return _texts("replay.jsonl.xz", layout)


def training_formulas() -> frozenset[str]:
    """The reduced formulas of all crystals that the default model was trained on."""
    return frozenset(lzma.decompress((FOLDER / "formulas.txt.xz").read_bytes()).decode().split())


def _texts(name: str, layout: str) -> list[GeneralText]:
    lines = lzma.decompress((FOLDER / name).read_bytes()).decode().splitlines()
    found = [GeneralText(row["id"], row["text"]) for row in map(json.loads, lines)]
    if layout == DEFAULT_LAYOUT:
        return found
    rewritten = ((item.id, rewrite(item.text, layout)) for item in found)
    return [GeneralText(name, text) for name, text in rewritten if text is not None]


def rewrite(text: str, layout: str) -> str | None:
    """A text of the default layout in another layout; None where that layout cannot hold the crystal."""
    description = get_layout(DEFAULT_LAYOUT).read(text)
    assert not isinstance(description, Rejection)  # written by us, read by a test
    tokens = get_layout(layout).checked_tokens(description)
    return None if isinstance(tokens, Rejection) else "".join(tokens)


def sample(prepared: Path, out: Path, *, seed: int = 0) -> None:
    """Draw the sample from a prepared folder and write its three files."""
    import pyarrow.parquet as pq

    for name, count, file in (("val", VALIDATION_TEXTS, "validation"), ("train", REPLAY_TEXTS, "replay")):
        if not (prepared / f"{name}.parquet").is_file():
            raise InputError(f"there is no {prepared / name}.parquet; give a folder made by `crystallm data prepare`")
        rows = pq.read_table(prepared / f"{name}.parquet").to_pylist()
        rows = [row for row in rows if row["n_tokens"] <= LONGEST]
        drawn = random.Random(seed).sample(rows, count)
        lines = "".join(json.dumps({"id": row["id"], "text": row["text"]}) + "\n" for row in drawn)
        (out / f"{file}.jsonl.xz").write_bytes(_packed(lines))
    formulas = sorted({row["reduced_formula"] for row in rows})
    (out / "formulas.txt.xz").write_bytes(_packed("\n".join(formulas)))


def _packed(text: str) -> bytes:
    return lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME)


if __name__ == "__main__":
    sample(Path(sys.argv[1]), Path(sys.argv[2]))
