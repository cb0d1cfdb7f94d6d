"""An imported checkpoint trains on, in its own layout."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from crystallm import cli
from crystallm.crystal.description import Description, Site
from crystallm.model.checkpoint import load_checkpoint
from crystallm.tokenizer.published_texts import CRYSTALLM

RECIPE = """
layout: crystallm
start_from: {start}
model: {{model_type: gpt2, layers: 1, hidden: 16, heads: 2, ffn: 64, context: 400}}
descriptions: augmented
max_steps: 3
batch_tokens: 1600
accumulate: 2
warmup_steps: 1
precision: fp32
weights: fp32
"""

METALS = ("Ca", "Sr", "Ba", "Mg", "Cd", "Zn", "Ni", "Co")


def perovskite(metal: str, a: float) -> str:
    sites = (Site(metal, "a", ()), Site("Ti", "b", ()), Site("O", "c", ()))
    return CRYSTALLM.write(Description(((metal, 1), ("Ti", 1), ("O", 3)), 1, 221, (a, a, a, 90.0, 90.0, 90.0), sites))


def test_fine_tuning_starts_from_the_imported_weights(tmp_path: Path, train_here: Callable[[list[str]], int]) -> None:
    torch.manual_seed(0)
    size = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 400, "vocab_size": 371}
    shapes = {f"h.0.{n}.weight": s for n, s in {"ln_1": (16,), "ln_2": (16,), "attn.c_attn": (48, 16)}.items()}
    shapes |= {"h.0.attn.c_proj.weight": (16, 16), "h.0.mlp.c_fc.weight": (64, 16), "h.0.mlp.c_proj.weight": (16, 64)}
    shapes |= {"wte.weight": (371, 16), "wpe.weight": (400, 16), "ln_f.weight": (16,)}
    state = {f"_orig_mod.transformer.{name}": torch.randn(shape) * 0.1 for name, shape in shapes.items()}
    torch.save({"model": state, "model_args": size | {"bias": False}}, tmp_path / "ckpt.pt")
    assert cli.main(["model", "import", str(tmp_path / "ckpt.pt"), str(tmp_path / "imported")]) == 0
    for name, metals in (("train", METALS), ("val", METALS[:2])):
        texts = [perovskite(metal, 3.8 + 0.05 * n) for n, metal in enumerate(metals)]
        pq.write_table(pa.table({"text": texts}), tmp_path / f"{name}.parquet")
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(start=tmp_path / "imported"))
    run = [str(tmp_path / "recipe.yaml"), "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    assert train_here(run) == 0
    tuned, start = load_checkpoint(tmp_path / "run" / "best"), load_checkpoint(tmp_path / "imported")
    assert tuned.layout_name == "crystallm"
    assert tuned.tokenizer.get_vocab() == start.tokenizer.get_vocab()
    moved = (tuned.model.transformer.wpe.weight - start.model.transformer.wpe.weight).abs().max()
    assert 0 < moved < 0.05  # it went on from there


def test_recipe_of_another_layout_is_refused(
    tmp_path: Path, train_here: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.table({"text": [perovskite("Ca", 3.9)[:-1] + "x"]}), tmp_path / "train.parquet")
    pq.write_table(pa.table({"text": [perovskite("Ca", 3.9)]}), tmp_path / "val.parquet")
    (tmp_path / "recipe.yaml").write_text("layout: wyckoff\nmodel: {layers: 1, hidden: 16, heads: 2}\nmax_steps: 1\n")
    run = [str(tmp_path / "recipe.yaml"), "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    assert train_here(run) == 2
    assert "prepare the data with the layout of the recipe" in capsys.readouterr().err
