"""`crystallm data`: turn crystal structures into text to train on."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from pathlib import Path
from typing import Any

DESCRIPTION = """Read crystal structures, refuse what cannot be used (with a reason), write the others as text, remove
duplicates and benchmark structures, and split. SOURCE is a folder, zip or tar of CIFs, a parquet with a `cif` column,
or with the columns of OPTIMADE and LeMat-Bulk, an ASE database, a JSON list of pymatgen structures, or the name of a
data set on the Hugging Face hub. An interrupted run continues when the same command is given again."""


def main(argv: list[str]) -> None:
    """Run `crystallm data prepare SOURCE [SOURCE ...] OUT`, or `templates`, `seen` or `check` in its place."""
    parsed = parser().parse_args(argv)
    if parsed.command == "templates":
        from crystallm.data.templates.writing import templates_command

        templates_command(parsed)
        return
    if parsed.command == "check":
        from crystallm.data.consistency.checking import check_command

        check_command(parsed)
        return
    if parsed.command == "seen":
        from crystallm.data.seen.writing import seen_command

        seen_command(parsed)
        return
    options = vars(parsed)
    del options["command"]
    from crystallm.base.config import from_mapping
    from crystallm.data.config import PrepareConfig
    from crystallm.data.preparing.preparation import prepare

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    config = from_mapping(PrepareConfig, options, source="crystallm data prepare")
    try:
        report = prepare(config)
    except KeyboardInterrupt:
        print(f"stopped; finished parts are kept in {config.out}: give the same command to continue", file=sys.stderr)
        raise
    counts = report["counts"]
    print(f"described {counts['described']}")
    for reason, number in counts["refused"].items():
        print(f"  refused, {reason}: {number}")
    if config.shard is not None:
        part, parts = config.shard
        print(f"part {part} of {parts} is complete; when all are: crystallm data prepare PART... OUT, same options")
        return
    print(f"duplicates taken out: {counts['duplicates']['taken_out']}")
    print(f"benchmark structures taken out: {counts['leakage']['taken_out']}")
    print("written: " + ", ".join(f"{name} {number}" for name, number in counts["written"].items()))
    print(f"report: {config.out / 'report.md'}; what was refused: {config.out / 'drops.jsonl'}")


def _part(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N, such as 2/8")
    return int(part), int(parts)


def parser() -> argparse.ArgumentParser:
    """The options of `crystallm data`; their defaults are those of PrepareConfig."""
    from crystallm.base.input_files import add_reading_options
    from crystallm.data.config import PrepareConfig
    from crystallm.data.consistency.checking import add_parser as add_check_parser
    from crystallm.data.seen.writing import add_parser as add_seen_parser
    from crystallm.data.templates.writing import add_parser as add_templates_parser

    root = argparse.ArgumentParser(prog="crystallm data", description="Prepare crystal structures for training.")
    commands = root.add_subparsers(dest="command", required=True)
    command = commands.add_parser("prepare", description=DESCRIPTION, help="structures to prepared text")
    add_templates_parser(commands)
    add_check_parser(commands)
    add_seen_parser(commands)

    def option(name: str, help_text: str, **settings: Any) -> None:
        settings.setdefault("help", help_text + " (default: %(default)s)")
        command.add_argument(f"--{name.replace('_', '-')}", default=defaults[name], **settings)

    defaults = {field.name: field.default for field in dataclasses.fields(PrepareConfig)}
    command.add_argument("sources", metavar="SOURCE", nargs="+", help="where structures come from")
    command.add_argument("out", metavar="OUT", type=Path, help="new folder for the prepared data")
    option("layout", "how a crystal is written as text")
    option("max_sites", "most atoms in the primitive cell", type=int, metavar="N")
    option("max_tokens", "longest text", type=int, metavar="N")
    option("min_distance_angstrom", "shortest distance between two atoms", type=float, metavar="D")
    option(
        "deduplicate",
        "compare crystals of equal formula, space group and size by the numbers in their text, and those left by the "
        "structure matcher",
        choices=("off", "text", "matcher"),
    )
    benchmark_help = "benchmark test files; what equals one of their structures is taken out"
    option("exclude_matching", benchmark_help, type=Path, nargs="+", metavar="FILE")
    option("exclude_level", "take out equal structures, or all of equal formula", choices=("structure", "formula"))
    option("split_column", "column of the source that says train, val or test; rows with another value are left out")
    option("val_fraction", "share of the formulas for val, without a split column", type=float, metavar="F")
    option("test_fraction", "share of the formulas for test, without a split column", type=float, metavar="F")
    option("seed", "draws another split by formula", type=int)
    option("rows_per_file", "write the training rows as a folder train of files this long", type=int, metavar="N")
    option(
        "shard",
        "describe only the i-th of every n crystals; the n folders, written by as many machines, are the SOURCEs of a "
        "last run with the same options that compares, filters and splits",
        type=_part,
        metavar="I/N",
    )
    add_reading_options(command)
    option("workers", "processes; all cores unless given; does not change the result", type=int, metavar="N")
    return root
