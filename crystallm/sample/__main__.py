"""`crystallm sample`: make crystals of a formula."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystallm.base.errors import ConfigError, InputError
from crystallm.base.launch import is_one_of_several, launch_command, launch_environment, run_command
from crystallm.sample.config import AnswerConfig, SampleConfig

if TYPE_CHECKING:
    from crystallm.sample.prompts import NamedPrompt

DESCRIPTION = """Crystals of each FORMULA (without one: of any composition): known ones as they are, and new ones that
the model draws and a potential relaxes. They are ranked by the chance that nature makes them, checked, and written as
files. A killed run continues when the same command is given again."""

COLUMNS = """columns of the table:
  chance %        that this is the structure (--question); what is missing to 100 is the chance that it is none of these
  phase           space group, with its number in the International Tables
  Z               formula units in the conventional cell
  g/cm3           density
  meV above hull  energy per atom above the most stable mixture of known crystals, by the potential; 0: stable
  draws           draws that gave this crystal; 0: known, and not drawn
  origin          a database id: known, observed or only computed; `like X`: follows the known crystal X with other
                  elements; `new`: follows none
  checks          valid: formula, symmetry and bond lengths are in order; else the first check that failed"""


def main(argv: list[str]) -> None:
    """Run `crystallm sample [FORMULA ...]`."""
    options = parser().parse_args(argv)
    config, answers = read_config(options), read_answers(options)
    # What can be refused is refused before torch is imported and the model loaded.
    from crystallm.model.checkpoint import default_folder, read_about
    from crystallm.sample.output.writer import OutputConfig
    from crystallm.sample.prompts import with_unseen

    if options.model is not None and options.edition is not None:
        raise ConfigError(f"--model {options.model} and --edition {options.edition} name two models; give one of them")
    output = OutputConfig(checks=options.checks, formats=tuple(options.format or ["cif"]), lattice=options.lattice)
    model = options.model or default_folder(options.edition or "full")
    about = read_about(model)
    check_answers(answers, options.formulas, options.prompts)
    prompts = [with_unseen(item, about.get("elements")) for item in read_all_prompts(options, config)]
    if options.processes > 1 and not is_one_of_several():
        run_together(argv, options.processes)
        return
    from crystallm.sample.run import run

    run(
        prompts,
        config,
        model=model,
        layout_name=about["layout"],
        answers=answers,
        output=output,
        out=options.out,
        prompts_file=options.prompts,
        device=options.device,
        precision=options.precision,
        decoder=options.decoder,
    )


def run_together(argv: Sequence[str], processes: int) -> None:
    """The same command as several processes, which share the prompts; their exit code is ours."""
    command = launch_command("crystallm.sample", argv, processes=processes)
    if code := run_command(command, env=dict(launch_environment(processes))):
        raise SystemExit(code)


def read_config(options: argparse.Namespace) -> SampleConfig:
    """The recipe, or the defaults, with the options that were given."""
    from crystallm.base.config import load_recipe

    config = load_recipe(SampleConfig, options.recipe) if options.recipe else SampleConfig()
    given = {field.name: getattr(options, field.name) for field in fields(SampleConfig)}
    return replace(config, **{name: value for name, value in given.items() if value is not None})


def read_answers(options: argparse.Namespace) -> AnswerConfig:
    """What is made of the draws, by the options."""
    if options.known_only and options.generated_only:
        raise ConfigError("--known-only and --generated-only leave nothing; give one of them")
    return AnswerConfig(
        known="only" if options.known_only else "none" if options.generated_only else "beside",
        energies=options.energies,
        relax=options.relax,
        potential=options.potential,
        question=options.question,
        merge=options.merge,
        search=options.search,
    )


def check_answers(answers: AnswerConfig, formulas: Sequence[str], prompts: Path | None) -> None:
    """What cannot be answered is refused before anything is loaded. Raises ConfigError."""
    if answers.known == "only" and not formulas and prompts is None:
        raise ConfigError("--known-only looks crystals up by their formula; give at least one FORMULA")
    if answers.energies and answers.potential != AnswerConfig.potential:
        from crystallm.energy.potentials.protocol import require

        require(answers.potential)


def positive(text: str) -> int:
    """A whole number from 1 on, as argparse reads it."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def read_all_prompts(options: argparse.Namespace, config: SampleConfig) -> list[NamedPrompt]:
    """The prompts of a command line, each possible within the limits."""
    from crystallm.sample.grammar.limits import Limits
    from crystallm.sample.grammar.symmetry_search import check_search
    from crystallm.sample.prompts import make_prompt, read_prompts, within

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
        check_search(item.prompt, config)
    return [within(item, Limits(max_atoms=config.max_atoms)) for item in prompts]


def parser() -> argparse.ArgumentParser:
    """The options of `crystallm sample`; defaults are those of SampleConfig."""
    command = argparse.ArgumentParser(
        prog="crystallm sample",
        description=DESCRIPTION,
        epilog=COLUMNS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    defaults = {field.name: field.default for field in fields(SampleConfig)}

    def setting(*flags: str, name: str, text: str, **more: Any) -> None:
        command.add_argument(*flags, dest=name, help=f"{text} (default: {defaults[name]})", **more)

    command.add_argument("formulas", metavar="FORMULA", nargs="*", help="such as TiO2 or 'Ca(OH)2'")
    command.add_argument("--space-group", metavar="SG", help="number or Hermann-Mauguin symbol: 136 or P4_2/mnm")
    command.add_argument(
        "--formula-units", type=int, metavar="Z", help="formula units in the primitive cell (not the conventional one)"
    )
    prompts = "prompts as JSONL instead; see docs/explanation/sample.md"
    command.add_argument("--prompts", type=Path, metavar="FILE", help=prompts)
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
        "--symmetry-path",
        name="symmetry_path",
        text="who tells whether a draw has more symmetry than it was written in: operations counted, or spglib",
        choices=["fast", "reference"],
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
    command.add_argument("--model", type=Path, metavar="DIR", help="checkpoint folder (default: the packaged edition)")
    command.add_argument(
        "--edition",
        choices=["full", "benchmark"],
        help="packaged model: `full` knows all crystals at hand, `benchmark` none of the test sets (default: full)",
    )
    _add_answers(command)
    command.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:1 (default: cuda if there is one)")
    command.add_argument(
        "--precision",
        choices=["fp32", "bf16"],
        help="of the model's matrix products (default: bf16 where the hardware multiplies it, else fp32)",
    )
    command.add_argument(
        "--decoder",
        choices=["compiled", "torch"],
        default="compiled",
        help="what computes the model's steps: compiled for the device, or torch, the reference (default: %(default)s)",
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
        "--checks",
        choices=["fast", "reference", "none"],
        default="fast",
        help="how the ranked crystals are checked; reference: by pymatgen, spglib and CrystalNN (default: %(default)s)",
    )
    command.add_argument("--no-checks", dest="checks", action="store_const", const="none", help="the same as none")
    command.add_argument(
        "--merge",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="make one of equal crystals and of slightly distorted copies (default: yes)",
    )
    command.add_argument(
        "--format",
        action="append",
        choices=["cif", "poscar", "extxyz", "json"],
        help="of the files; give it again for more formats; json is pymatgen's (default: cif)",
    )
    command.add_argument("--lattice", action="store_true", help="show the lattice in the table")
    return command


def _add_answers(command: argparse.ArgumentParser) -> None:
    """Options of what is made of the draws; defaults are those of AnswerConfig."""
    from crystallm.energy.potentials.protocol import POTENTIALS

    command.add_argument(
        "--known-only", action="store_true", help="look up the known crystals of the formula, draw nothing"
    )
    command.add_argument("--generated-only", action="store_true", help="leave the known crystals out")
    command.add_argument(
        "--energies",
        action=argparse.BooleanOptionalAction,
        default=AnswerConfig.energies,
        help="let a potential judge the crystals (default: yes)",
    )
    command.add_argument(
        "--relax",
        action=argparse.BooleanOptionalAction,
        default=AnswerConfig.relax,
        help="relax drawn crystals in their space group (default: yes); as drawn they stand in samples.jsonl",
    )
    command.add_argument(
        "--potential",
        default=AnswerConfig.potential,
        metavar="NAME",
        help=POTENTIALS,
    )
    command.add_argument(
        "--question",
        choices=["nature", "database"],
        default=AnswerConfig.question,
        help="what the chance is of: the structure that nature makes, or that of a database row (default: %(default)s)",
    )
    command.add_argument(
        "--search",
        type=int,
        default=AnswerConfig.search,
        metavar="N",
        help="spend N more energy evaluations on a search guided by energies (default: %(default)s)",
    )


if __name__ == "__main__":
    from crystallm.cli import main as cli

    sys.exit(cli(["sample", *sys.argv[1:]]))
