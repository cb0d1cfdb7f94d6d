"""Every crystal once in an epoch, within the token budget, drawn from seed and epoch alone."""

import numpy as np
import pytest

from crystallm.train.texts.batches import (
    IGNORED,
    WIDTH_STEP,
    Ints,
    cut,
    pad,
    plan_epoch,
    plan_evaluation,
    share,
    widths,
)

LENGTHS = np.random.default_rng(0).integers(10, 200, size=3000)


def plan(*, seed: int = 0, epoch: int = 0, batch_tokens: int = 2000, accumulate: int = 4) -> list[list[Ints]]:
    return plan_epoch(LENGTHS, seed=seed, epoch=epoch, batch_tokens=batch_tokens, accumulate=accumulate)


def as_lists(steps: list[list[Ints]]) -> list[list[list[int]]]:
    return [[rows.tolist() for rows in passes] for passes in steps]


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_each_crystal_occurs_once(epoch: int) -> None:
    rows = np.concatenate([rows for passes in plan(epoch=epoch) for rows in passes])
    assert sorted(rows) == list(range(len(LENGTHS)))


@pytest.mark.parametrize("accumulate", [1, 4])
def test_token_budget(accumulate: int) -> None:
    """Padding counted; no step is much smaller than it may be but the last."""
    steps = plan(accumulate=accumulate)
    sizes = [sum(len(rows) * int(widths(LENGTHS[rows]).max()) for rows in passes) for passes in steps]
    assert max(sizes) <= 2000
    assert np.mean(sizes) > 1600
    assert all(len(passes) == accumulate for passes in steps[:-1])


def test_little_padding() -> None:
    steps = plan(batch_tokens=8000)
    padded = sum(len(rows) * int(LENGTHS[rows].max()) for passes in steps for rows in passes)
    assert LENGTHS.sum() / padded > 0.9


def test_steps_follow_from_seed_and_epoch() -> None:
    assert as_lists(plan()) == as_lists(plan())
    assert as_lists(plan(seed=1)) != as_lists(plan())
    assert as_lists(plan(epoch=1)) != as_lists(plan())


def test_a_step_mixes_lengths() -> None:
    """Forward passes of a step are drawn from all lengths, so that no stretch of training sees only short texts."""
    means = [np.mean([LENGTHS[rows].mean() for rows in passes]) for passes in plan(accumulate=2)[:-1]]
    longest_first = np.corrcoef(means, np.arange(len(means)))[0, 1]
    assert abs(longest_first) < 0.3


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_the_same_steps(processes: int) -> None:
    """The rows of a forward pass do not depend on the number of processes, only who computes them does."""
    for passes in plan():
        for rows in passes:
            shares = [share(rows, process=i, processes=processes) for i in range(processes)]
            assert sorted(np.concatenate(shares)) == sorted(rows)
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_text_longer_than_the_budget_is_alone_and_not_dropped() -> None:
    lengths = np.array([4, 6, 50])
    assert [rows.tolist() for rows in cut(np.arange(3), lengths, budget=12)] == [[0, 1], [2]]


def test_evaluation_takes_all_in_order_of_length() -> None:
    rows = np.concatenate(plan_evaluation(LENGTHS, budget=500))
    assert sorted(rows) == list(range(len(LENGTHS)))
    assert (np.diff(LENGTHS[rows]) >= 0).all()


def padded(*texts: list[int], wide: int = 8, budget: int = 16) -> tuple[Ints, Ints]:
    return pad([np.array(text) for text in texts], wide=wide, budget=budget, longest=200, pad_id=0)


def test_padding_is_on_the_right_and_below_and_not_a_label() -> None:
    ids_BT, labels_BT = padded([1, 5, 2], [1, 2], budget=24)
    assert ids_BT.tolist() == [[1, 5, 2, *[0] * 5], [1, 2, *[0] * 6], [0] * 8]
    assert labels_BT.tolist() == [[1, 5, 2, *[IGNORED] * 5], [1, 2, *[IGNORED] * 6], [IGNORED] * 8]


def test_a_process_without_rows_still_has_a_pass() -> None:
    """Data-parallel processes must all go forward and backward; this one adds nothing to the loss."""
    ids_BT, labels_BT = padded()
    assert ids_BT.shape == (2, 8)
    assert (labels_BT == IGNORED).all()


def test_a_drawn_text_may_be_longer_than_planned() -> None:
    assert padded([1] * 11)[0].shape == (1, 16)
    assert pad([np.ones(11)], wide=8, budget=16, longest=12, pad_id=0)[0].shape == (1, 12)


def test_few_shapes() -> None:
    """One for each width: a library that prepares itself for a shape does so a few times in a run."""
    wide = widths(LENGTHS)
    shapes = {
        pad([np.ones(LENGTHS[row]) for row in rows], wide=int(wide[rows].max()), budget=500, longest=200, pad_id=0)[
            0
        ].shape
        for passes in plan()
        for rows in passes
    }
    assert len(shapes) <= 200 / WIDTH_STEP
