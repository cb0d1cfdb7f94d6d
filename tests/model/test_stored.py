"""A model that is read without transformers has the numbers of the one that transformers loads, or is not read."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from crystallm.base.errors import CheckpointError
from crystallm.model.architecture import ModelConfig, build_model
from crystallm.model.checkpoint import load_checkpoint, open_checkpoint, save_checkpoint
from crystallm.model.fast_loading import read_stored
from crystallm.sample.decoding.cache import Feed, Piece
from crystallm.sample.decoding.decoder import Decoder
from crystallm.sample.generator import Generator
from crystallm.tokenizer import build_tokenizer
from crystallm.tokenizer.layout import get_layout

TOKENIZER = build_tokenizer(get_layout("wyckoff"))


def save(folder: Path, **shape: Any) -> Path:
    torch.manual_seed(0)
    tokens = {"bos": TOKENIZER.bos_token_id, "eos": TOKENIZER.eos_token_id, "pad": TOKENIZER.pad_token_id}
    sizes = ModelConfig(**{"layers": 2, "hidden": 32, "heads": 4, "ffn": 24, "context": 64, **shape})
    model = build_model(sizes, vocab_size=len(TOKENIZER), **tokens)
    about = {"layout_name": "wyckoff", "descriptions": "canonical", "provenance": {}}
    save_checkpoint(folder, model, TOKENIZER, card="", dtype=torch.bfloat16, **about)
    return folder


@pytest.mark.parametrize("kv_heads", [None, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_logits_to_the_last_bit(kv_heads: int | None, dtype: torch.dtype, tmp_path: Path) -> None:
    folder = save(tmp_path / "model", kv_heads=kv_heads)
    stored = read_stored(folder)
    assert stored is not None
    loaded = load_checkpoint(folder)
    assert stored.vocabulary == loaded.vocabulary
    logits = []
    for model in (stored, loaded.model):
        decoder = Decoder(model, dtype)
        feed = Feed([Piece(0, 0, [2, 5, 9, 100, 7]), Piece(1, 0, list(range(2, 60)))], decoder.device)
        with torch.inference_mode():
            logits.append(decoder.logits(feed, decoder.cache(2)))
    assert torch.equal(*logits)


def other_positions(config: dict[str, Any]) -> None:
    config["rope_parameters"] = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}


def other_activation(config: dict[str, Any]) -> None:
    config["hidden_act"] = "gelu"


def later_version(config: dict[str, Any]) -> None:
    del config["rope_parameters"]


@pytest.mark.parametrize("change", [other_positions, other_activation, later_version])
def test_models_that_are_otherwise_are_left_to_transformers(
    change: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    folder = save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    assert read_stored(folder) is None
    opened = open_checkpoint(folder)
    assert opened.vocabulary == get_layout("wyckoff").vocabulary()
    assert Generator(opened).model.config.hidden_act == config["hidden_act"]


def test_weights_of_their_own_for_the_logits_are_left_to_transformers(tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    model = LlamaForCausalLM(LlamaConfig.from_pretrained(folder, tie_word_embeddings=False))
    model.save_pretrained(folder)
    assert read_stored(folder) is None
    decoder = Decoder(open_checkpoint(folder).model)
    assert decoder.blocks
    assert not torch.equal(decoder.embedding, model.lm_head.weight)


def test_gpt2_is_left_to_transformers(tmp_path: Path) -> None:
    assert read_stored(save(tmp_path / "model", model_type="gpt2")) is None


def lose_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])


def cut_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text()[:500])


def cut_config(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text()[:100])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lose_a_tensor, r"do not fit its config\.json: model\.layers\.0\.mlp\.up_proj\.weight"),
        (cut_weights, "is damaged"),
        (cut_tokenizer, "is damaged"),
        (cut_config, "is damaged"),
    ],
)
def test_damage_is_told_as_ever(damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    damage(folder)
    assert read_stored(folder) is None
    with pytest.raises(CheckpointError, match=message):
        Generator.from_pretrained(folder)


def test_crystals_of_a_formula_are_drawn_without_transformers(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", context=512)
    program = (
        "import sys\nfrom crystallm import Generator\n"
        f"generator = Generator.from_pretrained({str(folder)!r}, device='cpu')\n"
        "print(len(list(generator.generate('NaCl', n=3, formula_units=2))), 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1] == "False"
