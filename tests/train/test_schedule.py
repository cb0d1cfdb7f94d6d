"""Learning rates that one can compute in the head."""

from dataclasses import replace
from typing import Literal

import pytest

from crystallm.train.config import TrainConfig
from crystallm.train.schedule import Position, decaying, learning_rate, progress, warm_stable_decay

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


@pytest.mark.parametrize(
    ("shape", "step", "done", "expected"),
    [
        ("1-sqrt", 4, 0.04, 0.5),  # warm-up
        ("1-sqrt", 50, 0.5, 1.0),  # stable
        ("1-sqrt", 80, 0.8, 1.0),  # the decay begins
        ("1-sqrt", 85, 0.85, 0.55),  # a quarter of it: 1 - sqrt(1/4) of the way between 0.1 and 1
        ("linear", 85, 0.85, 0.775),
        ("linear", 90, 0.9, 0.55),
        ("1-sqrt", 100, 1.0, 0.1),
        ("linear", 100, 1.0, 0.1),
    ],
)
def test_warm_up_stable_decay(shape: Literal["1-sqrt", "linear"], step: int, done: float, expected: float) -> None:
    config = replace(CONFIG, schedule="wsd", decay_fraction=0.2, decay_shape=shape)
    assert learning_rate(config, step=step, done=done) == pytest.approx(expected)


def test_decay_over_the_whole_run_is_a_straight_line() -> None:
    config = replace(CONFIG, schedule="wsd", decay_fraction=1.0, decay_shape="linear", final_learning_rate_fraction=0.0)
    assert [warm_stable_decay(config, part) for part in (0.0, 0.25, 1.0)] == pytest.approx([1.0, 0.75, 0.0])
    assert decaying(config, 0.0)
    assert not decaying(CONFIG, 1.0)
