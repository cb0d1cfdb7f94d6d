"""Draws spread over the most probable space groups or formula units of a formula."""

from collections import Counter
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from crystallm.base.errors import ConfigError
from crystallm.sample.config import SampleConfig, Spread, parse_spread
from crystallm.sample.drawing.attempt import Attempt
from crystallm.sample.generator import Generator
from crystallm.sample.grammar.symmetry_search import Symmetries, in_turn
from crystallm.sample.grammar.wyckoff_grammar import WyckoffGrammar
from crystallm.sample.prompts import make_prompt


def test_what_can_be_asked_for() -> None:
    assert parse_spread("top:5", "--units") == Spread(5)
    assert parse_spread("top:12:even", "--units") == Spread(12, evenly=True)


@pytest.mark.parametrize("text", ["5", "top", "top:0", "top:-1", "top:2:odd", "top:2.5", ""])
def test_what_cannot(text: str) -> None:
    with pytest.raises(ConfigError, match="write top:5"):
        parse_spread(text, "--units")


def test_one_search_at_a_time() -> None:
    with pytest.raises(ConfigError, match="one of space_groups and units"):
        SampleConfig(space_groups="top:2", units="top:2")


def test_everyone_has_had_their_share_after_any_number_of_draws() -> None:
    shares = [0.5, 0.3, 0.15, 0.05]
    places = list(islice(in_turn(shares, evenly=False), 200))
    for n in range(1, 201):
        counts = np.bincount(places[:n], minlength=4)
        assert np.abs(counts - n * np.array(shares)).max() < 1
    assert Counter(islice(in_turn(shares, evenly=True), 20)) == {0: 5, 1: 5, 2: 5, 3: 5}


def symmetries() -> Symmetries:
    possible = np.zeros((2, 230), dtype=bool)
    possible[0, [0, 224]] = possible[1, 224] = True
    log_groups = np.full((2, 230), np.log(0.001))
    log_groups[0, 0], log_groups[0, 224], log_groups[1, 224] = np.log([0.6, 0.2, 0.4])
    return Symmetries([1, 4], np.log([0.5, 0.25]), log_groups, possible)


def test_probabilities_are_over_what_is_possible() -> None:
    """0.3 and 0.1 for one formula unit in groups 1 and 225, 0.1 for four in group 225."""
    values, shares = symmetries().most_probable("space_group", 5)
    assert (values, shares) == ([1, 225], pytest.approx([0.6, 0.4]))
    assert symmetries().most_probable("formula_units", 1) == ([1], pytest.approx([0.8]))
    assert np.exp(symmetries().units_given(225)) == pytest.approx([0.5, 0.5])
    assert np.exp(symmetries().units_given(1)) == pytest.approx([1, 0])


def drawn(generator: Generator, formula: str, *, n: int = 12, **options: Any) -> list[Attempt]:
    prompt = {key: options.pop(key) for key in ("formula_units", "space_group") if key in options}
    settings = SampleConfig(n=n, contact=0.0, max_atoms=12, temperature=4.0, **options)
    return sorted(generator.attempts([make_prompt(formula, **prompt)], settings), key=lambda attempt: attempt.number)


def test_space_groups_in_proportion(generator: Generator, grammar: WyckoffGrammar) -> None:
    found = drawn(generator, "TiO2", space_groups="top:3")
    told = [attempt.searched for attempt in found]
    assert all(a.description is None or a.description.space_group == t.value for a, t in zip(found, told, strict=True))
    probability = {t.value: t.probability for t in told}
    assert len(probability) <= 3
    first, *_ = [t.value for t in told]
    assert probability[first] == max(probability.values())
    # A larger run begins with the same draws.
    more = drawn(generator, "TiO2", n=14, space_groups="top:3")
    assert [a.text for a in more[:12]] == [a.text for a in found]


def test_scores_are_those_of_the_whole_text(generator: Generator, grammar: WyckoffGrammar) -> None:
    """What the search settles counts as if the model had drawn it, so that crystals of all groups can be ranked."""
    for options in (
        {"space_groups": "top:2:even"},
        {"units": "top:2:even"},
        {"space_groups": "top:2", "formula_units": 2},
    ):
        attempt = drawn(generator, "TiO2", n=2, **options)[1]
        tokens = generator.layout.split(attempt.text)
        assert isinstance(tokens, list)
        ids = [grammar.ids[token] for token in tokens]
        with torch.no_grad():
            log = torch.log_softmax(generator.model(torch.tensor([ids])).logits[0], dim=-1)
        place = 5 if "formula_units" not in options else 6  # of the formula units; the space group follows
        settled = [float(log[i - 1, ids[i]]) for i in range(place, 7)]
        assert attempt.token_log_probabilities[: len(settled)] == pytest.approx(settled, abs=1e-4)


def test_units_in_one_space_group(generator: Generator) -> None:
    found = drawn(generator, "TiO2", units="top:2:even", space_group=2)
    assert len({a.searched.value for a in found if a.searched}) == 2
    assert all(a.description is None or a.description.formula_units == a.searched.value for a in found if a.searched)


def test_a_search_needs_a_formula(generator: Generator) -> None:
    with pytest.raises(ConfigError, match="none is given"):
        next(iter(generator.attempts([make_prompt(None)], SampleConfig(space_groups="top:2"))))
