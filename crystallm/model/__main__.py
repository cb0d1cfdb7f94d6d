"""`crystallm model`: bring models of other projects."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

DESCRIPTION = """Read a model published by CrystaLLM (ckpt.pt, or the folder that holds it) or by CrystaLLM-pi (a folder
of the unconditional kind), and write a checkpoint folder that samples and trains like any other here."""


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    top = argparse.ArgumentParser(prog="crystallm model", description="Bring models of other projects.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    bring = commands.add_parser("import", help="make a checkpoint of a published model", description=DESCRIPTION)
    bring.add_argument("path", type=Path, metavar="PATH", help="ckpt.pt, or a folder")
    bring.add_argument("out", type=Path, metavar="OUT", help="checkpoint folder to write, new or empty")
    return top


def main(argv: list[str]) -> None:
    """Run `crystallm model import PATH OUT`."""
    options = parser().parse_args(argv)
    from crystallm.model.published import import_checkpoint

    model = import_checkpoint(options.path, options.out)
    print(f"imported {options.path.name}: layout {model.layout.name}, {model.layers} layers, width {model.hidden}")
    print(f"use it: crystallm sample TiO2 --model {options.out}")
    print("train it further with a recipe that says")
    print(f"  layout: {model.layout.name}")
    print(f"  start_from: {options.out}")
    print(
        f"  model: {{model_type: gpt2, layers: {model.layers}, hidden: {model.hidden}, heads: {model.heads}, "
        f"ffn: {4 * model.hidden}, context: {model.context}}}"
    )


if __name__ == "__main__":
    from crystallm.cli import main as cli

    sys.exit(cli(["model", *sys.argv[1:]]))
