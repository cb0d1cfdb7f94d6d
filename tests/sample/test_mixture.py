"""A mixture of model and components against its exact distribution, on texts without chemistry."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from crystallm.sample.drawing.unlike_draws import Rounds
from crystallm.sample.engine import rows
from crystallm.sample.engine.engine import Engine, Job
from crystallm.sample.engine.mixture import NEGLIGIBLE, Belief, mix
from crystallm.sample.engine.warp import Warp
from crystallm.sample.engine.without_replacement import Memory
from tests.sample.mocks import SuccessorModel, Words

FACTORS = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.5, 0.1]])
"""The first component writes only the token 1, the second no 1."""
SHARES = np.array([0.2, 0.5, 0.3])
TABLE = torch.randn(6, 6, generator=torch.Generator().manual_seed(3))


def component(factors: np.ndarray, text: tuple[int, ...]) -> float:
    """Probability of three tokens where the model's is multiplied by factors and shared out anew at each."""
    probability, before = 1.0, 0
    for token in text:
        shares = torch.softmax(TABLE[before, 1:5].double(), 0).numpy() * factors
        probability *= float(shares[token - 1] / shares.sum())
        before = token
    return probability


def test_texts_have_the_probabilities_of_the_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "TRUST", 0.0)
    texts = list(product((1, 2, 3, 4), repeat=3))
    expected = [
        SHARES @ [component(np.ones(4), text), *(component(factors, text) for factors in FACTORS)] for text in texts
    ]
    assert sum(expected) == pytest.approx(1.0)
    jobs = [(Words(belief=Belief.of(SHARES), table=FACTORS), np.random.default_rng([7, i])) for i in range(6000)]
    outcomes = list(Engine(SuccessorModel(TABLE), rows=64).run(jobs, Warp()))
    drawn = Counter(tuple(outcome.tokens[1:4]) for outcome in outcomes)
    assert chisquare([drawn[text] for text in texts], 6000 * np.array(expected)).pvalue > 0.01
    for outcome in outcomes[:50]:
        text = tuple(outcome.tokens[1:4])
        assert outcome.unlike_drawn == pytest.approx(np.log(expected[texts.index(text)]))
        # The score stays that of the model alone.
        alone = torch.log_softmax(TABLE.double(), dim=-1)
        assert outcome.unlike == pytest.approx(
            float(sum(alone[a, b] for a, b in zip((0, *text), text, strict=False))), abs=1e-5
        )


def test_what_was_drawn_tells_which_component_it_was() -> None:
    mixture = mix(Belief.of(SHARES), np.log([0.1, 0.2, 0.3, 0.4]), FACTORS)
    assert mixture.together == pytest.approx(0.2 * np.array([0.1, 0.2, 0.3, 0.4]) + [0.5, 0.3 * 0.1 / 0.29, *_rest()])
    after = mixture.after(0)
    assert after.alive.tolist() == [0]
    assert after.shares == pytest.approx([0.02 / 0.52, 0.5 / 0.52])
    assert mixture.after(2).alive.tolist() == [1]


def _rest() -> list[float]:
    return [0.3 * 0.15 / 0.29, 0.3 * 0.04 / 0.29]


def test_the_model_tells_components_apart_as_far_as_it_is_trusted() -> None:
    """The model gives 0.9 to what the first component wants and 0.1 to what the second does; both have one share."""
    belief, log_C, factors = Belief.of(np.array([0.0, 0.5, 0.5])), np.log([0.9, 0.1]), np.eye(2)
    assert mix(belief, log_C, factors).together == pytest.approx([0.5, 0.5])
    assert mix(belief, log_C, factors, trust=1.0).together == pytest.approx([0.9, 0.1])
    assert mix(belief, log_C, factors, trust=0.5).together == pytest.approx([0.75, 0.25])  # 3 to 1, the roots of 9 to 1


def test_a_component_without_a_word_to_say_is_left_out() -> None:
    mixture = mix(Belief.of(np.array([0.5, 0.5])), np.zeros(3), np.zeros((1, 3)))
    assert mixture.together == pytest.approx(np.full(3, 1 / 3))
    assert mixture.after(1).alive.size == 0
    assert NEGLIGIBLE < 1e-3


def test_components_that_are_used_up_have_no_say() -> None:
    belief, log_C = Belief.of(np.array([0.2, 0.5, 0.3])), np.log([0.1, 0.2, 0.3, 0.4])
    all_of_them, one = mix(belief, log_C, FACTORS), mix(belief, log_C, FACTORS, left={0: 0.0})
    alone = mix(belief, log_C, FACTORS, left={0: 0.0, 1: 0.0})
    assert alone.together == pytest.approx(alone.alone)
    assert one.together == pytest.approx((all_of_them.together - [0.5, 0, 0, 0]) / 0.5)
    half = mix(belief, log_C, FACTORS, left={0: 0.5})
    assert half.together == pytest.approx((all_of_them.together - [0.25, 0, 0, 0]) / 0.75)
    # What is drawn still tells whether it is like them.
    assert one.after(0).shares == pytest.approx(all_of_them.after(0).shares)
    sure = mix(Belief.of(np.array([0.0, 1.0])), log_C, FACTORS[:1], left={0: 0.0})
    assert sure.together == pytest.approx(sure.alone)


def test_what_the_model_alone_chose_is_left_to_components() -> None:
    mixture = mix(Belief.of(np.array([0.5, 0.5])), np.log([0.6, 0.4]), np.array([[1.0, 0.0]]))
    assert mixture.together == pytest.approx([0.8, 0.2])
    assert mixture.left(np.array([0.0, 1.0]), {}) == pytest.approx([0.5 / 0.8, 1.0])
    assert mixture.left(np.array([0.0, 0.0]), {}) == pytest.approx([0.5 / 0.8, 0.0])
    assert mixture.left(np.array([1.0, 1.0]), {}) == pytest.approx([1.0, 1.0])
    assert mixture.left(np.array([1.0, 1.0]), {0: 0.0}) == pytest.approx([0.3 / 0.8, 1.0])
    assert mixture.left(np.array([0.0, 1.0]), {0: 0.4}) == pytest.approx([0.2 / 0.8, 1.0])


def test_texts_of_one_memory_follow_each_component_once() -> None:
    """Two components want the same text, which the model alone hardly ever writes: it comes once for each of them."""

    class Following(Words):
        goes_by_component = True

        def used_up(self, belief: Belief | None) -> list[int]:
            assert self.memory is not None
            left = [component for component in (0, 1) if component not in self.memory.components]
            return left[:1] if self.chosen == [1, 1, 1] else []

    table = torch.zeros(6, 6)
    table[:, 2:5] = 6.0
    factors = np.array([[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    for seed in range(20):
        memory = Memory(0.0)

        def make(trial: int, memory: Memory = memory, seed: int = seed) -> Job:
            belief = Belief.of(np.array([0.1, 0.5, 0.4]))
            return Following(memory=memory, number=trial, belief=belief, table=factors), np.random.default_rng(
                [seed, trial]
            )

        rounds, texts = Rounds(make, 12), []
        for _ in Engine(SuccessorModel(table), rows=8, tries=(9, 0, 9)).run(rounds.begin(), Warp(), then=rounds.end):
            texts += [tuple(outcome.tokens[1:4]) for _, outcome in rounds.settled()]
        assert len(texts) == 12
        assert texts.count((1, 1, 1)) == 2
        assert len(set(texts)) == 11
        assert sorted(memory.components) == [0, 1]


def test_draws_of_one_round_that_may_repeat_a_text_do_so_with_another_component() -> None:
    """Two components want the same first two tokens, in which texts are to differ, and another third one. Every other
    text may have the first two again, and draws of a round do not know each other."""

    class Following(Words):
        @property
        def goes_by_component(self) -> bool:  # type: ignore[override]
            return self.number > 2 and self.number % 2 == 1

        def differs(self) -> bool:
            return len(self.chosen) < 2

        def factors(self, tokens: np.ndarray, alive: np.ndarray) -> np.ndarray:
            wanted = 1 + alive if len(self.chosen) == 2 else np.ones_like(alive)
            return np.asarray(wanted[:, None] == tokens[None], dtype=np.float64)

        def used_up(self, belief: Belief | None) -> list[int]:
            return [self.chosen[2] - 1] if self.chosen[:2] == [1, 1] else []

    table = torch.zeros(6, 6)
    table[:, 2:5] = 6.0
    again = 0
    for seed in range(60):
        memory = Memory(0.0)

        def make(trial: int, memory: Memory = memory, seed: int = seed) -> Job:
            belief = Belief.of(np.array([0.6, 0.2, 0.2]))
            return Following(memory=memory, number=trial, belief=belief), np.random.default_rng([seed, trial])

        rounds, draws = Rounds(make, 10), []
        for _ in Engine(SuccessorModel(table), rows=8, tries=(9, 0, 9)).run(rounds.begin(), Warp(), then=rounds.end):
            draws += [(outcome.task, tuple(outcome.tokens[1:4])) for _, outcome in rounds.settled()]
        for place, (task, text) in enumerate(draws):
            earlier = [other for _, other in draws[:place] if other[:2] == text[:2]]
            if earlier:
                assert task.goes_by_component
                assert text[:2] == (1, 1)
                assert text not in earlier
                again += 1
    assert again > 20


def test_what_is_used_up_is_so_whatever_the_rounding() -> None:
    """What is left is a difference of sums; of a choice of which all are used up it is nothing, not 1e-17 nor less."""
    random = np.random.default_rng(0)
    for _ in range(200):
        shares = random.dirichlet(np.ones(6))
        mixture = mix(Belief.of(shares), np.log(random.dirichlet(np.ones(3))), random.random((5, 3)))
        assert mixture.left(np.zeros(3), dict.fromkeys(range(5), 0.0)).tolist() == [0.0] * 3
        some = mixture.left(np.array([0.0, 1.0, 0.5]), dict.fromkeys(range(5), 0.0))
        alone = mixture.belief.shares[0] * mixture.alone / mixture.together
        assert some == pytest.approx(np.array([0.0, 1.0, 0.5]) * alone)
