"""`crystallm train RECIPE --data FOLDER --out RUN`: train a model, or continue a run that was stopped."""

import argparse
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from crystallm.config import load_recipe
from crystallm.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from crystallm.train.config import TrainConfig
    from crystallm.train.loop import EvaluationLoss
    from crystallm.train.schedule import Position

logger = logging.getLogger(__name__)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="crystallm train",
        description="Train a model from a recipe on a folder made by `crystallm data prepare`.",
        epilog="On several processes: accelerate launch -m crystallm train RECIPE ... See docs/train.md.",
    )
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="YAML file, such as train/default.yaml")
    parser.add_argument("--data", type=Path, required=True, help="prepared folder with train.parquet and val.parquet")
    parser.add_argument("--out", type=Path, required=True, help="run directory to write")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out from its last checkpoint")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer folder; by default built from the recipe's layout")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field, such as model.layers=4"
    )
    return parser


def main(argv: list[str]) -> None:
    """Run the command."""
    options = make_parser().parse_args(argv)
    from crystallm.train.config import TrainConfig

    config = load_recipe(TrainConfig, options.recipe, overrides=options.set)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    quiet_libraries()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive the fork of data workers
    # Read when torch is loaded. Threads that spin while they wait starve each other on a busy machine (docs/train.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    train(config, options.data, options.out, resume=options.resume, tokenizer_folder=options.tokenizer)


def take_weights(model: "PreTrainedModel", start_from: str, *, layout_name: str) -> None:
    """Copy the weights of a checkpoint folder (`default`: the model that ships) into a model of the same shape.

    Raises CheckpointError if there is no such checkpoint, or if it has another layout or architecture.
    """
    from crystallm.model.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(None if start_from == "default" else start_from)
    weights = checkpoint.model.state_dict()
    theirs = {name: tuple(value.shape) for name, value in weights.items()}
    ours = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if checkpoint.layout_name != layout_name or theirs != ours:
        raise CheckpointError(
            f"start_from={start_from}: its layout or architecture is not the recipe's; "
            f"give the recipe the `layout` and `model` of the checkpoint, see config.json in {checkpoint.folder.name}"
        )
    model.load_state_dict(weights)


def train(
    config: "TrainConfig", data: Path, out: Path, *, resume: bool = False, tokenizer_folder: Path | None = None
) -> None:
    """Train by `config` on the prepared folder `data`, writing the run directory `out`."""
    import torch
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    from crystallm.model.architecture import build_model, count_parameters
    from crystallm.model.checkpoint import save_checkpoint
    from crystallm.provenance import provenance
    from crystallm.train.corpus import load_corpus
    from crystallm.train.loop import Trainer
    from crystallm.train.memory import keep_freed_memory
    from crystallm.train.report import draw_loss, model_card
    from crystallm.train.run import RunFolder

    run = RunFolder(out)
    keep_freed_memory()
    # Without being told, Accelerate takes processes started together on CPUs for runs of their own.
    accelerator = Accelerator(
        mixed_precision="bf16" if config.precision == "bf16" else "no", cpu=not torch.accelerator.is_available()
    )
    if accelerator.is_main_process:
        run.start(config, resume=resume)
    else:
        logging.disable(logging.INFO)
    accelerator.wait_for_everyone()
    tokenizer = load_tokenizer(config.layout, tokenizer_folder)
    augmented = config.descriptions == "augmented"
    limit = config.longest_text
    train_corpus = load_corpus(data / "train.parquet", tokenizer, max_tokens=limit, keep_texts=augmented)
    val_corpus = load_corpus(data / "val.parquet", tokenizer, max_tokens=limit)
    set_seed(config.seed)
    on_cpu = accelerator.device.type == "cpu"
    attention = config.attention if config.attention != "auto" else "eager" if on_cpu else "sdpa"
    model = build_model(
        config.model,
        vocab_size=len(tokenizer),
        bos=tokenizer.bos_token_id,
        eos=tokenizer.eos_token_id,
        pad=tokenizer.pad_token_id,
        attention=attention,
    )
    if config.start_from is not None:
        take_weights(model, config.start_from, layout_name=config.layout)
    facts = {
        "parameters": count_parameters(model),
        "processes": accelerator.num_processes,
        "train_texts": len(train_corpus),
        "train_tokens": len(train_corpus.ids),
        "train_left_out": train_corpus.left_out,
        "val_texts": len(val_corpus),
        "val_left_out": val_corpus.left_out,
    }
    logger.info("%s with %s parameters", config.model.model_type, f"{facts['parameters']:,}")
    origin = provenance(config, inputs=[data / "train.parquet", data / "val.parquet"])
    if accelerator.is_main_process:
        run.describe(config, origin)

    def export(model: "PreTrainedModel", position: "Position", loss: "EvaluationLoss", last: bool) -> None:
        measured = facts | {
            "steps": position.step,
            "epochs": position.tokens / (facts["train_tokens"] - facts["train_texts"]),
            "tokens_seen": position.tokens,
            "hours": position.seconds / 3600,
            "loss_per_token": loss.per_token,
            "loss_per_crystal": loss.per_crystal,
        }
        save_checkpoint(
            run.final if last else run.best,
            model,
            tokenizer,
            layout_name=config.layout,
            descriptions=config.descriptions,
            provenance=origin | {"training": measured},
            card=model_card(config, measured),
            dtype=torch.bfloat16 if config.weights == "bf16" else torch.float32,
        )
        draw_loss(run.lines(), run.path / "loss.png")

    trainer = Trainer(config, accelerator, model, tokenizer, run, train=train_corpus, val=val_corpus, export=export)
    loss = trainer.fit(resume=resume)
    if accelerator.is_main_process:
        losses = f"{loss.per_token:.4f} a token, {loss.per_crystal:.2f} a crystal"
        print(f"last model: {run.final}, validation loss {losses}")
        print(f"best model: {run.best}, validation loss {trainer.best_loss:.4f} a token")
        print(f"use it: crystallm sample TiO2 --model {run.best}")
    if accelerator.num_processes > 1:
        accelerator.end_training()


def quiet_libraries() -> None:
    """Leave the terminal to our own progress bar and messages."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    for name in ("accelerate", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Warns at each save that tied embeddings are stored once, as they should be.
    logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)


def load_tokenizer(layout_name: str, folder: Path | None) -> "PreTrainedTokenizerFast":
    """Load the tokenizer in `folder`, or build the one that belongs to the layout."""
    if folder is None:
        from crystallm.crystal.layout import get_layout
        from crystallm.tokenizer import build_tokenizer

        return build_tokenizer(get_layout(layout_name))
    from transformers import AutoTokenizer

    from crystallm.errors import InputError

    if not (folder / "tokenizer.json").is_file():
        raise InputError(f"there is no {folder / 'tokenizer.json'}; give a tokenizer folder or leave out --tokenizer")
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


if __name__ == "__main__":
    import sys

    from crystallm.cli import main as cli

    sys.exit(cli(["train", *sys.argv[1:]]))
