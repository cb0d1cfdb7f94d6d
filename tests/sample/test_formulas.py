"""Formulas chosen for a space group that is given without one."""

from collections.abc import Collection
from types import SimpleNamespace

import numpy as np
import pytest

from crystallm.crystal.formulas.composition import Amounts
from crystallm.sample.config import SampleConfig
from crystallm.sample.drawing.attempt import Attempt
from crystallm.sample.drawing.formula_pool import Head, OtherFormulas, Pool, draw_pool
from crystallm.sample.engine.engine import Engine, Job
from crystallm.sample.engine.rows import Outcome
from crystallm.sample.engine.warp import Warp
from crystallm.sample.generator import Generator
from crystallm.sample.grammar import wyckoff_cover as cover
from crystallm.sample.grammar.wyckoff_grammar import Prompt, WyckoffGrammar
from crystallm.sample.prompts import make_prompt


def test_heads_are_chosen_by_their_weights() -> None:
    heads = [Head((("Si", n),), 1, (), ()) for n in (1, 2, 3)]
    random = np.random.default_rng(0)
    drawn = [Pool(heads, np.array([0.002, 0.0, 0.006])).draw(random).amounts[0][1] for _ in range(2000)]
    assert np.bincount(drawn, minlength=4)[1:] == pytest.approx([500, 0, 1500], abs=60)


def test_what_a_draw_was_given_up_with_is_not_chosen_again() -> None:
    heads = [Head((("Si", n),), 1, (), ()) for n in (1, 2, 3)]
    pool = Pool(heads, np.array([0.9, 0.0, 0.1]))
    random = np.random.default_rng(0)
    assert {pool.draw(random, {((("Si", 1),), 1)}) for _ in range(20)} == {heads[2]}
    assert pool.draw(random, {((("Si", n),), 1) for n in (1, 3)}) is None
    assert pool.draw(random, {((("Si", 3),), 2)}) is not None  # other formula units
    unlikely = Pool(heads, np.zeros(3))  # at a low temperature, by rounding
    assert {unlikely.draw(random, {((("Si", 1),), 1)}) for _ in range(50)} == {heads[1], heads[2]}


def end_of(prompt: Prompt, number: int, failure: str | None) -> Outcome:
    """The end of a draw."""
    task = SimpleNamespace(prompt=prompt, number=number)
    told = {"failure": failure, "steps": 10, "redrawn": {"atoms too close": 2}}
    return Outcome(task, [], [], 0.0, path=[], unlike_drawn=0.0, belief=None, unfit=[], **told)


def test_a_draw_is_made_with_other_formulas_before_it_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crystallm.sample.drawing.formula_pool.MOST_FORMULAS", 3)
    asked: list[tuple[int, set[tuple[Amounts, int]]]] = []

    def prompt(number: int, tried: int) -> Prompt:
        return Prompt((("Si", 1 + tried),), 1 + number, 194)

    def make(number: int, without: Collection[tuple[Amounts, int]]) -> Job:
        asked.append((number, set(without)))
        return SimpleNamespace(prompt=prompt(number, len(without)), number=number), np.random.default_rng()

    draws = OtherFormulas(make, [0, 4])
    assert [task.number for task, _ in draws.begin()] == [0, 4]
    assert not draws.end(end_of(prompt(4, 0), 4, None))
    ((number, first),) = draws.settled()
    assert (number, first.steps, first.failure) == (4, 10, None)
    for tried in (0, 1):
        ((again, _),) = draws.end(end_of(prompt(0, tried), 0, "drawn again until all tries were used up"))
        assert again.prompt == prompt(0, tried + 1)
        assert not draws.settled()
        assert not draws.finished
    assert asked[-1] == (0, {((("Si", 1),), 1), ((("Si", 2),), 1)})
    assert not draws.end(end_of(prompt(0, 2), 0, "drawn again until all tries were used up"))
    ((number, last),) = draws.settled()
    assert (number, last.steps, last.redrawn) == (0, 30, {"atoms too close": 6})
    assert last.failure is not None
    assert draws.finished


def test_a_draw_ends_when_there_is_no_other_formula() -> None:
    draws = OtherFormulas(lambda number, without: None, [0])
    assert not draws.end(end_of(Prompt((("Si", 1),), 1, 194), 0, "drawn again until all tries were used up"))
    assert draws.settled()[0][1].failure is not None


def test_weights_are_the_probability_of_the_group(generator: Generator, grammar: WyckoffGrammar) -> None:
    """They are what the search over space groups finds for the same formula and formula units."""
    prompt = make_prompt(None, space_group=194)
    pools = [
        draw_pool(
            grammar,
            generator.model,
            Engine(generator.decoder, rows=rows, context=generator.context),
            prompt.prompt,
            Warp(),
            entropy=(1,),
            size=24,
        )
        for rows in (7, 64)
    ]
    assert pools[0].heads == pools[1].heads  # whatever the batch
    assert len(pools[0].heads) == 24
    for head, weight in list(zip(pools[0].heads, pools[0].weights, strict=True))[:5]:
        counts = tuple(amount * head.formula_units for _, amount in head.amounts)
        assert cover.can_cover(counts, cover.supply(194))
        given = Prompt(head.amounts, head.formula_units)
        known = grammar.symmetries(generator.model, given)
        values, shares = known.most_probable("space_group", 230)
        assert weight == pytest.approx(shares[values.index(194)], rel=1e-3)


@pytest.fixture(autouse=True)
def small_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crystallm.sample.drawing.prompt_draws.DRAWS_OF_A_POOL", 4)
    monkeypatch.setattr("crystallm.sample.drawing.prompt_draws.POOL", 24)


def drawn(generator: Generator, n: int, batch_size: int) -> list[Attempt]:
    settings = SampleConfig(n=n, contact=0.0, max_atoms=12, batch_size=batch_size)
    found = generator.attempts([make_prompt(None, space_group="P6_3/mmc")], settings)
    return sorted(found, key=lambda attempt: attempt.number)


def test_draws_keep_to_the_group_and_do_not_depend_on_the_batch(generator: Generator) -> None:
    """The fifth draw is the first of a second pool."""
    found = drawn(generator, 6, 6)
    finished = [a.description for a in found if a.description is not None]
    assert len(finished) > 3
    assert {crystal.space_group for crystal in finished} == {194}
    again = drawn(generator, 5, 2)
    assert [a.text for a in again] == [a.text for a in found[:5]]
    assert [a.log_probability for a in again] == pytest.approx([a.log_probability for a in found[:5]], rel=1e-4)
