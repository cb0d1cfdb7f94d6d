"""The comparison of layouts: the same operations, the same crystals, and bits that can be added up by hand."""

from collections.abc import Callable
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState

from crystallm.base.config import load_recipe
from crystallm.base.errors import ConfigError, InputError
from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.cif import write_cif
from crystallm.crystal.description import Description, Site, describe
from crystallm.model.architecture import ModelConfig, build_model
from crystallm.sample.grammar.making import make_grammar
from crystallm.sample.grammar.wyckoff_grammar import Limits, Partial, Prompt, Stage
from crystallm.sample.output.records import RECORDS, read_records
from crystallm.tokenizer.layout import get_layout
from crystallm.train.config import TrainConfig
from crystallm.train.monitor.compute import flop_per_step, matrix_parameters, steps_for, training_flop
from crystallm.train.optim.optimizers import make_optimizers
from studies.layouts.arms import compare
from studies.layouts.bits import (
    allowed_choices,
    digit_bits,
    free_bits,
    last_digits,
    mean_of,
)
from studies.layouts.config import LayoutsConfig
from studies.layouts.report import drawn_head
from studies.layouts.texts import chosen_crystals, in_all

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


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_muon_takes_the_matrices_inside_the_layers(kind: Any) -> None:
    shape = ModelConfig(model_type=kind, layers=2, hidden=8, heads=2, ffn=12, context=32)
    model = build_model(shape, vocab_size=11, bos=0, eos=1, pad=2)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    muon, _ = make_optimizers(TrainConfig(model=shape, max_steps=1, max_tokens=32, optimizer="muon"), model)
    taken = [names[id(parameter)] for group in muon.param_groups for parameter in group["params"]]
    inside = [name for name, p in model.named_parameters() if p.dim() == 2 and (".layers." in name or ".h." in name)]
    assert taken == inside


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


def test_a_digit_that_the_automaton_computes_may_differ(rutile: Description) -> None:
    layout = get_layout("crystallm")
    tokens = layout.checked_tokens(rutile)
    assert not isinstance(tokens, Rejection)
    grammar, vocabulary = make_grammar(layout, Limits(), 1024), layout.vocabulary()
    ids = [vocabulary.index(token) for token in tokens]
    prompt = Prompt(rutile.amounts, rutile.formula_units)
    # 62.4347 cubic angstrom; the lengths before they were rounded may have given 62.4357.
    place = next(n for n in range(len(tokens)) if layout.text(tokens[:n]).endswith("_cell_volume 62.43"))
    other = [*ids[:place], vocabulary.index("5"), *ids[place + 1 :]]
    assert tokens[place] == "4"
    allowed = allowed_choices(grammar, prompt, ids)
    assert allowed is not None
    assert allowed_choices(grammar, prompt, other) == allowed
    broken = [*ids[:place], vocabulary.index("Ti"), *ids[place + 1 :]]
    assert allowed_choices(grammar, prompt, broken) is None


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
    log_V[tokens.index("37")], log_V[tokens.index("38")] = -2.0, -2.0  # the others of 3x are hardly possible
    assert digit_bits(log_V, tokens, tokens.index("37")) == pytest.approx(1.0, abs=1e-3)
    log_V[[tokens.index(digit) for digit in "0123456789"]] = -7.0
    assert digit_bits(log_V, tokens, tokens.index("5")) == pytest.approx(log2(10))


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


def test_one_draw_has_one_match_rate() -> None:
    one, two = (drawn_head({"draws": draws, "reference": "wyckoff"}) for draws in (1, 2))
    assert [name for name in one if name.startswith(("match", "@"))] == ["match @1", "@1: only here, only wyckoff"]
    assert len(two) == len(one) + 2


def test_settings_that_cannot_work() -> None:
    with pytest.raises(ConfigError, match="draws must be above 0, got 0"):
        LayoutsConfig(draws=0)
    with pytest.raises(ConfigError, match=r"contact must be between 0 and 0\.9, got 2"):
        LayoutsConfig(contact=2.0)


TINY = ModelConfig(layers=1, hidden=16, heads=2, kv_heads=1, ffn=16, context=400)
OXIDES = {"Mg": 4.21, "Ca": 4.81, "Sr": 5.16, "Ba": 5.54, "Cd": 4.70, "Ni": 4.17}
"""Rock salts with oxygen -> lattice parameter in angstrom (Wyckoff, Crystal Structures, 1963)."""


def write_oxides(folder: Path) -> Path:
    sites = {m: (Site(m, "a", ()), Site("O", "b", ())) for m in OXIDES}
    cells = {m: (a, a, a, 90.0, 90.0, 90.0) for m, a in OXIDES.items()}
    crystals = {m: Description(((m, 1), ("O", 1)), 1, 225, cells[m], sites[m]) for m in OXIDES}
    for layout in ("wyckoff", "crystallm"):
        rows = [{"id": m, "text": get_layout(layout).write(found)} for m, found in crystals.items()]
        (folder / layout).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows[:4]), folder / layout / "train.parquet")
        pq.write_table(pa.Table.from_pylist(rows[4:]), folder / layout / "val.parquet")
    targets = [{"id": m, "cif": write_cif(crystals[m])} for m in list(OXIDES)[4:]]
    pq.write_table(pa.Table.from_pylist(targets), folder / "targets.parquet")
    (folder / "texts.json").write_text("{}")
    return folder


def test_two_arms_from_texts_to_tables(tmp_path: Path, train_here: Callable[[list[str]], int]) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    texts, out = write_oxides(tmp_path / "texts"), tmp_path / "out"
    out.mkdir()
    common: dict[str, Any] = {"model": TINY, "max_steps": 1, "batch_tokens": 800, "accumulate": 2, "precision": "fp32"}
    arms = [(name, TrainConfig(layout=name, **common)) for name in ("wyckoff", "crystallm")]
    # Four texts make one pass, filled up to 400 tokens: sixteen rows of 24.
    operations = 3 * 16 * 24 * training_flop(TINY, vocabulary=1013, width=24)
    config = LayoutsConfig(teraflop=operations / 1e12, targets=1, draws=2, timed=1, contact=0.0)
    report = compare(arms, config, texts, out)
    ours, theirs = report["arms"]
    assert ours["steps"] == 3
    assert ours["budget"]["teraflop"] == pytest.approx(theirs["budget"]["teraflop"], rel=0.2)
    # The automaton writes both texts of both validation crystals, and their free bits are less than the whole.
    assert (ours["not_walked"], theirs["not_walked"]) == (0, 0)
    assert 0 < ours["bits"]["free"]["value"] < ours["bits"]["whole"]["value"]
    less = theirs["against_reference"]["whole"]
    assert less["value"] == pytest.approx(theirs["bits"]["whole"]["value"] - ours["bits"]["whole"]["value"])
    assert ours["finished"] == {**ours["finished"], "passed": 2, "attempted": 2}
    lines = (out / "layouts.md").read_text().splitlines()
    assert sum(line.startswith("| crystallm |") for line in lines) == 4
    assert "contact 0 (geometry off)" in lines[2]
    drawn = read_records(out / "crystallm" / "samples" / RECORDS)
    assert [record["contact"] for record in drawn] == [0.0, 0.0]
    assert (out / "layouts.png").is_file()
    again = compare(arms, config, texts, out)  # what is done is read
    assert again["arms"] == report["arms"]
    with pytest.raises(ConfigError, match="was begun with other settings"):
        compare(arms, LayoutsConfig(draws=3), texts, out)
