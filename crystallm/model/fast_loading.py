"""A model read from the files of its checkpoint, for what needs its numbers but not `transformers`.

Importing `transformers` and building a model with it takes half the time of a command that draws ten crystals.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

LIKE_OURS = {"model_type": "llama", "hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
"""What the config of a model that can be read without `transformers` says."""


@dataclass(frozen=True, eq=False)
class StoredModel:
    """The config and the weights, float32, of a `llama` model; they go by the names that `transformers` gives them."""

    config: Any
    weights: Mapping[str, Tensor]
    vocabulary: list[str]
    """Tokens in the order of their ids."""
    name_or_path: str
    device: torch.device

    def state_dict(self) -> Mapping[str, Tensor]:
        """All weights by name."""
        return self.weights

    def to(self, device: torch.device) -> StoredModel:
        """The same on a device."""
        weights = {name: weight.to(device) for name, weight in self.weights.items()}
        return replace(self, weights=weights, device=device)

    def rotary_angles(self) -> tuple[Tensor, Tensor]:
        """Cosines and sines (S, D / 2) of the rotary positions (Su et al. 2021) of S slots, computed in float32."""
        width, theta = self.config.head_dim, self.config.rope_parameters["rope_theta"]
        speeds = 1.0 / theta ** (torch.arange(0, width, 2, dtype=torch.int64).float() / width)
        angles = torch.arange(self.config.max_position_embeddings).float()[:, None] * speeds
        return angles.cos().to(self.device), angles.sin().to(self.device)


def read_stored(folder: Path) -> StoredModel | None:
    """The model of a checkpoint folder; None if it is of another kind, or anything about it is not as it should be:
    `load_checkpoint` reads the one and explains the other."""
    try:
        told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        vocabulary = _vocabulary(json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")))
        if not _is_like_ours(told) or sorted(vocabulary.values()) != list(range(told["vocab_size"])):
            return None
        weights = load_file(folder / "model.safetensors")
        shapes = _shapes(told)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError):
        return None
    if {name: tuple(weight.shape) for name, weight in weights.items()} != shapes:
        return None
    weights = {name: weight.float() for name, weight in weights.items()}
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    return StoredModel(SimpleNamespace(**told), weights, words, str(folder), torch.device("cpu"))


def _vocabulary(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """Ids of tokens by what a tokenizer.json says."""
    added = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    return {**tokenizer["model"]["vocab"], **added}


def _is_like_ours(told: Mapping[str, Any]) -> bool:
    positions = told["rope_parameters"]
    return (
        all(told[name] == value for name, value in LIKE_OURS.items())
        and told["tie_word_embeddings"]
        and positions["rope_type"] == "default"
        and positions.keys() == {"rope_type", "rope_theta"}
    )


def _shapes(told: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Of the weights of a model with tied embeddings, by name."""
    hidden, inner, width = told["hidden_size"], told["intermediate_size"], told["head_dim"]
    queries, keys = told["num_attention_heads"] * width, told["num_key_value_heads"] * width
    shapes = {"model.embed_tokens.weight": (told["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    for layer in range(told["num_hidden_layers"]):
        own = {
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
            "self_attn.q_proj": (queries, hidden),
            "self_attn.k_proj": (keys, hidden),
            "self_attn.v_proj": (keys, hidden),
            "self_attn.o_proj": (hidden, queries),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in own.items()}
    return shapes
