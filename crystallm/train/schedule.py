"""Learning rate and end of training: pure functions of how far the run has come."""

import math
from dataclasses import dataclass

import numpy as np

from crystallm.train.config import TrainConfig


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


def progress(config: TrainConfig, position: Position, *, steps_in_epoch: int) -> float:
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
    """Return the rate for the step after `step`: linear warm-up, then a cosine from the top to its final fraction."""
    warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    low = config.final_learning_rate_fraction
    return config.learning_rate * warm * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))


def step_seed(config: TrainConfig, position: Position, *, process: int) -> int:
    """Return the seed of a process's dropout in the step after `position.step`.

    Each step has its own, so that no random state must be saved and a run goes on alike on other processes.
    """
    return int(np.random.SeedSequence((config.seed, position.step, process)).generate_state(1, np.uint64)[0] >> 1)
