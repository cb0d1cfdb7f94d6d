"""`crystallm sample`: make crystals of a formula."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystallm.errors import ConfigError, InputError
from crystallm.launch import is_one_of_several, launch_command, launch_environment, run_command
from crystallm.sample.config import SampleConfig

if TYPE_CHECKING:
    from crystallm.sample.prompts import NamedPrompt

DESCRIPTION = """Make crystals of each FORMULA (without one: of any composition), rank the distinct ones by
log-probability, check them, and write them as CIF files. A killed run continues when the same command is given
again."""


def main(argv: list[str]) -> None:
    """Run `crystallm sample [FORMULA ...]`."""
    options = parser().parse_args(argv)
    config = read_config(options)
    # What can be refused is refused before torch is imported and the model loaded.
    from crystallm.model.checkpoint import default_folder, read_about

    model = options.model or default_folder()
    about = read_about(model)
    prompts = read_all_prompts(options, config)
    if options.processes > 1 and not is_one_of_several():
        run_together(argv, options.processes)
        return
    from crystallm.sample.run import run

    run(
        prompts,
        config,
        model=model,
        layout_name=about["layout"],
        out=options.out,
        prompts_file=options.prompts,
        merge=options.merge,
        checks=options.checks,
        device=options.device,
        precision=options.precision,
    )


def run_together(argv: Sequence[str], processes: int) -> None:
    """The same command as several processes, which share the prompts; their exit code is ours."""
    command = launch_command("crystallm.sample", argv, processes=processes)
    if code := run_command(command, env=dict(launch_environment(processes))):
        raise SystemExit(code)


def read_config(options: argparse.Namespace) -> SampleConfig:
    """The recipe, or the defaults, with the options that were given."""
    from crystallm.config import load_recipe

    config = load_recipe(SampleConfig, options.recipe) if options.recipe else SampleConfig()
    given = {field.name: getattr(options, field.name) for field in fields(SampleConfig)}
    return replace(config, **{name: value for name, value in given.items() if value is not None})


def positive(text: str) -> int:
    """A whole number from 1 on, as argparse reads it."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def read_all_prompts(options: argparse.Namespace, config: SampleConfig) -> list[NamedPrompt]:
    """The prompts of a command line, each possible within the limits."""
    from crystallm.sample.bounds import Limits
    from crystallm.sample.constraint import check_prompt
    from crystallm.sample.prompts import make_prompt, read_prompts
    from crystallm.sample.search import check_search

    if options.prompts is not None:
        given = [*options.formulas, *(x for x in (options.space_group, options.formula_units) if x is not None)]
        if given:
            raise ConfigError(
                f"--prompts already says what to make, but {given[0]!r} was given too; put it into the file"
            )
        prompts = read_prompts(options.prompts)
    else:
        asked = {"formula_units": options.formula_units, "space_group": options.space_group}
        prompts = [make_prompt(formula, **asked) for formula in options.formulas or [None]]
    names = [item.name for item in prompts]
    for item in prompts:
        if names.count(item.name) > 1:
            raise InputError(f"{item.name} is asked for more than once; raise -n to draw more crystals of it")
        check_prompt(item.prompt, Limits(max_atoms=config.max_atoms))
        check_search(item.prompt, config)
    return prompts


def parser() -> argparse.ArgumentParser:
    """The options of `crystallm sample`; defaults are those of SampleConfig."""
    command = argparse.ArgumentParser(prog="crystallm sample", description=DESCRIPTION)
    defaults = {field.name: field.default for field in fields(SampleConfig)}

    def setting(*flags: str, name: str, text: str, **more: Any) -> None:
        command.add_argument(*flags, dest=name, help=f"{text} (default: {defaults[name]})", **more)

    command.add_argument("formulas", metavar="FORMULA", nargs="*", help="such as TiO2 or 'Ca(OH)2'")
    command.add_argument("--space-group", metavar="SG", help="number or Hermann-Mauguin symbol: 136 or P4_2/mnm")
    command.add_argument(
        "--formula-units", type=int, metavar="Z", help="formula units in the primitive cell (not the conventional one)"
    )
    command.add_argument("--prompts", type=Path, metavar="FILE", help="prompts as JSONL instead; see docs/sample.md")
    setting("-n", "--n", name="n", text="draws for each prompt", type=int, metavar="N")
    setting("--temperature", name="temperature", text="below 1 favours what is probable", type=float, metavar="T")
    setting("--top-k", name="top_k", text="draw among the K most probable tokens only; 0: all", type=int, metavar="K")
    setting("--top-p", name="top_p", text="draw among the most probable tokens of this share", type=float, metavar="P")
    setting(
        "--repeat",
        name="repeat",
        text="chance left to a protostructure already drawn for a formula; 1: independent draws, 0: all different",
        type=float,
        metavar="R",
    )
    setting("--seed", name="seed", text="another seed draws other crystals", type=int, metavar="S")
    setting(
        "--batch-size", name="batch_size", text="crystals drawn at a time; does not change them", type=int, metavar="B"
    )
    setting("--max-atoms", name="max_atoms", text="most atoms in the primitive cell", type=int, metavar="N")
    setting(
        "--contact",
        name="contact",
        text="draw sites again that come closer to another atom than this part of their radii; 0: below 0.5 A only",
        type=float,
        metavar="F",
    )
    setting(
        "--guide",
        name="guide",
        text="weight of known crystals of similar elements that draws of a formula may follow; 0: the model alone",
        type=float,
        metavar="W",
    )
    setting(
        "--bond-tries",
        name="bond_tries",
        text="draw a crystal with a bond of unreasonable length again, up to N times; 0: never",
        type=int,
        metavar="N",
    )
    setting(
        "--space-groups",
        name="space_groups",
        text="top:K spreads the draws over the K most probable space groups, top:K:even evenly",
        metavar="top:K",
    )
    setting("--units", name="units", text="the same over formula units of the primitive cell", metavar="top:K")
    command.add_argument("--recipe", type=Path, metavar="FILE", help="YAML with these settings; options go before it")
    command.add_argument("--model", type=Path, metavar="DIR", help="checkpoint folder (default: the packaged model)")
    command.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:1 (default: cuda if there is one)")
    command.add_argument(
        "--precision",
        choices=["fp32", "bf16"],
        help="of the model's matrix products (default: bf16 where the hardware multiplies it, else fp32)",
    )
    command.add_argument(
        "--processes",
        type=positive,
        default=1,
        metavar="N",
        help="processes that share the prompts and the cores, for many formulas on a CPU (default: %(default)s)",
    )
    command.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (default: crystals/PROMPT)")
    command.add_argument(
        "--checks", action=argparse.BooleanOptionalAction, default=True, help="check the ranked crystals (default: yes)"
    )
    command.add_argument(
        "--merge",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="make one of equal crystals, found by the structure matcher (default: yes)",
    )
    return command


if __name__ == "__main__":
    from crystallm.cli import main as cli

    sys.exit(cli(["sample", *sys.argv[1:]]))
