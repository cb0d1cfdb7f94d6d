"""The engine against plain decoding, with tiny untrained models; and against mocks where chemistry does not matter."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from crystallm.base.errors import CheckpointError
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.sample.decoding.compiled import compiled_decoder
from crystallm.sample.decoding.compiled.compiled_decoder import BlockCache
from crystallm.sample.drawing.crystal_task import CrystalTask
from crystallm.sample.engine.engine import Engine
from crystallm.sample.engine.rows import SECTION, Outcome
from crystallm.sample.engine.warp import Warp, draw
from crystallm.sample.generator import Generator
from crystallm.sample.grammar.wyckoff_grammar import Partial, Prompt, WyckoffGrammar
from tests.sample.mocks import SuccessorModel, Words

PROMPTS = [
    Prompt(parse_formula("TiO2"), 2, 136),
    Prompt(parse_formula("NaCl"), 1),
    Prompt(),
    Prompt(parse_formula("BaTiO3"), 1, 221),
    Prompt(None, 4, 62),
    Prompt(parse_formula("SiO2"), 3),
]
PLAIN = Warp()


class Unjudged(CrystalTask):
    """Refuses no site, so that a text is drawn in one go."""

    def refusal(self, since: int) -> None:
        return None


def jobs(
    grammar: WyckoffGrammar, *, each: int = 2, kind: type[CrystalTask] = CrystalTask
) -> list[tuple[CrystalTask, np.random.Generator]]:
    return [
        (kind(grammar, prompt, index, number), np.random.default_rng([index, number]))
        for index, prompt in enumerate(PROMPTS)
        for number in range(each)
    ]


def by_task(outcomes: Iterator[Outcome]) -> dict[tuple[int, int], Outcome]:
    return {(outcome.task.prompt_index, outcome.task.number): outcome for outcome in outcomes}


def watch_caches(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> list[BlockCache]:
    """The caches that decoders on a CPU make from now on."""
    caches = []

    def watched(**shape: Any) -> BlockCache:
        caches.append(BlockCache(**shape, **settings))
        return caches[-1]

    monkeypatch.setattr(compiled_decoder, "BlockCache", watched)
    return caches


def free_places(grammar: WyckoffGrammar, prompt: Prompt, tokens: list[int]) -> list[int]:
    """Where a text had a choice."""
    steps, places = grammar.walk(prompt, Partial()), []
    choices = next(steps)
    for place, token in enumerate(tokens):
        assert token in choices
        if len(choices) > 1:
            places.append(place)
        if place < len(tokens) - 1:
            choices = steps.send(token)
    return places


def one_pass(model: Any, tokens: list[int]) -> torch.Tensor:
    """Log-probabilities (T, V) of each token's successor by one plain forward pass."""
    with torch.no_grad():
        return torch.log_softmax(model(input_ids=torch.tensor([tokens])).logits[0].float(), dim=-1)


def assert_scores_are_true(model: Any, grammar: WyckoffGrammar, outcome: Outcome) -> None:
    places = free_places(grammar, outcome.task.prompt, outcome.tokens)
    log_TV = one_pass(model, outcome.tokens)
    expected = [float(log_TV[place - 1, outcome.tokens[place]]) for place in places]
    assert outcome.log_probabilities == pytest.approx(expected, abs=1e-4)


def decode_plainly(
    model: Any, grammar: WyckoffGrammar, prompt: Prompt, random: np.random.Generator, warp: Warp = PLAIN
) -> list[int]:
    """Constrained decoding without cache, batch, chunks or refusals."""
    steps, tokens = grammar.walk(prompt, Partial()), list[int]()
    choices = next(steps)
    while True:
        if len(choices) == 1:
            tokens.append(choices[0])
        else:
            log_C = one_pass(model, tokens)[-1].numpy()[list(choices)].astype(np.float64)
            tokens.append(choices[draw(log_C, random, warp)])
        try:
            choices = steps.send(tokens[-1])
        except StopIteration:
            return tokens


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_scores_are_those_of_one_forward_pass(
    generators: dict[str, Generator], grammar: WyckoffGrammar, kind: str
) -> None:
    model, decoder = generators[kind].model, generators[kind].decoder
    outcomes = list(Engine(decoder, rows=5, context=512).run(jobs(grammar), Warp(temperature=0.7, top_k=5)))
    assert len(outcomes) == 12
    assert any(outcome.redrawn for outcome in outcomes)
    for outcome in outcomes:
        assert_scores_are_true(model, grammar, outcome)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_same_texts_as_plain_decoding(generators: dict[str, Generator], grammar: WyckoffGrammar, kind: str) -> None:
    model, decoder = generators[kind].model, generators[kind].decoder
    for warp in (PLAIN, Warp(temperature=0.5, top_p=0.9)):
        found = by_task(Engine(decoder, rows=4, context=512).run(jobs(grammar, each=1, kind=Unjudged), warp))
        for task, random in jobs(grammar, each=1):
            expected = decode_plainly(model, grammar, task.prompt, random, warp)
            assert found[task.prompt_index, task.number].tokens == expected


@pytest.fixture(scope="module")
def expected(generator: Generator, grammar: WyckoffGrammar) -> dict[tuple[int, int], Outcome]:
    return by_task(Engine(generator.decoder, rows=5, context=512).run(jobs(grammar), PLAIN))


@pytest.mark.parametrize(
    ("rows", "backwards", "chunk", "capacity"),
    [(1, False, 16, 64), (7, True, 16, 64), (12, False, 1, 64), (6, False, 5, 4)],
    ids=["one row", "other order", "no chunks", "tiny cache"],
)
def test_same_texts_however_batched(
    generator: Generator,
    grammar: WyckoffGrammar,
    monkeypatch: pytest.MonkeyPatch,
    expected: dict[tuple[int, int], Outcome],
    rows: int,
    backwards: bool,
    chunk: int,
    capacity: int,
) -> None:
    caches = watch_caches(monkeypatch, capacity=capacity)
    todo = jobs(grammar)[::-1] if backwards else jobs(grammar)
    found = by_task(Engine(generator.decoder, rows=rows, context=512, chunk=chunk).run(todo, PLAIN))
    assert {key: outcome.tokens for key, outcome in found.items()} == {k: o.tokens for k, o in expected.items()}
    for key, outcome in found.items():
        assert outcome.log_probabilities == pytest.approx(expected[key].log_probabilities, abs=1e-4)
    longest = max(len(outcome.tokens) for outcome in found.values())
    assert caches[0].capacity >= longest > 64  # it grew


def test_what_many_texts_begin_with_is_computed_once(generator: Generator, grammar: WyckoffGrammar) -> None:
    """Ten texts of one prompt on two rows: only the first is fed the prompt."""
    prompt = PROMPTS[0]
    tasks = [(Unjudged(grammar, prompt, 0, number), np.random.default_rng(number)) for number in range(10)]
    engine = Engine(generator.decoder, rows=2, context=512)
    outcomes = list(engine.run(tasks, PLAIN))
    first_choice = free_places(grammar, prompt, outcomes[0].tokens)[0]
    assert engine.tokens_fed <= sum(len(outcome.tokens) - first_choice for outcome in outcomes) + first_choice
    for outcome in outcomes:
        assert_scores_are_true(generator.model, grammar, outcome)


def test_memory_of_the_cache_does_not_grow_with_the_number_of_texts(
    generator: Generator, grammar: WyckoffGrammar, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches = watch_caches(monkeypatch)
    for each in (1, 8):
        tasks = [(Unjudged(grammar, PROMPTS[0], 0, n), np.random.default_rng(n)) for n in range(2 * each)]
        list(Engine(generator.decoder, rows=2, context=512).run(tasks, PLAIN))
    assert caches[0].bytes == caches[1].bytes > 0


def test_one_step_a_choice(generator: Generator, grammar: WyckoffGrammar) -> None:
    """Forced tokens cost no step of their own."""
    task = Unjudged(grammar, PROMPTS[0], 0, 0)
    engine = Engine(generator.decoder, rows=1, context=512, chunk=64)
    (outcome,) = engine.run([(task, np.random.default_rng(0))], PLAIN)
    assert outcome.steps == engine.steps == len(outcome.log_probabilities)
    assert outcome.steps < len(outcome.tokens) / 1.5


def test_too_long_texts_are_given_up(generator: Generator, grammar: WyckoffGrammar) -> None:
    found = list(Engine(generator.decoder, rows=4, context=30).run(jobs(grammar), PLAIN))
    assert len(found) == 12
    assert not any(outcome.finished and len(outcome.tokens) > 30 for outcome in found)
    assert not all(outcome.finished for outcome in found)


def test_callers_are_not_left_in_inference_mode(generator: Generator, grammar: WyckoffGrammar) -> None:
    for _ in Engine(generator.decoder, rows=2, context=512).run(jobs(grammar, each=1), PLAIN):
        assert not torch.is_inference_mode_enabled()
        break


def test_refused_sections_are_drawn_again() -> None:
    model = SuccessorModel(torch.zeros(6, 6))
    engine = Engine(model, rows=3, tries=(1000, 0, 4))
    outcomes = list(engine.run([(Words(refused=[2]), np.random.default_rng(i)) for i in range(300)], PLAIN))
    assert all(outcome.finished and len(outcome.tokens) == 5 for outcome in outcomes)
    chosen = np.array([outcome.tokens[1:4] for outcome in outcomes])
    assert set(chosen.ravel()) == {1, 3, 4}
    assert np.bincount(chosen.ravel())[[1, 3, 4]] == pytest.approx(300, abs=60)  # the rest keeps its proportions
    # A quarter of 900 sections; what was refused once is not drawn again.
    assert sum(outcome.redrawn.get("refused", 0) for outcome in outcomes) == pytest.approx(225, abs=60)
    for outcome in outcomes:  # refused draws leave no score behind
        assert outcome.log_probabilities == pytest.approx([-np.log(6)] * 3, abs=1e-5)


@pytest.mark.parametrize(("tries", "redrawn"), [(2, 2 + 1), (3, 3 + 1), (9, 4)])
def test_hopeless_texts_are_given_up(tries: int, redrawn: int) -> None:
    """After all tries, or when all four tokens have been refused."""
    table = torch.zeros(6, 6)
    table[:, 2] = 5.0
    engine = Engine(SuccessorModel(table), rows=1, tries=(tries,))
    (outcome,) = engine.run([(Words(refused=[1, 2, 3, 4]), np.random.default_rng(0))], PLAIN)
    assert not outcome.finished
    assert outcome.redrawn == {"refused": redrawn}


def test_tokens_told_to_be_hopeless_are_not_drawn() -> None:
    class Telling(Words):
        def level(self) -> int:
            return SECTION

        def hopeless(self, since: int) -> Sequence[int]:
            return [1, 2]

    engine = Engine(SuccessorModel(torch.zeros(6, 6)), rows=3, tries=(9,) * (SECTION + 1))
    tasks = [(Telling(refused=[1, 2, 3]), np.random.default_rng(i)) for i in range(100)]
    outcomes = list(engine.run(tasks, PLAIN))
    assert {tuple(outcome.tokens) for outcome in outcomes} == {(0, 4, 4, 4, 5)}
    # Of 300 sections: 3/4 refused once; after a 1 or 2 it is 3 or 4, after a 3 only 4 is left.
    assert sum(outcome.redrawn.get("refused", 0) for outcome in outcomes) == pytest.approx(225 + 75, abs=40)


def sure_of(token: int) -> SuccessorModel:
    """A model for which all other tokens together have a chance of some 1e-13."""
    table = torch.zeros(6, 6)
    table[:, token] = 30.0
    return SuccessorModel(table)


def test_a_model_sure_of_what_cannot_begin_a_text_gets_what_is_left() -> None:
    """There is nothing above the first choice to go back to, however little is left of it."""

    class FirstRefused(Words):
        def refusal(self, since: int) -> str | None:
            return "first" if self.chosen[0] == 1 else None

    engine = Engine(sure_of(1), rows=3, tries=(9, 0, 9))
    outcomes = list(engine.run([(FirstRefused(), np.random.default_rng(i)) for i in range(60)], PLAIN))
    assert all(outcome.finished and outcome.redrawn == {"first": 1} for outcome in outcomes)
    assert {tuple(outcome.tokens) for outcome in outcomes} == {(0, first, 1, 1, 5) for first in (2, 3, 4)}


def test_an_objection_does_not_lead_to_what_the_model_takes_for_impossible() -> None:
    engine = Engine(sure_of(1), rows=1, tries=(9, 0, 9))
    (outcome,) = engine.run([(Words(disliked=[1], patience=4), np.random.default_rng(0))], PLAIN)
    assert (outcome.tokens, outcome.redrawn) == ([0, 1, 1, 1, 5], {})


def test_hopeless_last_sections_are_given_up() -> None:
    """The sections before it are accepted each time, which must not give the levels above it new tries."""

    class LastRefused(Words):
        def refusal(self, since: int) -> str | None:
            return "last" if len(self.chosen) == 3 else None

    model = SuccessorModel(torch.zeros(6, 6))
    engine = Engine(model, rows=1, tries=(2, 0, 3))
    (outcome,) = engine.run([(LastRefused(), np.random.default_rng(0))], PLAIN)
    assert not outcome.finished
    assert outcome.redrawn == {"last": (3 + 1) * (2 + 1)}  # drawn and redrawn three times, and all that twice anew


@pytest.mark.parametrize(("for_a_section", "refused"), [(0, 1 + 1), (1, 1 + 1 * 2 + 1)])
def test_the_more_of_a_text_stands_the_oftener_its_next_section_is_tried(for_a_section: int, refused: int) -> None:
    class LastRefused(Words):
        def refusal(self, since: int) -> str | None:
            return "last" if len(self.chosen) == 3 else None

    engine = Engine(SuccessorModel(torch.zeros(6, 6)), rows=1, tries=(0, 0, 1), tries_for_a_section=for_a_section)
    (outcome,) = engine.run([(LastRefused(), np.random.default_rng(0))], PLAIN)
    assert outcome.redrawn == {"last": refused}


def disliked(patience: int, tokens: Sequence[int] = (2,), n: int = 600) -> list[Outcome]:
    """Outcomes of texts of three sections among which there is an objection to those with these tokens."""
    engine = Engine(SuccessorModel(torch.zeros(6, 6)), rows=3, tries=(1000, 0, 4))
    tasks = [(Words(disliked=tokens, patience=patience), np.random.default_rng([7, i])) for i in range(n)]
    return list(engine.run(tasks, PLAIN))


def test_complete_texts_are_drawn_again_after_an_objection() -> None:
    outcomes = disliked(1000)
    assert all(outcome.finished and len(outcome.tokens) == 5 for outcome in outcomes)
    chosen = np.array([outcome.tokens[1:4] for outcome in outcomes])
    assert np.bincount(chosen.ravel(), minlength=5)[1:] == pytest.approx([600, 0, 600, 600], abs=80)
    # 27 of 64 texts are good. Drawn without repeating one, (64 + 1) / (27 + 1) draws are needed on average.
    redrawn = sum(outcome.redrawn.get("disliked", 0) for outcome in outcomes) / len(outcomes)
    assert redrawn == pytest.approx(65 / 28 - 1, abs=0.2)
    for outcome in outcomes:  # what was drawn before leaves no score behind
        assert outcome.log_probabilities == pytest.approx([-np.log(6)] * 3, abs=1e-5)


def test_the_last_text_stays_whatever_it_is() -> None:
    """An objection never costs a text: not when patience ends, and not when nothing else is left."""
    outcomes = disliked(1)
    assert all(outcome.finished for outcome in outcomes)
    bad = sum(2 in outcome.tokens for outcome in outcomes) / len(outcomes)
    assert bad == pytest.approx(37 / 64 * 36 / 63, abs=0.06)
    assert {outcome.redrawn.get("disliked", 0) for outcome in outcomes} == {0, 1}
    (outcome,) = disliked(1000, tokens=(1, 2, 3, 4), n=1)
    assert outcome.finished
    assert len(outcome.tokens) == 5
    assert outcome.redrawn == {"disliked": 63}


def test_damaged_weights_are_reported() -> None:
    table = torch.zeros(6, 6)
    table[0, 3] = float("nan")
    with pytest.raises(CheckpointError, match="mock gives logits that are not finite"):
        list(Engine(SuccessorModel(table)).run([(Words(), np.random.default_rng(0))], PLAIN))


def test_no_jobs_no_outcomes() -> None:
    assert list(Engine(SuccessorModel(torch.zeros(6, 6))).run([], PLAIN)) == []


SHARES = np.array([0.1, 0.5, 0.25, 0.15])


@pytest.mark.parametrize(
    ("warp", "expected"),
    [
        (Warp(), [0.1, 0.5, 0.25, 0.15]),
        (Warp(temperature=0.5), SHARES**2 / (SHARES**2).sum()),
        (Warp(top_k=2), [0, 2 / 3, 1 / 3, 0]),
        (Warp(top_k=1), [0, 1, 0, 0]),
        (Warp(top_k=9), [0.1, 0.5, 0.25, 0.15]),
        (Warp(top_p=0.8), [0, 0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9]),  # 0.5 + 0.25 is not yet 0.8
        (Warp(top_p=0.4), [0, 1, 0, 0]),
        (Warp(temperature=1e-6), [0, 1, 0, 0]),
    ],
)
def test_warps(warp: Warp, expected: list[float]) -> None:
    random = np.random.default_rng(0)
    drawn = [draw(np.log(SHARES) - 7.0, random, warp) for _ in range(4000)]
    assert np.bincount(drawn, minlength=4) / 4000 == pytest.approx(np.array(expected), abs=0.025)
