"""`crystallm model`: bring models of other projects, hand checkpoints on and fetch them."""

from __future__ import annotations

import argparse
from importlib import import_module

COMMANDS = {
    "import": ("crystallm.model.import_published:import_command", "make a checkpoint of a published CrystaLLM model"),
    "push": ("crystallm.model.sharing:push_command", "copy a checkpoint to the hub or a folder, with a model card"),
    "pull": ("crystallm.model.sharing:pull_command", "fetch a checkpoint from the hub or a folder"),
}


def main(argv: list[str]) -> None:
    """Run one of the commands."""
    lines = "\n".join(f"  {name:8}{purpose}" for name, (_, purpose) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="crystallm model",
        description=f"commands:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS)
    module, function = COMMANDS[parser.parse_args(argv[:1]).command][0].split(":")
    getattr(import_module(module), function)(argv[1:])
