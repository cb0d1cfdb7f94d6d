"""Draws that are to differ: side by side in rounds they are what they are one after the other."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from crystallm.sample.drawing.unlike_draws import Rounds
from crystallm.sample.engine.engine import Engine, Job
from crystallm.sample.engine.warp import Warp
from crystallm.sample.engine.without_replacement import UNFIT, Branching, Memory, pass_on, remember, rule_out
from tests.sample.mocks import SuccessorModel, Words

PLAIN = Warp()
TEXTS = 64
"""Three sections of four tokens."""


def drawn(
    engine: Engine, *, n: int, seed: int, repeat: float = 0.0, refused: Sequence[int] = (), side_by_side: bool = True
) -> list[tuple[int, ...]]:
    """The sections of n texts of one memory, in order."""
    memory = Memory(repeat)
    rounds = Rounds(
        lambda trial: (Words(refused, memory, trial), np.random.default_rng([seed, trial])),
        n,
        side_by_side=side_by_side,
    )
    found = {}
    for _ in engine.run(rounds.begin(), PLAIN, then=rounds.end):
        found |= {number: tuple(outcome.tokens[1:-1]) for number, outcome in rounds.settled()}
    assert sorted(found) == list(range(n))
    return [found[number] for number in range(n)]


def leaning(towards: float) -> tuple[SuccessorModel, np.ndarray]:
    """A model that prefers the first token, and the chances (64,) of its texts; text 0 is the most probable."""
    table = torch.zeros(6, 6)
    table[:, 1] = towards
    single = torch.softmax(table[0, 1:5].double(), 0).numpy()
    return SuccessorModel(table), np.einsum("i,j,k->ijk", single, single, single).ravel()


def ranks_of_first(chances: np.ndarray, most: int) -> np.ndarray:
    """The chance (most,) that text 0 is the first, second, ... of texts drawn without replacement.

    Drawn so, texts come in the order of independent exponential times with these rates (Efraimidis and Spirakis 2006).
    """
    times = np.linspace(0, 40 / chances[0], 200_001)[1:]
    others = np.zeros((most, len(times)))  # the chance that so many of the others came before
    others[0] = 1
    for rate in chances[1:]:
        came = -np.expm1(-rate * times)
        others[1:] = others[1:] * (1 - came) + others[:-1] * came
        others[0] *= 1 - came
    return np.trapezoid(others * chances[0] * np.exp(-chances[0] * times), times, axis=1)


def test_texts_differ_until_none_is_left() -> None:
    engine = Engine(SuccessorModel(torch.zeros(6, 6)), rows=3, tries=(9, 0, 9))
    found = drawn(engine, n=100, seed=0)
    assert len(set(found[:TEXTS])) == TEXTS
    # A refusal is known to its own text alone, so a text may find only what is refused or drawn left, and repeat.
    assert len(set(drawn(engine, n=27, seed=1, refused=[2]))) >= 24
    assert len(set(drawn(engine, n=64, seed=2, repeat=1.0))) < 64


@pytest.mark.parametrize("lead", [6.0, 30.0])
def test_texts_of_a_model_that_is_sure_differ_too(lead: float) -> None:
    """With a lead of 30, what is left after the first text is less than the rounding of 1."""
    model, _ = leaning(lead)
    assert len(set(drawn(Engine(model, rows=8, tries=(9, 0, 9)), n=TEXTS, seed=4))) == TEXTS


@pytest.mark.parametrize("side_by_side", [False, True])
def test_the_order_is_that_of_drawing_without_replacement(side_by_side: bool) -> None:
    """Nine texts: four alone, then two and three side by side."""
    model, chances = leaning(1.5)
    engine = Engine(model, rows=8, tries=(9, 0, 9))
    trials, most = 1000, 9
    found = [drawn(engine, n=most, seed=seed, side_by_side=side_by_side) for seed in range(trials)]
    times = np.array([[texts[rank] == (1, 1, 1) for rank in range(most)] for texts in found]).sum(0)
    expected = ranks_of_first(chances, most)
    assert expected[0] == pytest.approx(chances[0], rel=1e-3)
    assert times / trials == pytest.approx(expected, abs=4 * (0.25 / trials) ** 0.5)
    left, wanted = trials - times.sum(), trials * (1 - expected.sum())
    chi_square = float((((times - trials * expected) ** 2) / (trials * expected)).sum() + (left - wanted) ** 2 / wanted)
    assert chi_square < 27.9  # nine degrees of freedom, one in a thousand


@pytest.mark.parametrize("repeat", [0.0, 0.3])
def test_a_text_keeps_a_share_of_its_chance(repeat: float) -> None:
    """How often the most probable text is among two, against the sum over all first texts."""
    model, chances = leaning(1.5)
    engine = Engine(model, tries=(9, 0, 9))
    top = chances[0]
    second = sum(p * (repeat if i == 0 else 1.0) * top / (1 - p + repeat * p) for i, p in enumerate(chances.tolist()))
    pairs = [drawn(engine, n=2, seed=seed, repeat=repeat) for seed in range(2000)]
    error = (0.25 / 2000) ** 0.5
    assert np.mean([pair[0] == (1, 1, 1) for pair in pairs]) == pytest.approx(top, abs=4 * error)
    assert np.mean([pair[1] == (1, 1, 1) for pair in pairs]) == pytest.approx(second, abs=4 * error)


def test_neither_the_batch_nor_what_follows_changes_a_draw() -> None:
    model, _ = leaning(2.5)
    all_of_them = drawn(Engine(model, rows=8, tries=(9, 0, 9)), n=30, seed=3)
    assert len(set(all_of_them)) == 30
    for rows, n in ((1, 30), (3, 30), (8, 1), (8, 5), (2, 11), (8, 23)):
        assert drawn(Engine(model, rows=rows, tries=(9, 0, 9)), n=n, seed=3) == all_of_them[:n]


def test_steps_of_discarded_draws_are_counted() -> None:
    """With a model this sure, draws of a round often repeat."""
    model, _ = leaning(4.0)
    memory, made = Memory(0.0), []

    def make(trial: int) -> Job:
        made.append(trial)
        return Words((), memory, trial), np.random.default_rng([7, trial])

    rounds = Rounds(make, 30)
    steps = []
    for _ in Engine(model, rows=8, tries=(9, 0, 9)).run(rounds.begin(), PLAIN, then=rounds.end):
        steps += [outcome.steps for _, outcome in rounds.settled()]
    assert len(steps) == 30 < len(made)
    assert sum(steps) == 2 * len(made) + 1  # the first token is seen once for all


def test_what_was_given_up_stays_so_in_what_is_remembered() -> None:
    """A first choice whose tries were used up is refused as a whole, though little of what follows it was."""
    start = Memory(0.0).start
    first, second = (Branching(np.array([1, 2]), np.array([0.9, 0.1]), differs=True) for _ in range(2))
    first.memory, second.memory = start, start.after.setdefault(1, type(start)())
    inside = [(first, 0), (second, 1)]
    rule_out(inside, since=1)
    assert first.open is None  # nobody has gone back to it
    pass_on(inside)
    assert first.share_left == pytest.approx(0.9 * 0.9 + 0.1)
    rule_out(inside[:1])
    remember(inside, UNFIT)
    assert first.left.tolist() == [0.0, 0.1]
    assert start.share == pytest.approx(1.0)  # what is left of the first choice is all left for later draws
    assert start.after[1].share == pytest.approx(1.0)  # of the second, the one given up was refused
