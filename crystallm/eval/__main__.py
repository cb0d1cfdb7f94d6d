"""`crystallm eval ...`: finds the measurement asked for and imports only that."""

from __future__ import annotations

import sys
from importlib import import_module

from crystallm.errors import ConfigError

COMMANDS = {
    "roundtrip": ("crystallm.eval.roundtrip", "write real crystals as text and back: what is refused, what is lost"),
    "validity": ("crystallm.eval.validity", "check anyone's CIFs: rates, denominators and reasons"),
    "denovo": ("crystallm.eval.denovo_command", "judge free samples: valid, unique, novel, stable"),
    "agreement": ("crystallm.eval.agreement", "compare the fast checks with the reference checks, corrupted CIFs too"),
    "select": ("crystallm.eval.select", "draw targets for structure prediction and write the prompts"),
    "readers": ("crystallm.eval.readers", "read every CIF with pymatgen, gemmi and ASE and compare"),
    "prediction": ("crystallm.eval.prediction", "score samples against targets: match rate, RMSE, validity, baseline"),
}


def help_text() -> str:
    """Return what `crystallm eval --help` prints."""
    lines = [f"  {name:12}{purpose}" for name, (_, purpose) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: crystallm eval COMMAND ...",
            "",
            "Measure crystals, ours or anyone's.",
            "",
            "commands:",
            *lines,
            "",
            "`crystallm eval COMMAND --help` lists the options; docs/eval.md explains the definitions.",
        ]
    )


def main(argv: list[str]) -> None:
    """Run one measurement."""
    match argv:
        case [] | ["-h" | "--help", *_]:
            print(help_text())
        case [name, *rest] if name in COMMANDS:
            import_module(COMMANDS[name][0]).main(rest)
        case [name, *_]:
            raise ConfigError(f"unknown command `eval {name}`; choose from {', '.join(COMMANDS)}")


if __name__ == "__main__":
    from crystallm.cli import main as cli

    sys.exit(cli(["eval", *sys.argv[1:]]))
