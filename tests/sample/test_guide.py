"""Templates in the sampler: what they say of each choice, and what becomes of draws that follow them."""

from dataclasses import replace

import numpy as np
import pytest

from crystallm.crystal.description import Description, Site
from crystallm.data.templates import Template
from crystallm.sample.config import SampleConfig
from crystallm.sample.drawing.template_guide import ODDS_OF_TEMPLATES, POWER_OF_NEAREST, Bells, Guide
from crystallm.sample.engine.mixture import Belief
from crystallm.sample.generator import Generator
from crystallm.sample.grammar.wyckoff_grammar import Partial, Prompt, Stage, WyckoffGrammar
from crystallm.sample.prompts import make_prompt


@pytest.fixture(scope="module")
def templates(rutile: Description) -> list[Template]:
    """Rutile as known from cassiterite, and the same with other formula units and letters as cotunnite would have."""
    sites = (Site("Ti", "c", (0.25, 0.11)), Site("O", "c", (0.36, 0.42)), Site("O", "c", (0.03, 0.34)))
    cotunnite = Description(rutile.amounts, 4, 62, (5.2, 3.0, 6.0, 90.0, 90.0, 90.0), sites)
    return [Template("mp-1", "SnO2", rutile, 0.3, rutile), Template("mp-2", "PbCl2", cotunnite, 0.1, cotunnite)]


@pytest.fixture(scope="module")
def default_generator() -> Generator:
    return Generator.from_pretrained(device="cpu")


def walked(grammar: WyckoffGrammar, description: Description) -> list[tuple[Partial, np.ndarray, int]]:
    """Each choice on the way to a crystal: what is decided before it, the tokens allowed, which one is taken."""
    ids = [grammar.ids[token] for token in grammar.layout.checked_tokens(description)]
    partial = Partial()
    steps, found = grammar.walk(Prompt(description.amounts), partial), list[tuple[Partial, np.ndarray, int]]()
    choices = next(steps)
    for token in ids[:-1]:
        if len(choices) > 1:
            known = replace(partial, sites=list(partial.sites), number=replace(partial.number))
            found.append((known, np.array(choices), choices.index(token)))
        choices = steps.send(token)
    return found


def test_a_template_wants_its_own_text(grammar: WyckoffGrammar, templates: list[Template], rutile: Description) -> None:
    guide = Guide(grammar, templates)
    who = np.array([0])
    for partial, tokens, place in walked(grammar, rutile):
        factors = guide.factors(partial, tokens, who)
        assert factors.shape == (1, len(tokens))
        if partial.stage in (Stage.HEAD, Stage.LETTER):
            assert factors[0].nonzero()[0].tolist() == [place]
        elif partial.number.step >= Bells().coordinate:  # a digit that the bell can tell from the next
            assert abs(int(factors[0].argmax()) - place) <= 1
        assert factors.sum() <= 1.0 + 1e-9


def test_templates_that_are_out_have_no_factors(grammar: WyckoffGrammar, templates: list[Template]) -> None:
    """A crystal that follows none may have more sites than any."""
    nobody = np.array([], dtype=np.int64)
    long = Partial(Stage.LETTER, sites=[Site("O", "c", (0.1, 0.2))] * 9)
    for stage in Stage:
        factors = Guide(grammar, templates).factors(replace(long, stage=stage), np.arange(5), nobody)
        assert factors.shape == (0, 5)


def test_shares_at_the_start(grammar: WyckoffGrammar, templates: list[Template]) -> None:
    odds = ODDS_OF_TEMPLATES * 0.3**POWER_OF_NEAREST  # the nearest has a weight of 0.3
    for weight in (1.0, 5.0):
        shares = Guide(grammar, templates, weight=weight).belief.shares
        assert shares[1:].sum() / shares[0] == pytest.approx(weight * odds)
        assert shares[1] / shares[2] == pytest.approx(3.0)
        assert shares.sum() == pytest.approx(1.0)


def test_coordinates_go_around(grammar: WyckoffGrammar, rutile: Description) -> None:
    edge = replace(rutile, sites=(rutile.sites[0], Site("O", "f", (0.998,))))
    guide = Guide(grammar, [Template("mp-1", "SnO2", edge, 1.0, edge)])
    partial, tokens, _ = next(c for c in walked(grammar, rutile) if c[0].stage is Stage.COORDINATES)
    factors = guide.factors(partial, tokens, np.array([0]))[0]
    assert factors[0] == pytest.approx(factors[-1], rel=0.5)
    assert factors[0] > 10 * factors[50]


def test_who_was_followed(grammar: WyckoffGrammar, templates: list[Template]) -> None:
    guide = Guide(grammar, [*templates, replace(templates[0], weight=0.2)])
    found = guide.followed(Belief(np.array([0.2, 0.4, 0.1, 0.3]), np.arange(3)))
    assert found is not None
    assert (found.id, found.formula, found.share) == ("mp-1", "SnO2", 0.7)
    assert guide.followed(Belief(np.array([0.6, 0.4]), np.array([1]))) is None


def test_a_draw_uses_up_the_templates_of_its_structure(grammar: WyckoffGrammar, templates: list[Template]) -> None:
    guide = Guide(grammar, [*templates, replace(templates[0], weight=0.2)])
    rutile, cotunnite = (template.description for template in templates)
    model = Belief(np.array([1.0]), np.array([], dtype=np.int64))
    assert guide.used_up(rutile, model) == [0, 2]
    assert guide.used_up(cotunnite, model) == [1]
    assert guide.used_up(replace(rutile, space_group=102), model) == []
    # One that strayed from its template uses it up, too.
    assert guide.used_up(rutile, Belief(np.array([0.2, 0.1, 0.7]), np.array([0, 1]))) == [0, 1, 2]
    assert guide.used_up(rutile, Belief(np.array([0.6, 0.4]), np.array([1]))) == [0, 2]


def test_the_benchmark_edition_knows_rutile_by_its_like() -> None:
    """Rutile itself is kept out of its library and of its training, as it stands in a benchmark."""
    prompt = make_prompt("TiO2", formula_units=2, space_group=136)
    generator = Generator.from_pretrained(edition="benchmark", device="cpu")
    (attempt,) = generator.attempts([prompt], SampleConfig(n=1, temperature=0.1))
    assert attempt.description is not None
    assert attempt.followed is not None
    assert attempt.followed.formula != "TiO2"
    assert [site.letter for site in attempt.description.sites] == ["a", "f"]
    assert attempt.description.sites[1].free[0] == pytest.approx(0.3053, abs=0.02)


def test_draws_do_not_hang_on_the_batch(default_generator: Generator) -> None:
    prompts = [make_prompt("BaSnO3"), make_prompt("Na2CoGe")]
    texts = []
    for rows in (1, 8):
        config = SampleConfig(n=6, batch_size=rows)
        draws = default_generator.attempts(prompts, config)
        texts.append(sorted((a.prompt.name, a.number, a.text, a.ranking_log_probability) for a in draws))
    assert texts[0] == texts[1]


def test_without_a_guide_the_model_draws_alone(default_generator: Generator) -> None:
    (attempt,) = default_generator.attempts([make_prompt("NaCl")], SampleConfig(n=1, guide=0.0))
    assert attempt.followed is None
