"""Learning rate and end of training: pure functions of how far the run has come."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from crystallm.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """Where a run stands in an epoch that is streamed (`stream.py`)."""

    reader: Any
    """State of the reader before the block of texts that is being trained on."""
    first_row: int
    """Rows of the epoch before that block."""
    step: int
    """Steps taken of that block."""
    rows: int
    """All rows of an epoch, by which changed data is noticed."""
    steps_in_epoch: float
    """Estimate by the rows read so far; exact at the end of the epoch."""


@dataclass(kw_only=True)
class Position:
    """Where a run stands; this and the weights, optimiser and random states are all that a resumed run needs."""

    step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    tokens: int = 0
    """Tokens trained on, padding left out."""
    seconds: float = 0.0
    """Time spent, summed over resumed parts."""
    cursor: Cursor | None = None
    """With `streaming`, from the first step of an epoch to its last."""


def progress(config: TrainConfig, position: Position, *, steps_in_epoch: float) -> float:
    """Return the part of the run that is done, 0 to 1, by the one budget that the recipe gives."""
    if config.max_steps is not None:
        done = position.step / config.max_steps
    elif config.epochs is not None:
        done = (position.epoch + position.step_in_epoch / steps_in_epoch) / config.epochs
    else:
        assert config.max_minutes is not None
        done = position.seconds / 60 / config.max_minutes
    return min(done, 1.0)


def learning_rate(config: TrainConfig, *, step: int, done: float) -> float:
    """Return the rate for the step after `step`: linear warm-up, then the schedule down to its final fraction."""
    warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    shape = cosine(done) if config.schedule == "cosine" else warm_stable_decay(config, done)
    low = config.final_learning_rate_fraction
    return config.learning_rate * warm * (low + (1 - low) * shape)


def cosine(done: float) -> float:
    """Return the part of the top: 1 at the start, 1/2 half way, 0 at the end (Loshchilov and Hutter 2017)."""
    return 0.5 * (1 + math.cos(math.pi * done))


def warm_stable_decay(config: TrainConfig, done: float) -> float:
    """Return the part of the top: 1 until the last `decay_fraction` of the run, in which it falls to 0.

    Stable rate and short decay: Hu et al., MiniCPM, arXiv:2404.06395. Shape `1-sqrt`: 1 - sqrt(part of the decay that
    is done), the best of those compared by Hägele et al., arXiv:2405.18392.
    """
    if not decaying(config, done):
        return 1.0
    decayed = min((done - (1 - config.decay_fraction)) / config.decay_fraction, 1.0)
    return 1 - (decayed if config.decay_shape == "linear" else math.sqrt(max(decayed, 0.0)))


def decaying(config: TrainConfig, done: float) -> bool:
    """Return whether a warm-up-stable-decay run has begun its decay when this part of it is done."""
    return config.schedule == "wsd" and done >= 1 - config.decay_fraction


def step_seed(config: TrainConfig, position: Position, *, process: int) -> int:
    """Return the seed of a process's dropout in the step after `position.step`.

    Each step has its own, so that no random state must be saved and a run goes on alike on other processes.
    """
    return int(np.random.SeedSequence((config.seed, position.step, process)).generate_state(1, np.uint64)[0] >> 1)
