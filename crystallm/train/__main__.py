"""`crystallm train RECIPE --data FOLDER --out RUN`: train a model, or continue a run that was stopped."""

import argparse
import logging
import os
from importlib import import_module
from pathlib import Path

from crystallm.base.config import load_recipe
from crystallm.base.errors import ConfigError

COMMANDS = {
    "finetune": "crystallm.train.finetune.command:main",
    "merge": "crystallm.train.optim.adapter:main",
}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="crystallm train",
        description="Train a model from a recipe on a folder made by `crystallm data prepare`.",
        epilog="`crystallm train finetune --help`: your own crystals. `crystallm train merge --help`: LoRA adapters. "
        "On several processes: accelerate launch -m crystallm train RECIPE ... See docs/explanation/scale.md.",
    )
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="YAML file, such as train/default.yaml")
    parser.add_argument("--data", type=Path, required=True, help="prepared folder with train.parquet and val.parquet")
    parser.add_argument("--out", type=Path, required=True, help="run directory to write")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out from its last checkpoint")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer folder; by default built from the recipe's layout")
    parser.add_argument("--track", choices=["wandb", "trackio"], help="also log there; the recipe's field `track`")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field, such as model.layers=4"
    )
    return parser


def main(argv: list[str]) -> None:
    """Run the command, or one of those named by the first word."""
    if argv[:1] and argv[0] in COMMANDS:
        module, function = COMMANDS[argv[0]].split(":")
        prepare_process()
        getattr(import_module(module), function)(argv[1:])
        return
    if argv[:1] == ["sweep"]:
        raise ConfigError(
            "`crystallm train sweep` has left the package; in a clone, run `python -m studies.scaling.sweep`"
        )
    options = make_parser().parse_args(argv)
    from crystallm.train.config import TrainConfig

    tracked = [f"track={options.track}"] if options.track else []
    config = load_recipe(TrainConfig, options.recipe, overrides=[*options.set, *tracked])
    prepare_process()
    from crystallm.train.session import train
    from crystallm.train.state.peers import or_lost_peer

    with or_lost_peer(options.out):
        trained = train(config, options.data, options.out, resume=options.resume, tokenizer_folder=options.tokenizer)
    if trained.main:
        losses = f"{trained.last.per_token:.4f} a token, {trained.last.per_crystal:.2f} a crystal"
        print(f"last model: {trained.run.final}, validation loss {losses}")
        print(f"best model: {trained.run.best}, validation loss {trained.best_loss:.4f} a token")
        print(f"use it: crystallm sample TiO2 --model {trained.run.best}")


def prepare_process() -> None:
    """Set what libraries read when they are loaded, and leave the terminal to our own messages."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive the fork of data workers
    # Read when torch is loaded. Threads that spin while they wait starve each other on a busy machine (docs: scale).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    quiet_libraries()


def quiet_libraries() -> None:
    """Leave the terminal to our own progress bar and messages."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    for name in ("accelerate", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Warns at each save that tied embeddings are stored once, as they should be.
    logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)


if __name__ == "__main__":
    import sys

    from crystallm.cli import main as cli

    sys.exit(cli(["train", *sys.argv[1:]]))
