"""A thousand draws on record: are they the same before and after a change of the code?

`python -m studies.draws.record OUT.jsonl` draws; `python -m studies.draws.record NEW.jsonl --against OLD.jsonl` draws
again, compares texts and the log-probabilities of their tokens, and says how many differ. Both editions, prompts of
every kind, several seeds, and a small untrained model of each layout.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch

from crystallm.base.errors import InputError
from crystallm.base.provenance import write_text
from crystallm.cli import run_program
from crystallm.model.architecture import ModelConfig, build_model
from crystallm.model.checkpoint import save_checkpoint
from crystallm.sample.config import SampleConfig
from crystallm.sample.generator import Generator
from crystallm.sample.prompts import make_prompt
from crystallm.tokenizer import build_tokenizer
from crystallm.tokenizer.layout import LAYOUTS, get_layout

FORMULAS = ("TiO2", "NaCl", "BaTiO3", "MgAl2O4", "Fe2O3", "LiCoO2", "SiO2", "GaAs", "CsPbBr3", "MoS2", "Bi2Te3")

PROMPTS = (
    *({"formula": formula} for formula in FORMULAS),
    {"formula": "TiO2", "space_group": 136},
    {"formula": "TiO2", "space_group": 141, "formula_units": 2},
    {"formula": "SiO2", "formula_units": 3},
    {"space_group": 225},
    {},
)
"""A formula, with and without formula units and space group; a space group alone; nothing."""

RUNS = (
    {"n": 10, "seed": 0},
    {"n": 10, "seed": 1, "temperature": 1.0},
    {"n": 6, "seed": 2, "repeat": 1.0, "guide": 0.0},
    {"n": 4, "seed": 3, "space_groups": "top:4", "bond_tries": 0},
)

SMALL = ModelConfig(model_type="llama", layers=2, hidden=32, heads=4, kv_heads=2, ffn=64, context=1024)


def drawn(precision: str) -> Iterator[dict[str, object]]:
    """One record for each draw."""
    for edition in ("benchmark", "full"):
        generator = Generator.from_pretrained(edition=edition, device="cpu", precision=precision)
        yield from draws_of(generator, edition, RUNS)
    for layout in LAYOUTS:
        with tempfile.TemporaryDirectory() as folder:
            generator = Generator.from_pretrained(
                untrained(Path(folder) / layout, layout), device="cpu", precision=precision
            )
            yield from draws_of(generator, layout, ({"n": 2, "seed": 0, "contact": 0.0, "max_atoms": 12},))


def draws_of(generator: Generator, name: str, runs: tuple[dict[str, object], ...]) -> Iterator[dict[str, object]]:
    """Draws of all prompts of a generator, for each of some settings."""
    for run, options in enumerate(runs):
        config = SampleConfig(**options)
        prompts = [make_prompt(**{"formula": None, **asked}, name=str(place)) for place, asked in enumerate(PROMPTS)]
        if config.space_groups:
            prompts = [item for item, asked in zip(prompts, PROMPTS, strict=True) if asked.keys() == {"formula"}]
        for attempt in generator.attempts(prompts, config):
            yield {
                "id": f"{name} {run} {attempt.prompt.name} {attempt.number}",
                "text": attempt.text,
                "reason": attempt.reason,
                "scores": [float(score).hex() for score in attempt.token_log_probabilities],
            }


def untrained(folder: Path, layout_name: str) -> Path:
    """A checkpoint of a small model with random weights."""
    tokenizer = build_tokenizer(get_layout(layout_name))
    torch.manual_seed(0)
    ids = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    model = build_model(SMALL, vocab_size=len(tokenizer), **ids)
    save_checkpoint(folder, model, tokenizer, layout_name=layout_name, descriptions="canonical", provenance={}, card="")
    return folder


def read(file: Path) -> dict[str, dict[str, object]]:
    """Records by id."""
    if not file.is_file():
        raise InputError(f"there is no {file}; draw it first, without --against")
    records = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {record.pop("id"): record for record in records}


def main(argv: list[str]) -> None:
    """Draw, and compare with what was drawn before."""
    parser = argparse.ArgumentParser(prog="python -m studies.draws.record", description=main.__doc__)
    parser.add_argument("out", type=Path, help="JSONL file to write")
    parser.add_argument("--against", type=Path, metavar="FILE", help="what was drawn before")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    options = parser.parse_args(argv)
    write_text(options.out, "".join(json.dumps(record) + "\n" for record in drawn(options.precision)))
    new = read(options.out)
    print(f"{len(new)} draws in {options.precision}, {sum(not one['reason'] for one in new.values())} of them crystals")
    if options.against is None:
        return
    old = read(options.against)
    kinds = Counter(
        "missing" if name not in new else "equal" if new[name] == old[name]
        else "another text" if new[name]["text"] != old[name]["text"] else "other scores"
        for name in old
    )  # fmt: skip
    print(f"of {len(old)} on record:", ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()))


if __name__ == "__main__":
    run_program(main)
