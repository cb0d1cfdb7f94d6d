"""Models of the published layouts sample under the same guarantees: readable, of the composition, of the group."""

from math import gcd
from pathlib import Path

import numpy as np
import pytest
import torch
from pymatgen.core import Composition
from transformers import GPT2Config, GPT2LMHeadModel

from crystallm.base.errors import CompositionError
from crystallm.crystal.cell import Rejection
from crystallm.crystal.cif import read_cif, write_cif
from crystallm.crystal.description import Description, Site, expand
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.crystal.wyckoff import space_group
from crystallm.model.checkpoint import save_checkpoint
from crystallm.sample.config import SampleConfig
from crystallm.sample.generator import Generator
from crystallm.sample.grammar import wyckoff_cover as cover
from crystallm.sample.grammar.cif_orbits import places, still_alive, values
from crystallm.sample.grammar.limits import Limits
from crystallm.sample.grammar.published_grammar import PublishedGrammar
from crystallm.sample.grammar.wyckoff_grammar import Partial, Prompt, Stage
from crystallm.sample.logits_processor import CrystalConstraint
from crystallm.sample.prompts import make_prompt
from crystallm.tokenizer import build_tokenizer
from crystallm.tokenizer.cif_listing import ListedSite, site_at
from crystallm.tokenizer.layout import FREE_PARAMETERS, full_parameters, get_layout
from crystallm.tokenizer.published_texts import CRYSTALLM, CRYSTALLM_PI, PublishedLayout


@pytest.fixture(scope="module")
def grammar() -> PublishedGrammar:
    return PublishedGrammar(CRYSTALLM, context=1024)


def a_prompt(formula: str | None = None, *, formula_units: int | None = None, space_group: int | None = None) -> Prompt:
    return Prompt(parse_formula(formula) if formula else None, formula_units, space_group)


def draw(grammar: PublishedGrammar, prompt: Prompt, seed: int) -> tuple[str, Partial, list[int], int]:
    """A text of choices at random, its tokens, and how many of them were free."""
    grammar.check(prompt)
    rng, partial, tokens, free = np.random.default_rng(seed), Partial(), list[int](), 0
    walk = grammar.walk(prompt, partial)
    choices = next(walk)
    while True:
        assert len(choices) == len(set(choices)) > 0
        free += len(choices) > 1
        tokens.append(choices[int(rng.integers(len(choices)))])
        try:
            choices = walk.send(tokens[-1])
        except StopIteration:
            return "".join(grammar.tokens[token] for token in tokens), partial, tokens, free


PROMPTS = [
    a_prompt("TiO2"),
    a_prompt("NaCl", space_group=225),
    a_prompt("MgAl2O4", space_group=227),
    a_prompt("SiO2", formula_units=3),
    a_prompt("Bi2Te3", space_group=166),
    a_prompt("KH2PO4"),
    a_prompt("O"),
    a_prompt("CaTiO3", space_group=62, formula_units=4),
    a_prompt(),
    a_prompt(space_group=194),
    a_prompt(formula_units=2),
]


@pytest.mark.parametrize("layout", [CRYSTALLM, CRYSTALLM_PI], ids=["crystallm", "crystallm-pi"])
def test_every_path_is_a_text_that_reads_back(layout: PublishedLayout) -> None:
    grammar = PublishedGrammar(layout, context=1024)
    for prompt in PROMPTS:
        for seed in range(2):
            text, partial, tokens, free = draw(grammar, prompt, seed)
            back = layout.read(text)
            assert isinstance(back, Description), (back, text)
            assert back == partial.description()
            assert prompt.amounts in (None, back.amounts)
            assert prompt.space_group in (None, back.space_group)
            assert prompt.formula_units in (None, back.formula_units)
            assert len(tokens) <= 1024
            assert free < 0.4 * len(tokens)


@pytest.mark.parametrize(("formula", "multiple", "kept"), [("CH", 6, 6), ("TiO2", 2, 2), ("C", 100, 1)])
def test_formula_units_are_a_multiple_where_that_fits(
    formula: str, multiple: int, kept: int, grammar: PublishedGrammar
) -> None:
    prompt = Prompt(parse_formula(formula), multiple=multiple)
    found = [draw(grammar, prompt, seed)[1].formula_units for seed in range(8)]
    assert all(units % kept == 0 for units in found)
    assert kept > 1 or any(units % multiple for units in found)


@pytest.mark.parametrize(("number", "letters"), [(136, "af"), (227, "ade"), (62, "cc"), (166, "ac"), (1, "aaa")])
def test_the_text_of_a_crystal_is_offered_token_by_token(number: int, letters: str, grammar: PublishedGrammar) -> None:
    """What the automaton forces is what a text says: boilerplate, dependent parameters and coordinates, arithmetic."""
    rng, group = np.random.default_rng(number), space_group(number)
    pairs = list(zip(("Ti", "O", "F"), letters, strict=False))
    free = [tuple((rng.integers(500, 4500, group.positions[x].n_free) / 10_000).tolist()) for _, x in pairs]
    sites = tuple(Site(element, x, values) for (element, x), values in zip(pairs, free, strict=True))
    counts = {element: group.positions[x].multiplicity // group.centring_order for element, x in pairs}
    units = gcd(*counts.values())
    parameters = {0: 7.1, 1: 6.2, 2: 8.25, 3: 88.0, 4: 93.5, 5: 101.25}
    chosen = {place: parameters[place] for place in FREE_PARAMETERS[group.crystal_system]}
    amounts = tuple((element, n // units) for element, n in counts.items())
    cell = full_parameters(group.crystal_system, chosen)
    tokens = CRYSTALLM.split(CRYSTALLM.write(Description(amounts, units, number, cell, sites)))
    assert isinstance(tokens, list)
    ids = [grammar.ids[token] for token in tokens]
    assert follow(grammar, a_prompt(), ids)
    assert follow(grammar, Prompt(amounts, units, number), ids)


def follow(grammar: PublishedGrammar, prompt: Prompt, ids: list[int]) -> bool:
    walk = grammar.walk(prompt, Partial())
    choices = next(walk)
    for place, token in enumerate(ids):
        assert token in choices, (place, grammar.tokens[token], [grammar.tokens[c] for c in choices][:10])
        try:
            choices = walk.send(token)
        except StopIteration:
            return place == len(ids) - 1
    return False


def test_boilerplate_is_forced(grammar: PublishedGrammar) -> None:
    """Rutile with its space group: free are the size of the cell, two lengths, multiplicities and coordinates."""
    _, _, tokens, free = draw(grammar, a_prompt("TiO2", space_group=136, formula_units=2), 0)
    assert len(tokens) > 250
    assert free < 25


@pytest.mark.parametrize("layout", [CRYSTALLM, CRYSTALLM_PI], ids=["crystallm", "crystallm-pi"])
def test_a_text_goes_on_from_any_choice_of_a_site(layout: PublishedLayout) -> None:
    grammar = PublishedGrammar(layout, context=1024)
    for number, prompt in enumerate((a_prompt("TiO2"), a_prompt("MgAl2O4", space_group=227), a_prompt("KH2PO4"))):
        _, whole, tokens, _ = draw(grammar, prompt, number)
        partial, places = Partial(), list[tuple[int, int, int, tuple[int, ...]]]()
        walk = grammar.walk(prompt, partial)
        choices = next(walk)
        for place, token in enumerate(tokens[:-1]):
            if len(choices) > 1 and partial.stage >= Stage.LETTER:
                places.append((place, len(partial.sites), partial.stage, choices))
            choices = walk.send(token)
        assert len(places) > 3
        for place, n_sites, stage, allowed in places:
            walk, choices = grammar.resume(prompt, partial, n_sites, stage, tokens[:place])
            assert (choices, len(partial.sites), partial.stage) == (allowed, n_sites, stage)
            for token in tokens[place:-1]:
                choices = walk.send(token)
            assert (choices, partial.description()) == ((tokens[-1],), whole.description())


@pytest.mark.parametrize("number", [1, 14, 62, 136, 148, 164, 166, 194, 205, 221, 225, 227, 230])
def test_points_on_places_have_the_multiplicity_of_their_letter(number: int) -> None:
    rng = np.random.default_rng(number)
    for multiplicity, offered in places(number).items():
        for _ in range(5):
            alive, point = list(offered), ()
            for _ in range(3):
                found = values(alive, point)
                value = int(rng.integers(10_000)) if found is None else int(rng.choice(sorted(found)))
                point = (*point, value)
                alive = still_alive(alive, point)
                assert alive
            x, y, z = (value / 10_000 for value in point)
            site = site_at(space_group(number), ListedSite("Si", multiplicity, (x, y, z)))
            assert site is not None
            assert site.letter in {place.letter for place in offered}


def test_fewest_sites_by_hand() -> None:
    """Fm-3m: NaCl in two sites; four atoms of one element in a primitive cell as 4 of 1 + 1 + 2, or in P1 one each."""
    assert cover.fewest_sites((1, 1), cover.supply(225)) == 2
    assert cover.fewest_sites((4,), cover.supply(225)) == 3
    assert cover.fewest_sites((4,), cover.supply(1)) == 4
    assert cover.fewest_sites((5, 3), cover.supply(1)) == 8
    assert cover.fewest_sites((1, 1, 1), cover.supply(225)) is None


def test_a_short_context_leaves_out_what_does_not_fit() -> None:
    short = PublishedGrammar(CRYSTALLM, context=512)
    for seed in range(10):
        _, partial, tokens, _ = draw(short, a_prompt("CaTiO3"), seed)
        assert len(tokens) <= 512
        assert len(partial.sites) <= 7
    with pytest.raises(CompositionError, match="fit into the 512 tokens"):
        short.check(a_prompt("CaTiO3", space_group=1, formula_units=8))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (a_prompt("TiO2", space_group=168), "space group 168 has no token"),
        (a_prompt("PoO2"), "Po has no token"),
        (a_prompt("TiO2", formula_units=40), "more than the limit of 80"),
        (a_prompt("NaCl", space_group=225, formula_units=3), "cannot hold NaCl"),
    ],
)
def test_prompts_that_cannot_be_fulfilled(prompt: Prompt, message: str, grammar: PublishedGrammar) -> None:
    with pytest.raises(CompositionError, match=message):
        grammar.check(prompt)


def test_oxygen_is_never_half_a_molecule(grammar: PublishedGrammar) -> None:
    assert min(sum(n for _, n in counts) for counts in grammar.heads(a_prompt("O")).values()) == 2


@pytest.fixture(scope="module", params=["crystallm", "crystallm-pi"])
def generator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator:
    """An untrained GPT-2 of the layout."""
    layout = get_layout(request.param)
    tokenizer = build_tokenizer(layout)
    torch.manual_seed(0)
    shape = {"n_positions": 1024, "n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": len(tokenizer)}
    model = GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=tokenizer.bos_token_id, eos_token_id=None))
    folder: Path = tmp_path_factory.mktemp("published") / request.param
    save_checkpoint(folder, model, tokenizer, layout_name=layout.name, descriptions="canonical", provenance={}, card="")
    return Generator.from_pretrained(folder, device="cpu", precision="fp32")


def test_draws_are_readable_and_of_the_formula(generator: Generator) -> None:
    asked = [("TiO2", None, None), ("MgAl2O4", 2, 227), ("NaCl", 1, None)]
    prompts = [make_prompt(formula, formula_units=z, space_group=group) for formula, z, group in asked]
    config = SampleConfig(n=2, contact=0.0, batch_size=6, max_atoms=15)
    attempts = list(generator.attempts(prompts, config))
    finished = [attempt for attempt in attempts if attempt.description is not None]
    assert len(finished) >= 4  # the others were given up: their groups leave no crystal without more symmetry
    for attempt in finished:
        assert generator.layout.read(attempt.text) == attempt.description
        assert attempt.description is not None
        cell = read_cif(write_cif(attempt.description))
        assert not isinstance(cell, Rejection)
        assert len(cell) == len(expand(attempt.description))
        wanted = Composition(attempt.prompt.name.split("_")[0])
        assert cell.to_structure().composition.reduced_composition == wanted.reduced_composition
        assert len(attempt.token_log_probabilities) < attempt.n_tokens / 3


def test_search_over_groups_and_units(generator: Generator) -> None:
    config = SampleConfig(n=2, contact=0.0, batch_size=2, space_groups="top:2:even", max_atoms=2)
    attempts = list(generator.attempts([make_prompt("NaCl")], config))
    assert len({attempt.searched.value for attempt in attempts if attempt.searched}) == 2
    for attempt in attempts:
        if attempt.description is not None and attempt.searched is not None:
            assert attempt.description.space_group == attempt.searched.value
    grammar = PublishedGrammar(generator.layout, Limits(max_atoms=8), 1024)
    symmetries = grammar.symmetries(generator.model, a_prompt("NaCl"))
    assert symmetries.units == [1, 2, 3, 4]
    assert symmetries.joint.sum() == pytest.approx(1)
    assert symmetries.possible[0, 225 - 1]
    assert not symmetries.possible[:, 168 - 1].any()


def test_the_probability_of_a_cell_is_that_of_its_tokens(generator: Generator) -> None:
    """Formula units 1 in Fm-3m is Na4Cl4 in the text: the log-probabilities of its free tokens add up."""
    grammar = PublishedGrammar(generator.layout, Limits(max_atoms=8), 1024)
    symmetries = grammar.symmetries(generator.model, a_prompt("NaCl"))
    rows = {counts[0][1]: row for row, counts in grammar.heads(a_prompt("NaCl")).items()}
    row = rows[4]
    with torch.inference_mode():
        log_TV = torch.log_softmax(generator.model(input_ids=torch.tensor([row])).logits[0].double(), -1)
    (first,) = [place for place, token in enumerate(row) if grammar.tokens[token] == "4"][:1]
    # Of 1 to 32 formula units of the cell, "4" is whole at once, and "l" of no longer number follows.
    log = float(log_TV[first - 1, row[first]])
    log += float(log_TV[-1, grammar.group_ids[225]])
    assert symmetries.log_units[0] + symmetries.log_groups[0, 224] == pytest.approx(log, abs=1e-6)


def test_plain_generate_with_the_constraint(generator: Generator) -> None:
    grammar = PublishedGrammar(generator.layout, context=1024)
    constraint = CrystalConstraint(grammar, [a_prompt("NaCl", space_group=225, formula_units=1)])
    torch.manual_seed(0)
    begin = torch.tensor([[grammar.begin]])
    options = {"do_sample": True, "max_new_tokens": 330, "logits_processor": [constraint], "pad_token_id": 0}
    ids = generator.model.generate(begin, eos_token_id=None, **options)[0].tolist()
    text = "".join(grammar.tokens[token] for token in ids).rstrip("\n")
    end = "" if text.endswith("<eos>") else "\n\n"
    text = text.split("<eos>")[0] + "<eos>" if "<eos>" in text else text + end
    assert isinstance(generator.layout.read(text), Description), text


def test_a_formula_too_long_for_a_line_is_refused(grammar: PublishedGrammar) -> None:
    """CifWriter folds formulas of more than 70 letters between semicolons, for which there is no token."""
    formula = "LiNaKRbCsBeMgCaSrBaAlGaInSiGeSnPbSbBi"
    with pytest.raises(CompositionError, match="a line of 70 letters"):
        grammar.check(a_prompt(formula))
