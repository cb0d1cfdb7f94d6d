"""A Hugging Face causal language model made from the model part of a recipe."""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from crystallm.base.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape of the model; everything else is the default of its `transformers` config class."""

    model_type: Literal["llama", "gpt2"] = "llama"
    """`llama`: rotary positions, RMS norm, gated MLP. `gpt2`: learned positions, layer norm, plain MLP."""
    layers: int = 8
    """Number of transformer blocks."""
    hidden: int = 256
    """Width of the residual stream."""
    heads: int = 8
    """Attention heads in a layer."""
    kv_heads: int | None = None
    """Key and value heads, `llama` only; None is as many as `heads`."""
    ffn: int = 688
    """Width of the MLP."""
    context: int = 1024
    """Longest text in tokens."""
    dropout: float = 0.0
    """Probability of dropping: attention weights in `llama`; also residuals and embeddings in `gpt2`."""

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "heads", "ffn", "context"):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.{name} must be at least 1, got {getattr(self, name)}")
        if self.hidden % self.heads:
            raise ConfigError(f"model.hidden={self.hidden} must be a multiple of model.heads={self.heads}")
        if self.model_type == "llama" and (self.hidden // self.heads) % 2:
            raise ConfigError(f"model.hidden / model.heads must be even, got {self.hidden // self.heads}")
        if self.kv_heads is not None and self.model_type != "llama":
            raise ConfigError(f"model.kv_heads is for model_type llama, not {self.model_type}; leave it out")
        if self.kv_heads is not None and (self.kv_heads < 1 or self.heads % self.kv_heads):
            raise ConfigError(f"model.kv_heads={self.kv_heads} must divide model.heads={self.heads}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.dropout must be in [0, 1), got {self.dropout}")


def build_model(
    config: ModelConfig, *, vocab_size: int, bos: int, eos: int | None, pad: int, attention: str = "sdpa"
) -> "PreTrainedModel":
    """Return a freshly initialised model with tied embeddings; weights come from torch's global random state."""
    from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

    tokens = {
        "vocab_size": vocab_size,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "pad_token_id": pad,
        "tie_word_embeddings": True,
    }
    if config.model_type == "llama":
        shape = LlamaConfig(
            hidden_size=config.hidden,
            intermediate_size=config.ffn,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads or config.heads,
            head_dim=config.hidden // config.heads,
            max_position_embeddings=config.context,
            attention_dropout=config.dropout,
            **tokens,
        )
    else:
        shape = GPT2Config(
            n_embd=config.hidden,
            n_inner=config.ffn,
            n_layer=config.layers,
            n_head=config.heads,
            n_positions=config.context,
            attn_pdrop=config.dropout,
            embd_pdrop=config.dropout,
            resid_pdrop=config.dropout,
            **tokens,
        )
    return AutoModelForCausalLM.from_config(shape, attn_implementation=attention)


def shape_of(config: "PretrainedConfig") -> ModelConfig:
    """Return the shape that a `transformers` config describes: what `build_model` was given.

    Raises CheckpointError for a kind of model that is not ours.
    """
    if config.model_type == "llama":
        return ModelConfig(
            model_type="llama",
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            ffn=config.intermediate_size,
            context=config.max_position_embeddings,
            dropout=config.attention_dropout,
        )
    if config.model_type != "gpt2":
        raise CheckpointError(f"a model of type {config.model_type!r} cannot be trained; use one of type llama or gpt2")
    return ModelConfig(
        model_type="gpt2",
        layers=config.n_layer,
        hidden=config.n_embd,
        heads=config.n_head,
        ffn=config.n_inner or 4 * config.n_embd,
        context=config.n_positions,
        dropout=config.resid_pdrop,
    )


def with_dropout(config: "PretrainedConfig", dropout: float) -> "PretrainedConfig":
    """Return a copy of a `transformers` config whose model drops with this probability."""
    names = ("attention_dropout",) if config.model_type == "llama" else ("attn_pdrop", "embd_pdrop", "resid_pdrop")
    changed = copy.deepcopy(config)
    changed.update(dict.fromkeys(names, dropout))
    return changed


def count_parameters(model: "PreTrainedModel") -> int:
    """Return the number of trained values; tied embeddings count once."""
    return sum(parameter.numel() for parameter in model.parameters())
