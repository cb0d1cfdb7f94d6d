"""Learning rates that one can compute in the head."""

import pytest

from crystallm.train.config import TrainConfig
from crystallm.train.schedule import Position, learning_rate, progress

CONFIG = TrainConfig(max_steps=100, learning_rate=1.0, warmup_steps=10, final_learning_rate_fraction=0.1)


@pytest.mark.parametrize(
    ("step", "done", "expected"),
    [
        (0, 0.0, 0.1),  # the first of ten warm-up steps
        (4, 0.0, 0.5),
        (9, 0.0, 1.0),  # the top
        (50, 0.5, 0.55),  # half way down the cosine, between 1 and 0.1
        (100, 1.0, 0.1),
    ],
)
def test_warm_up_and_cosine(step: int, done: float, expected: float) -> None:
    assert learning_rate(CONFIG, step=step, done=done) == pytest.approx(expected)


def test_no_warm_up() -> None:
    config = TrainConfig(max_steps=100, learning_rate=1.0, warmup_steps=0)
    assert learning_rate(config, step=0, done=0.0) == 1.0


def test_progress_by_steps() -> None:
    assert progress(CONFIG, Position(step=25), steps_in_epoch=10) == 0.25


def test_progress_by_epochs() -> None:
    position = Position(epoch=1, step_in_epoch=5)
    assert progress(TrainConfig(epochs=3), position, steps_in_epoch=10) == 0.5


def test_progress_by_minutes() -> None:
    assert progress(TrainConfig(max_minutes=2), Position(seconds=90), steps_in_epoch=10) == 0.75


def test_progress_ends_at_one() -> None:
    assert progress(CONFIG, Position(step=101), steps_in_epoch=10) == 1.0
