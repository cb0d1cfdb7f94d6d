"""A warm-up-stable-decay run goes on from where its decay began: that checkpoint is kept beside the last ones.

A decay is short and is thrown away when the run is continued: with a larger budget the rate is stable again, and must
act on weights that have not been decayed (Hägele et al., arXiv:2405.18392).
"""

import logging
import shutil
from pathlib import Path

from accelerate import Accelerator

from crystallm.base.provenance import write_json
from crystallm.train.config import TrainConfig
from crystallm.train.schedule import Position, decaying
from crystallm.train.state.run_folder import RunFolder

logger = logging.getLogger(__name__)


def mark(run: RunFolder, position: Position) -> None:
    """Keep the checkpoint of this position, which is about to be written, from being deleted as an old one."""
    write_json(run.before_decay, {"step": position.step})


def has_begun(run: RunFolder, position: Position) -> bool:
    """Return whether a run that stands at `position` has a checkpoint from before its decay."""
    began = run.decay_step  # later than the position where a kill came between the mark and its checkpoint
    return began is not None and began <= position.step


def before_decay(
    config: TrainConfig, run: RunFolder, position: Position, done: float, accelerator: Accelerator
) -> Path | None:
    """Return the checkpoint from before the decay, if the budget the run has now puts off the decay it stands in.

    All processes call this together; the main one removes what came after that checkpoint.
    """
    began = run.decay_step
    back = began is not None and position.step > began and not decaying(config, done)
    kept = None if began is None else run.checkpoint_of(began)
    accelerator.wait_for_everyone()  # all have read what the main process is about to change
    if not back:
        return None
    if kept is None:
        logger.warning("the checkpoint of step %s, before the decay, is gone: the rate rises on decayed weights", began)
        return None
    if accelerator.is_main_process:
        go_back(run)
    accelerator.wait_for_everyone()
    return kept


def go_back(run: RunFolder) -> None:
    """Return to the state before the decay: later checkpoints go, the decayed model and its metrics are set aside.

    Killed half way, the same call finishes what is left to do.
    """
    began = run.decay_step
    assert began is not None
    later = run.later(began)
    if later:
        aside = set_aside(run, run.step_of(later[-1]))
        logger.info("the stable phase goes on from step %d; the model decayed from there is in %s", began, aside)
    for checkpoint in later:  # the last one, by which the need is noticed, goes last
        shutil.rmtree(checkpoint)
    run.before_decay.unlink()


def set_aside(run: RunFolder, step: int) -> Path:
    """Move the model at the end of a decay, and a copy of the metrics, into a folder of their own."""
    aside = run.path / f"decayed-{step:08d}"
    if run.final.is_dir() and not aside.exists():
        run.final.rename(aside)
    if aside.is_dir():
        shutil.copy(run.metrics, aside / run.metrics.name)
    return aside
