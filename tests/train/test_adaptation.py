"""What a run trains and what it leaves alone: frozen layers, rates by depth, adapters, replay, early stopping."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

from crystallm.base.errors import CheckpointError, ConfigError
from crystallm.model.architecture import ModelConfig, build_model, shape_of, with_dropout
from crystallm.model.checkpoint import load_checkpoint, save_checkpoint
from crystallm.train.config import TrainConfig
from crystallm.train.optim.adapter import add_adapter, merge_adapter, merged, save_adapter
from crystallm.train.optim.optimizers import depth_of, freeze, make_optimizers
from crystallm.train.texts.batches import draw_replay

SHAPES = {
    "llama": ModelConfig(layers=3, hidden=16, heads=2, kv_heads=1, ffn=24, context=32),
    "gpt2": ModelConfig(model_type="gpt2", layers=3, hidden=16, heads=2, ffn=24, context=32),
}
IDS = torch.arange(12)[None] % 7


def make(kind: str = "llama", *, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    return build_model(SHAPES[kind], vocab_size=20, bos=0, eos=1, pad=2).eval()


@pytest.mark.parametrize("kind", SHAPES)
def test_the_shape_of_a_model_is_what_it_was_built_from(kind: str) -> None:
    config = with_dropout(make(kind).config, 0.25)
    assert shape_of(config) == ModelConfig(**{**SHAPES[kind].__dict__, "dropout": 0.25})


@pytest.mark.parametrize("kind", SHAPES)
def test_depths(kind: str) -> None:
    depths = {name: depth_of(name, layers=3) for name, _ in make(kind).named_parameters()}
    assert sorted(set(depths.values())) == [0, 1, 2, 3, 4]
    names = [name for name, depth in depths.items() if depth in (0, 4)]
    assert (
        names
        == {
            "llama": ["model.embed_tokens.weight", "model.norm.weight"],
            "gpt2": [f"transformer.{name}" for name in ("wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias")],
        }[kind]
    )


@pytest.mark.parametrize("kind", SHAPES)
def test_frozen_layers_keep_their_weights(kind: str) -> None:
    model = make(kind)
    freeze(model, frozen_layers=2, layers=3)
    config = TrainConfig(model=SHAPES[kind], max_steps=1, frozen_layers=2, batch_tokens=64, accumulate=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(input_ids=IDS).logits.square().mean().backward()
    for optimizer in make_optimizers(config, model):
        optimizer.step()
    changed = {depth_of(name, layers=3) for name, value in model.named_parameters() if not value.equal(before[name])}
    assert changed == {3, 4}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_rates_fall_with_depth(optimizer: Any) -> None:
    config = TrainConfig(model=SHAPES["llama"], max_steps=1, layer_decay=0.5, optimizer=optimizer)
    model = make()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    scales = {
        depth_of(names[id(parameter)], layers=3): group["rate_scale"]
        for found in make_optimizers(config, model)
        for group in found.param_groups
        for parameter in group["params"]
    }
    assert scales == {4: 1.0, 3: 0.5, 2: 0.25, 1: 0.125, 0: 0.0625}


def adapted(kind: str) -> PreTrainedModel:
    """A model with an adapter that changes what it says."""
    pytest.importorskip("peft")
    model = add_adapter(make(kind), rank=2, alpha=8.0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # zero at birth
                parameter.normal_(std=0.3)
    return model.eval()


@pytest.mark.parametrize("kind", SHAPES)
@torch.no_grad()
def test_a_merged_adapter_says_the_same(kind: str) -> None:
    model = adapted(kind)
    whole = merged(model)
    assert not any("lora" in name for name, _ in whole.named_parameters())
    torch.testing.assert_close(whole(input_ids=IDS).logits, model(input_ids=IDS).logits, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(whole(input_ids=IDS).logits, make(kind)(input_ids=IDS).logits, atol=1e-2)
    assert any("lora" in name for name, _ in model.named_parameters())  # training goes on with it


def test_only_the_adapter_trains() -> None:
    trained = [name for name, parameter in adapted("llama").named_parameters() if parameter.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)


@pytest.fixture
def base(prepared: Path, tmp_path: Path) -> Path:
    from crystallm.train.starting_model import load_tokenizer

    tokenizer = load_tokenizer("wyckoff", prepared / "tokenizer")
    tokens = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    shape = ModelConfig(layers=1, hidden=32, heads=2, ffn=32, context=40)
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = build_model(shape, vocab_size=len(tokenizer), **tokens)
        about: dict[str, Any] = {"layout_name": "wyckoff", "descriptions": "canonical", "provenance": {}}
        save_checkpoint(tmp_path / f"base{seed}", model, tokenizer, card="# A card\n", **about)
    return tmp_path / "base0"


def test_a_run_with_an_adapter(base: Path, arguments: Any, train_here: Any, metrics: Any, tmp_path: Path) -> None:
    """It learns, can be stopped and resumed, and exports a whole model; its adapter merges into its base only."""
    pytest.importorskip("peft")
    fields: dict[str, Any] = {"start_from": base, "lora_rank": 4, "model__dropout": 0, "weights": "fp32"}
    fields |= {"learning_rate": 0.02, "eval_every": 6}
    out = tmp_path / "run"
    assert train_here(arguments(out, **fields, max_steps=12)) == 0
    assert train_here(arguments(out, "--resume", **fields, max_steps=24)) == 0
    losses = [loss for _, loss, _ in metrics(out, "eval")]
    assert losses[-1] < losses[0] - 0.1
    about = load_checkpoint(out / "best").provenance["training"]
    assert about["parameters_trained"] < about["parameters"]

    assert train_here(["merge", str(out / "adapter"), "--model", str(base), "--out", str(tmp_path / "whole")]) == 0
    best, whole = (load_file(folder / "model.safetensors") for folder in (out / "best", tmp_path / "whole"))
    for name, value in best.items():
        torch.testing.assert_close(whole[name].float(), value, rtol=1e-2, atol=1e-3)

    with pytest.raises(CheckpointError, match=r"was trained on another base than .*base1"):
        merge_adapter(out / "adapter", base=base.with_name("base1"), out=tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()
    with pytest.raises(CheckpointError, match=r"is not an adapter of this project: no adapter_config\.json"):
        merge_adapter(out / "best", base=base, out=tmp_path / "wrong")


def test_an_adapter_names_its_base(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    save_adapter(tmp_path / "adapter", add_adapter(load_checkpoint(base).model, rank=2, alpha=8.0), base=base)
    assert json.loads((tmp_path / "adapter" / "crystallm_base.json").read_text())["base"] == "base0"


@pytest.mark.parametrize(("own", "share", "drawn"), [(90, 0.1, 10), (30, 0.25, 10), (10, 0.5, 10), (10, 0.0, 0)])
def test_replayed_texts_are_the_share_asked_for(own: int, share: float, drawn: int) -> None:
    rows = draw_replay(own, 40, share=share, seed=0, epoch=0)
    assert len(rows) == drawn == len(set(rows.tolist()))


def test_replay_takes_every_text_before_one_comes_twice() -> None:
    assert np.bincount(draw_replay(100, 40, share=0.5, seed=0, epoch=0)).tolist().count(3) == 20


def test_replay_is_drawn_anew_in_each_epoch() -> None:
    assert len({tuple(draw_replay(10, 400, share=0.5, seed=0, epoch=epoch)) for epoch in range(3)}) == 3
    assert draw_replay(10, 0, share=0.5, seed=0, epoch=0).tolist() == []


def test_replay_joins_training(prepared: Path, arguments: Any, train_here: Any, metrics: Any, tmp_path: Path) -> None:
    """With as many replayed texts as own ones an epoch has about twice the tokens."""
    texts = pq.read_table(prepared / "val.parquet")
    pq.write_table(texts, prepared / "replay.parquet")
    assert train_here(arguments(tmp_path / "alone", max_steps="null", epochs=1)) == 0
    assert train_here(arguments(tmp_path / "both", max_steps="null", epochs=1, replay_share=0.5)) == 0
    alone, both = (metrics(tmp_path / name, "train")[-1][2] for name in ("alone", "both"))
    assert both / alone == pytest.approx(2, rel=0.1)


def test_a_run_ends_when_the_loss_has_stopped_falling(
    base: Path, arguments: Any, train_here: Any, metrics: Any, tmp_path: Path
) -> None:
    """At an absurd rate nothing is better than the start; the best model is the start."""
    fields: dict[str, Any] = {"start_from": base, "learning_rate": 3.0, "eval_every": 2, "patience": 3}
    out = tmp_path / "run"
    assert train_here(arguments(out, **fields, weights="fp32", model__dropout=0)) == 0
    assert [step for step, *_ in metrics(out, "eval")] == [0, 2, 4, 6]
    start, best = (load_file(folder / "model.safetensors") for folder in (base, out / "best"))
    assert all(torch.equal(best[name], value) for name, value in start.items())
    assert train_here(arguments(out, "--resume", **fields, weights="fp32", model__dropout=0)) == 0
    assert [step for step, *_ in metrics(out, "eval")] == [0, 2, 4, 6]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"patience": 0}, "patience must be at least 1, got 0"),
        ({"replay_share": 1.0}, "replay_share must be at least 0 and below 1, got 1.0"),
        ({"frozen_layers": 8}, "frozen_layers must be at least 0 and below model.layers=8, got 8"),
        ({"layer_decay": 0.0}, "layer_decay must be above 0 and at most 1, got 0.0"),
        ({"lora_rank": 4, "frozen_layers": 1}, "leave frozen_layers at 0"),
    ],
)
def test_an_adaptation_that_cannot_work(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig(max_steps=1, **fields)
