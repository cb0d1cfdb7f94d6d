"""The forward pass of a causal language model for decoding: tokens of many rows end to end, keys and values kept.

`transformers` defines, trains and stores the model. Decoding feeds it one token of some rows and many of others, and
the time of a small model goes into calls, not products: here the weights are read into the few products that are
needed, joined where they have the same input. Norms, attention and residuals are computed in float32, the matrix
products in the precision asked for, as in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from crystallm.base.errors import CheckpointError
from crystallm.model.fast_loading import StoredModel
from crystallm.sample.decoding.cache import Feed, Group, RowCache
from crystallm.sample.decoding.products import Map, product


class Step(Protocol):
    """What a pass of the decoder reads of the tokens it is fed: see `cache.Feed`."""

    @property
    def ids(self) -> Tensor:
        """Tokens (N,)."""

    @property
    def rows(self) -> Tensor:
        """Rows of the cache (N,)."""

    @property
    def slots(self) -> Tensor:
        """Places in their texts (N,)."""

    @property
    def last(self) -> Tensor:
        """Tokens after which logits are asked for (F,)."""

    @property
    def groups(self) -> list[Group]:
        """Rows that attend together."""

    @property
    def places(self) -> Tensor:
        """Where the queries of all groups, end to end, hold each token (N,)."""


@dataclass(frozen=True)
class Norm:
    """Root mean square norm, or layer norm where there is a bias, of numbers (N, W) in float32."""

    weight: Tensor
    bias: Tensor | None
    eps: float

    def __call__(self, h: Tensor) -> Tensor:
        if self.bias is None:
            return functional.rms_norm(h, self.weight.shape, self.weight, self.eps)
        return functional.layer_norm(h, self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True)
class Mlp:
    """down(activation(up(x))); where it is gated, `up` gives gate and up side by side: down(activation(gate) * up)."""

    up: Map
    activation: Map
    down: Map
    gated: bool

    def __call__(self, x: Tensor) -> Tensor:
        if not self.gated:
            return self.down(self.activation(self.up(x)))
        gate, up = self.up(x).chunk(2, dim=-1)
        return self.down(self.activation(gate).mul_(up))


@dataclass(frozen=True)
class Block:
    """One layer: h + out(attention(qkv(norm(h)))), then h + mlp(norm(h))."""

    attention_norm: Norm
    qkv: Map
    """Queries of all heads, then keys, then values."""
    out: Map
    mlp_norm: Norm
    mlp: Mlp


class Decoder:
    """A `llama` or `gpt2` model of `transformers`, or a stored one, with its weights laid out for decoding.

    dtype: of the matrix products of the blocks; the last one, which gives the logits, is always float32. Raises
    CheckpointError for another kind of model.
    """

    def __init__(self, model: Any, dtype: torch.dtype = torch.float32) -> None:
        readers = {"llama": _llama, "gpt2": _gpt2}
        config = model.config
        if config.model_type not in readers:
            raise CheckpointError(
                f"cannot decode with a model of type {config.model_type!r}; use one of {', '.join(readers)}"
            )
        if getattr(config, "scale_attn_by_inverse_layer_idx", False) or not getattr(config, "scale_attn_weights", True):
            raise CheckpointError("cannot decode with attention that is not scaled by the root of the head width")
        self.name = str(model.name_or_path or "")
        self.device: torch.device = model.device
        self.dtype = dtype
        # What attention works on: a CPU is fastest in float32, a GPU by reading half the bytes.
        self.kept = torch.float32 if self.device.type == "cpu" else dtype
        self.heads = config.num_attention_heads
        self.kv_heads = getattr(config, "num_key_value_heads", None) or self.heads
        self.width = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        with torch.no_grad():
            parts = readers[config.model_type](model, dtype)
        self.embedding, self.head = parts.embedding, product(parts.head)
        self.blocks, self.norm = parts.blocks, parts.norm
        self.positions, self.rotations = parts.positions, parts.rotations

    def warm_up(self) -> None:
        """Nothing is compiled."""

    def cache(self, rows: int) -> RowCache:
        """An empty cache for so many rows."""
        shape = {"layers": len(self.blocks), "rows": rows, "heads": self.kv_heads, "width": self.width}
        return RowCache(**shape, dtype=self.kept, device=self.device)

    def logits(self, feed: Feed, cache: RowCache) -> Tensor:
        """Logits (F, V) after the last token of each piece; the cache then holds the tokens of the step."""
        cache.reserve(feed.n_slots)
        return self.run(feed, cache)

    def run(self, feed: Step, cache: RowCache) -> Tensor:
        """The same with a cache that has room; nothing here depends on values, only on shapes."""
        shared = self.heads // self.kv_heads
        # One query of a row stands for all that share its head; more are repeated for each of them.
        masks = [group.mask.to(self.kept) for group in feed.groups]
        masks = [mask if mask.shape[2] == 1 else mask.repeat(1, 1, shared, 1) for mask in masks]
        places = feed.rows * cache.capacity + feed.slots
        looked_at = [cache.places(group.rows, mask.shape[-1]) for group, mask in zip(feed.groups, masks, strict=True)]
        n_query, n_stored = self.heads * self.width, 2 * self.kv_heads * self.width
        h = functional.embedding(feed.ids, self.embedding)
        if self.positions is not None:
            h = h + functional.embedding(feed.slots, self.positions)
        turn = None if self.rotations is None else self._turn(self.rotations, feed.slots)
        for layer, block in enumerate(self.blocks):
            qkv = block.qkv(block.attention_norm(h)).float()
            if turn is not None:
                _rotate(qkv, *turn)
            qkv = qkv.to(self.kept)
            stored = cache.stored[layer].view(-1, n_stored)
            stored.index_copy_(0, places, qkv[:, n_query:])
            attended = self._attention(qkv[:, :n_query], feed.groups, masks, stored, looked_at)
            h.add_(block.out(attended.index_select(0, feed.places)))
            h.add_(block.mlp(block.mlp_norm(h)))
        return self.head(self.norm(h.index_select(0, feed.last)))

    def _attention(
        self,
        query: Tensor,
        groups: Sequence[Group],
        masks: Sequence[Tensor],
        stored: Tensor,
        looked_at: Sequence[Tensor],
    ) -> Tensor:
        """Attention of queries (N, H * D) to what is stored (B * S, 2 * G * D); those of all groups, end to end.

        The H / G queries that share a key-value head are queries of one head more, so that nothing is repeated.
        """
        outputs = []
        shared = self.heads // self.kv_heads
        for group, mask, places in zip(groups, masks, looked_at, strict=True):
            n_rows, _, n_queries, n_slots = group.mask.shape
            kept = stored.index_select(0, places).view(n_rows, n_slots, 2, self.kv_heads, self.width)
            keys, values = kept.transpose(1, 3).unbind(2)
            grouped = query.index_select(0, group.queries)
            if n_queries == 1:
                grouped = grouped.view(n_rows, self.kv_heads, shared, self.width)
            else:
                grouped = grouped.view(n_rows, n_queries, self.kv_heads, shared, self.width).permute(0, 2, 3, 1, 4)
                grouped = grouped.reshape(n_rows, self.kv_heads, shared * n_queries, self.width)
            attended = functional.scaled_dot_product_attention(grouped, keys, values, attn_mask=mask)
            if n_queries > 1:
                attended = attended.view(n_rows, self.kv_heads, shared, n_queries, self.width).permute(0, 3, 1, 2, 4)
            outputs.append(attended.reshape(n_rows * n_queries, self.heads * self.width))
        return torch.cat(outputs)

    def _turn(self, rotations: Tensor, slots: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """How tokens in slots (N,) are turned: factors (N, T) of the T numbers of queries and keys, factors of the
        numbers half a head away, and where these stand, (T,)."""
        n_turned = self.heads + self.kv_heads
        cosine, sine = functional.embedding(slots, rotations).chunk(2, dim=-1)
        numbers = torch.arange(n_turned * self.width, device=slots.device).view(n_turned, 2, self.width // 2)
        own = torch.cat((cosine, cosine), dim=-1).repeat(1, n_turned)
        return own, torch.cat((-sine, sine), dim=-1).repeat(1, n_turned), numbers.flip(1).flatten()


def _rotate(qkv: Tensor, own: Tensor, others: Tensor, partners: Tensor) -> None:
    """Rotary positions (Su et al. 2021), in place: the first numbers of each token, its queries and keys."""
    turned = qkv[:, : len(partners)]
    across = turned.index_select(1, partners).mul_(others)
    turned.mul_(own).add_(across)


@dataclass(frozen=True)
class Parts:
    """What a decoder is made of."""

    embedding: Tensor
    """Of each token, (V, hidden)."""
    blocks: list[Block]
    norm: Norm
    head: Tensor
    """What makes logits of hidden states, (V, hidden)."""
    positions: Tensor | None = None
    """Learned ones, (S, hidden)."""
    rotations: Tensor | None = None
    """Rotary ones, (S, D) as cosines and sines."""


def _llama(model: Any, dtype: torch.dtype) -> Parts:
    config, weights = model.config, model.state_dict()

    def norm(name: str) -> Norm:
        return Norm(weights[f"{name}.weight"].float(), None, config.rms_norm_eps)

    def joined(*names: str) -> Map:
        biases = [weights[f"{name}.bias"] for name in names if f"{name}.bias" in weights]
        weight = torch.cat([weights[f"{name}.weight"] for name in names]).to(dtype)
        return product(weight, torch.cat(biases).to(dtype) if biases else None)

    def block(layer: str) -> Block:
        up = joined(f"{layer}.mlp.gate_proj", f"{layer}.mlp.up_proj")
        return Block(
            norm(f"{layer}.input_layernorm"),
            joined(*(f"{layer}.self_attn.{part}_proj" for part in "qkv")),
            joined(f"{layer}.self_attn.o_proj"),
            norm(f"{layer}.post_attention_layernorm"),
            Mlp(up, activation, joined(f"{layer}.mlp.down_proj"), gated=True),
        )

    if config.hidden_act in ("silu", "swish"):
        activation: Map = functional.silu
    else:
        activation = model.model.layers[0].mlp.act_fn.forward
    return Parts(
        weights["model.embed_tokens.weight"].float(),
        [block(f"model.layers.{layer}") for layer in range(config.num_hidden_layers)],
        norm("model.norm"),
        weights["lm_head.weight"].float(),
        rotations=torch.cat(_rotary_angles(model), dim=-1),
    )


def _rotary_angles(model: Any) -> tuple[Tensor, Tensor]:
    if isinstance(model, StoredModel):
        return model.rotary_angles()
    places = torch.arange(model.config.max_position_embeddings, device=model.device)[None]
    cosine, sine = model.model.rotary_emb(torch.zeros(1, device=model.device), places)
    half = cosine.shape[-1] // 2  # both halves are the same
    return cosine[0, :, :half], sine[0, :, :half]


def _gpt2(model: Any, dtype: torch.dtype) -> Parts:
    def norm(module: Any) -> Norm:
        return Norm(module.weight.detach().float(), module.bias.detach().float(), module.eps)

    def linear(module: Any) -> Map:  # its weights are kept as (in, out)
        return product(module.weight.detach().T.contiguous().to(dtype), module.bias.detach().to(dtype))

    def mlp(module: Any) -> Mlp:
        return Mlp(linear(module.c_fc), module.act, linear(module.c_proj), gated=False)

    blocks = [
        Block(norm(layer.ln_1), linear(layer.attn.c_attn), linear(layer.attn.c_proj), norm(layer.ln_2), mlp(layer.mlp))
        for layer in model.transformer.h
    ]
    return Parts(
        model.get_input_embeddings().weight.detach().float(),
        blocks,
        norm(model.transformer.ln_f),
        model.get_output_embeddings().weight.detach().float(),
        positions=model.transformer.wpe.weight.detach().float(),
    )
