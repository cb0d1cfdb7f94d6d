"""`crystallm train finetune FOLDER_OF_CIFS --out DIR`: teach a model your own crystals."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from crystallm.base.command_line import Command
from crystallm.base.errors import ConfigError
from crystallm.base.launch import is_one_of_several
from crystallm.train.finetune.config import FinetuneConfig
from crystallm.train.process import prepare_process


def finetune_model(sources: tuple[str, ...], config: FinetuneConfig, *, out: Path, resume: bool = False) -> None:
    """Prepare crystals, train the model that ships on them until the validation loss rises, and report what held-out
    compositions gain. Settings follow the number of crystals; see docs/explanation/finetune.md.

    Args:
        sources: Folders of CIFs, or whatever `crystallm data prepare` reads.
        out: Folder of everything that is made.
        resume: Continue the run in --out.
    """
    if is_one_of_several():
        raise ConfigError("fine-tuning runs as one process; for several use `crystallm train` with start_from")
    prepare_process()
    from crystallm.train.finetune.finetuning import finetune
    from crystallm.train.finetune.report import summary

    logging.getLogger("crystallm.train.texts.corpus").setLevel(logging.WARNING)  # each file is read several times
    try:
        report = finetune(config, sources, out, resume=resume)
    except KeyboardInterrupt:
        print(f"stopped; what was done is kept in {out}: add --resume to continue", file=sys.stderr)
        raise
    print(summary(report))
    print(f"report: {out / 'report.md'}")
    print(f"use it: crystallm sample FORMULA --model {out / 'run' / 'best'}")


main = Command(finetune_model, "crystallm train finetune", recipe="--recipe")
