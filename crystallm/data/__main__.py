"""`crystallm data`: turn crystal structures into text to train on."""

from __future__ import annotations

import logging
import sys

from crystallm.base.command_line import Command, Group
from crystallm.data.config import PrepareConfig

COMMANDS = {
    "prepare": ("crystallm.data.__main__:prepare_command", "structures to prepared text"),
    "templates": ("crystallm.data.templates.writing", "known crystals that draws may follow, for a checkpoint"),
    "check": ("crystallm.data.consistency.checking", "rows of a table that contradict themselves"),
    "seen": ("crystallm.data.seen.writing", "what a checkpoint has seen, for one that does not say"),
}

main = Group("crystallm data", "Prepare crystal structures for training.", COMMANDS)


def prepare_data(config: PrepareConfig) -> None:
    """Read crystal structures, refuse what cannot be used (with a reason), write the others as text, remove duplicates
    and benchmark structures, and split.

    SOURCE is a folder, zip or tar of CIFs, a parquet with a `cif` column, or with the columns of OPTIMADE and
    LeMat-Bulk, an ASE database, a JSON list of pymatgen structures, or the name of a data set on the Hugging Face hub.
    An interrupted run continues when the same command is given again.
    """
    from crystallm.data.preparing.preparation import prepare

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
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


prepare_command = Command(prepare_data, "crystallm data prepare")
