"""`crystallm sample`: make crystals of a formula."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from crystallm.base.command_line import Command, Option
from crystallm.base.errors import ConfigError, InputError
from crystallm.base.launch import is_one_of_several, launch_command, launch_environment, run_command
from crystallm.sample.config import AnswerConfig, OutputConfig, SampleConfig

if TYPE_CHECKING:
    from crystallm.sample.prompts import NamedPrompt

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


def make_crystals(
    config: SampleConfig,
    answers: AnswerConfig,
    output: OutputConfig,
    formulas: tuple[str, ...] = (),
    *,
    space_group: Annotated[str | None, Option(metavar="SG")] = None,
    formula_units: Annotated[int | None, Option(metavar="Z")] = None,
    prompts: Annotated[Path | None, Option(metavar="FILE")] = None,
    model: Path | None = None,
    edition: Literal["full", "benchmark"] | None = None,
    known_only: bool = False,
    generated_only: bool = False,
    device: str | None = None,
    precision: Literal["fp32", "bf16"] | None = None,
    decoder: Literal["compiled", "torch"] = "compiled",
    processes: int = 1,
    out: Path | None = None,
    no_checks: bool = False,
    argv: Sequence[str] = (),
) -> None:
    """Crystals of each FORMULA (without one: of any composition): known ones as they are, and new ones that the model
    draws and a potential relaxes.

    They are ranked by the chance that nature makes them, checked, and written as files. A killed run continues when the
    same command is given again.

    Args:
        formulas: Such as TiO2 or 'Ca(OH)2'.
        space_group: Number or Hermann-Mauguin symbol: 136 or P4_2/mnm.
        formula_units: Formula units in the primitive cell (not the conventional one).
        prompts: Prompts as JSONL instead; see docs/explanation/sample.md.
        model: Checkpoint folder; by default the packaged edition.
        edition: Packaged model: `full` knows all crystals at hand, `benchmark` none of the test sets (default: full).
        known_only: Look up the known crystals of the formula, draw nothing.
        generated_only: Leave the known crystals out.
        device: Such as cpu, cuda or cuda:1 (default: cuda if there is one).
        precision: Of the model's matrix products (default: bf16 where the hardware multiplies it, else fp32).
        decoder: What computes the model's steps: compiled for the device, or torch, the reference.
        processes: Processes that share the prompts and the cores, for many formulas on a CPU.
        out: Folder for the results (default: crystals/PROMPT).
        no_checks: The same as `--checks none`.
        argv: The command line.
    """
    # What can be refused is refused before torch is imported and the model loaded.
    from crystallm.model.checkpoint import default_folder, read_about
    from crystallm.sample.prompts import with_unseen

    if processes < 1:
        raise ConfigError(f"--processes: '{processes}' is not a whole number from 1 on")
    if known_only and generated_only:
        raise ConfigError("--known-only and --generated-only leave nothing; give one of them")
    if known_only or generated_only:
        answers = replace(answers, known="only" if known_only else "none")
    if no_checks:
        output = replace(output, checks="none")
    if model is not None and edition is not None:
        raise ConfigError(f"--model {model} and --edition {edition} name two models; give one of them")
    model = model or default_folder(edition or "full")
    about = read_about(model)
    check_answers(answers, formulas, prompts)
    asked = read_all_prompts(formulas, prompts, config, space_group=space_group, formula_units=formula_units)
    named = [with_unseen(item, about.get("elements")) for item in asked]
    if processes > 1 and not is_one_of_several():
        run_together(argv, processes)
        return
    from crystallm.sample.run import run

    run(
        named,
        config,
        model=model,
        layout_name=about["layout"],
        answers=answers,
        output=output,
        out=out,
        prompts_file=prompts,
        device=device,
        precision=precision,
        decoder=decoder,
    )


def run_together(argv: Sequence[str], processes: int) -> None:
    """The same command as several processes, which share the prompts; their exit code is ours."""
    command = launch_command("crystallm.sample", argv, processes=processes)
    if code := run_command(command, env=dict(launch_environment(processes))):
        raise SystemExit(code)


def check_answers(answers: AnswerConfig, formulas: Sequence[str], prompts: Path | None) -> None:
    """What cannot be answered is refused before anything is loaded. Raises ConfigError."""
    if answers.known == "only" and not formulas and prompts is None:
        raise ConfigError("--known-only looks crystals up by their formula; give at least one FORMULA")
    if answers.energies and answers.potential != AnswerConfig.potential:
        from crystallm.energy.potentials.protocol import require

        require(answers.potential)


def read_all_prompts(
    formulas: Sequence[str],
    file: Path | None,
    config: SampleConfig,
    *,
    space_group: str | None = None,
    formula_units: int | None = None,
) -> list[NamedPrompt]:
    """The prompts of a command line, each possible within the limits."""
    from crystallm.sample.grammar.limits import Limits
    from crystallm.sample.grammar.symmetry_search import check_search
    from crystallm.sample.prompts import make_prompt, read_prompts, within

    if file is not None:
        given = [*formulas, *(x for x in (space_group, formula_units) if x is not None)]
        if given:
            raise ConfigError(
                f"--prompts already says what to make, but {given[0]!r} was given too; put it into the file"
            )
        prompts = read_prompts(file)
    else:
        wanted: Sequence[str | None] = formulas or [None]
        prompts = [make_prompt(name, formula_units=formula_units, space_group=space_group) for name in wanted]
    names = [item.name for item in prompts]
    for item in prompts:
        if names.count(item.name) > 1:
            raise InputError(f"{item.name} is asked for more than once; raise -n to draw more crystals of it")
        check_search(item.prompt, config)
    return [within(item, Limits(max_atoms=config.max_atoms)) for item in prompts]


main = Command(make_crystals, "crystallm sample", recipe="--recipe", epilog=COLUMNS)


if __name__ == "__main__":
    from crystallm.cli import main as cli

    sys.exit(cli(["sample", *sys.argv[1:]]))
