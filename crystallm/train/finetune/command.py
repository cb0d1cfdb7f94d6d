"""`crystallm train finetune FOLDER_OF_CIFS --out DIR`: teach a model your own crystals."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from crystallm.base.config import from_mapping, load_recipe, with_overrides
from crystallm.base.errors import ConfigError
from crystallm.base.launch import is_one_of_several
from crystallm.train.finetune.config import FinetuneConfig


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="crystallm train finetune",
        description="Prepare crystals, train the model that ships on them until the validation loss rises, and report "
        "what held-out compositions gain. Settings follow the number of crystals; see docs/explanation/finetune.md.",
    )
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="folder of CIFs, or whatever `crystallm data prepare` reads"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of everything that is made")
    parser.add_argument(
        "--model", metavar="DIR", help="checkpoint to start from, or the edition benchmark or full (default: benchmark)"
    )
    parser.add_argument("--recipe", type=Path, metavar="FILE", help="YAML file, such as train/finetune/lora.yaml")
    parser.add_argument("--replay", type=Path, metavar="DIR", help="prepared folder of general texts to replay")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field, such as learning_rate=3e-4"
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    return parser


def read_config(
    recipe: Path | None, overrides: Sequence[str], *, model: str | None, replay: Path | None
) -> FinetuneConfig:
    """The recipe with what the command line changes."""
    changes = list(overrides)
    if model is not None:
        changes.append(f"model={model}")
    if replay is not None:
        changes.append(f"replay={replay}")
    if recipe is not None:
        return load_recipe(FinetuneConfig, recipe, overrides=changes)
    return from_mapping(FinetuneConfig, with_overrides({}, changes), source="crystallm train finetune")


def main(argv: list[str]) -> None:
    """Run the command."""
    options = make_parser().parse_args(argv)
    config = read_config(options.recipe, options.set, model=options.model, replay=options.replay)
    if is_one_of_several():
        raise ConfigError("fine-tuning runs as one process; for several use `crystallm train` with start_from")
    from crystallm.train.finetune.finetuning import finetune

    logging.getLogger("crystallm.train.texts.corpus").setLevel(logging.WARNING)  # each file is read several times
    try:
        report = finetune(config, options.sources, options.out, resume=options.resume)
    except KeyboardInterrupt:
        print(f"stopped; what was done is kept in {options.out}: add --resume to continue", file=sys.stderr)
        raise
    from crystallm.train.finetune.report import summary

    print(summary(report))
    print(f"report: {options.out / 'report.md'}")
    print(f"use it: crystallm sample FORMULA --model {options.out / 'run' / 'best'}")
