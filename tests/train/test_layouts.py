"""The comparison of layouts: the same operations, the same crystals, and bits that can be added up by hand."""

from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crystallm.config import load_recipe
from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.description import Description, describe
from crystallm.crystal.layout import get_layout
from crystallm.errors import ConfigError, InputError
from crystallm.model.architecture import ModelConfig, build_model
from crystallm.sample.constraint import Limits, Prompt, Stage
from crystallm.sample.grammar import make_grammar
from crystallm.train.compute import flop_per_step, matrix_parameters, steps_for, training_flop
from crystallm.train.config import TrainConfig
from crystallm.train.layouts.bits import CrystalBits, allowed_choices, digit_bits, free_bits, last_digits, mean_of, summary
from crystallm.train.layouts.config import LayoutsConfig
from crystallm.train.layouts.report import markdown
from crystallm.train.layouts.texts import chosen_crystals, in_all

RECIPES = sorted((Path(__file__).parents[2] / "train" / "layouts").glob("*.yaml"))


@pytest.fixture(scope="module")
def rutile() -> Description:
    positions = [[0, 0, 0], [0.5, 0.5, 0.5], [0.3053, 0.3053, 0], [0.6947, 0.6947, 0]]
    positions += [[0.1947, 0.8053, 0.5], [0.8053, 0.1947, 0.5]]
    cell = Cell(np.diag([4.5937, 4.5937, 2.9587]), np.array(positions), np.array([22, 22, 8, 8, 8, 8]))
    found = describe(cell)
    assert isinstance(found, Description)
    return found


def test_arms_differ_in_one_thing_and_have_equal_matrices() -> None:
    recipes = {path.stem: load_recipe(TrainConfig, path) for path in RECIPES}
    reference = recipes.pop("wyckoff")
    changed = {
        name: {field for field, value in vars(recipe).items() if value != getattr(reference, field)}
        for name, recipe in recipes.items()
    }
    assert changed == {
        "augmented": {"descriptions"},
        "crystallm": {"layout"},
        "gpt2": {"model"},
        "three_decimals": {"layout"},
    }
    sizes = {matrix_parameters(recipe.model, vocabulary=1000) for recipe in (reference, *recipes.values())}
    assert len(sizes) == 1


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_operations_count_every_matrix_once(kind: Any) -> None:
    shape = ModelConfig(model_type=kind, layers=2, hidden=8, heads=2, kv_heads=1 if kind == "llama" else None, ffn=12)
    model = build_model(shape, vocab_size=11, bos=0, eos=1, pad=2)
    matrices = [p.numel() for name, p in model.named_parameters() if p.dim() == 2 and ".wpe." not in name]
    assert matrix_parameters(shape, vocabulary=11) == sum(matrices)
    # Two layers, T = 10: 2 T d for the scores and as many for the values, three times with the backward pass.
    assert training_flop(shape, vocabulary=11, width=10) == 6 * sum(matrices) + 3 * 2 * (4 * 10 * 8)


def test_a_budget_of_operations_in_steps() -> None:
    shape = ModelConfig(layers=1, hidden=8, heads=2, ffn=8, context=16)
    config = TrainConfig(model=shape, max_steps=1, batch_tokens=64, accumulate=2)
    lengths = np.full(40, 8)  # every pass holds four texts of eight tokens, every step two passes
    step = 64 * training_flop(shape, vocabulary=5, width=8)
    assert flop_per_step(config, lengths, vocabulary=5) == step
    assert steps_for(7.4 * step, config, lengths, vocabulary=5) == 7
    assert steps_for(0.1 * step, config, lengths, vocabulary=5) == 1


@pytest.mark.parametrize("name", ["wyckoff", "wyckoff-3", "crystallm"])
def test_free_bits_of_a_model_that_knows_nothing(name: str, rutile: Description) -> None:
    layout = get_layout(name)
    tokens = layout.checked_tokens(rutile)
    assert not isinstance(tokens, Rejection)
    grammar = make_grammar(layout, Limits(), 1024)
    ids = [layout.vocabulary().index(token) for token in tokens]
    allowed = allowed_choices(grammar, Prompt(rutile.amounts, rutile.formula_units), ids)
    assert allowed is not None
    # All tokens equally probable: a choice costs the logarithm of its number of options, a forced token nothing.
    log_TV = torch.full((len(ids), len(layout.vocabulary())), -log2(len(layout.vocabulary())))
    bits = free_bits(log_TV, ids, allowed)
    assert bits is not None
    assert sum(bits.values()) == pytest.approx(sum(log2(len(choices)) for _, choices in allowed), rel=1e-5)
    heads = [len(choices) for stage, choices in allowed if stage is Stage.HEAD and len(choices) > 1]
    assert bits["space_group"] == pytest.approx(sum(map(log2, heads)), rel=1e-5)
    other = Prompt(rutile.amounts, 2 * rutile.formula_units)
    assert allowed_choices(grammar, other, ids) is None


def test_three_decimals_end_in_one_digit(rutile: Description) -> None:
    four, three = get_layout("wyckoff").checked_tokens(rutile), get_layout("wyckoff-3").checked_tokens(rutile)
    assert not isinstance(four, Rejection)
    assert not isinstance(three, Rejection)
    assert len(four) == len(three) == 23
    assert [four[place] for place in last_digits(four)] == ["37", "87", "53"]
    assert [three[place] for place in last_digits(three)] == ["4", "9", "5"]
    # 4.5937 and 0.3053 round to 4.594 and 0.305: what stands before the last token changes only where a carry does.
    back = get_layout("wyckoff-3").read("".join(three))
    assert isinstance(back, Description)
    assert (back.cell[0], back.cell[2], back.sites[1].free) == (4.594, 2.959, (0.305,))


def test_every_walk_through_three_decimals_is_a_crystal() -> None:
    layout = get_layout("wyckoff-3")
    grammar = make_grammar(layout, Limits(), 1024)
    rng = np.random.default_rng(0)
    from crystallm.sample.constraint import Partial

    for group in (1, 14, 62, 136, 225):
        partial, ids = Partial(), []
        steps = grammar.walk(Prompt((("Al", 2), ("O", 3)), 12, group), partial)
        choices = next(steps)
        while choices:
            ids.append(int(rng.choice(choices)))
            try:
                choices = steps.send(ids[-1])
            except StopIteration:
                break
        assert layout.read_tokens([grammar.tokens[token] for token in ids]) == partial.description()


def test_bits_of_a_last_digit() -> None:
    tokens = ["x", *(f"{n:02d}" for n in range(100)), *"0123456789"]
    log_V = torch.full((len(tokens),), -20.0)
    log_V[tokens.index("37")], log_V[tokens.index("38")] = -2.0, -2.0  # two of the 3x hold an eighth of a half each
    assert digit_bits(log_V, tokens, tokens.index("37")) == pytest.approx(1.0, abs=1e-3)
    log_V[tokens.index("5")] = -3.0
    assert digit_bits(log_V, tokens, tokens.index("5")) == 3.0


def test_a_mean_with_its_interval() -> None:
    found = mean_of([1.0, 3.0])
    assert (found["value"], found["crystals"]) == (2.0, 2)
    assert found["high"] - found["value"] == pytest.approx(1.96, abs=1e-3)  # 1.96 * sqrt(2) / sqrt(2)


def row(name: str, part: str, formula: str, n_sites: int = 4) -> dict[str, Any]:
    return {"id": name, "cif": "", "reduced_formula": formula, "n_sites": n_sites, "mp20_split": part}


def test_validation_crystals_have_formulas_of_their_own() -> None:
    rows = [row("a", "train", "NaCl"), row("b", "train", "TiO2", 24), row("c", "val", "NaCl"), row("d", "val", "TiO2")]
    rows += [row("e", "val", "MgO"), row("f", "heldout", "CaO"), row("g", "test", "BaO")]
    chosen = chosen_crystals(rows, validation=2, seed=0)
    assert [found["id"] for found in chosen][:1] == ["a"]
    assert {found["id"] for found in chosen} == {"a", "d", "e"}
    with pytest.raises(InputError, match="2 validation rows of other formulas are there, 3 are wanted"):
        chosen_crystals(rows, validation=3, seed=0)


def test_only_what_every_layout_can_write() -> None:
    found = in_all({"one": [{"id": "a"}, {"id": "b"}], "other": [{"id": "b"}, {"id": "c"}]})
    assert found == {"one": [{"id": "b"}], "other": [{"id": "b"}]}


def test_settings_that_cannot_work() -> None:
    with pytest.raises(ConfigError, match="draws must be above 0, got 0"):
        LayoutsConfig(draws=0)
