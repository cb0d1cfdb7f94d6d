"""`crystallm train RECIPE --data FOLDER --out RUN`: train a model, or continue a run that was stopped."""

from pathlib import Path

from crystallm.base.command_line import Command, Group
from crystallm.train.config import TrainConfig
from crystallm.train.process import prepare_process

COMMANDS = {
    "finetune": ("crystallm.train.finetune.command", "teach a model your own crystals"),
    "merge": ("crystallm.train.optim.adapter", "add a LoRA adapter into the weights it was trained on"),
}


def train_model(
    config: TrainConfig,
    *,
    data: Path,
    out: Path,
    resume: bool = False,
    tokenizer: Path | None = None,
) -> None:
    """Train a model from a recipe, such as train/default.yaml, on a folder made by `crystallm data prepare`.

    Args:
        data: Prepared folder with train.parquet and val.parquet.
        out: Run directory to write.
        resume: Continue the run in --out from its last checkpoint.
        tokenizer: Tokenizer folder; by default built from the recipe's layout.
    """
    prepare_process()
    from crystallm.train.session import train
    from crystallm.train.state.peers import or_lost_peer

    with or_lost_peer(out):
        trained = train(config, data, out, resume=resume, tokenizer_folder=tokenizer)
    if trained.main:
        losses = f"{trained.last.per_token:.4f} a token, {trained.last.per_crystal:.2f} a crystal"
        print(f"last model: {trained.run.final}, validation loss {losses}")
        print(f"best model: {trained.run.best}, validation loss {trained.best_loss:.4f} a token")
        print(f"use it: crystallm sample TiO2 --model {trained.run.best}")


train_command = Command(
    train_model,
    "crystallm train",
    recipe="recipe",
    epilog="`crystallm train finetune --help`: your own crystals. `crystallm train merge --help`: LoRA adapters. "
    "On several processes: accelerate launch -m crystallm train RECIPE ... See docs/explanation/scale.md.",
)


main = Group(
    "crystallm train",
    "",
    COMMANDS,
    otherwise=train_command,
    moved={"sweep": "studies.scaling.sweep"},
)


if __name__ == "__main__":
    import sys

    from crystallm.cli import main as cli

    sys.exit(cli(["train", *sys.argv[1:]]))
