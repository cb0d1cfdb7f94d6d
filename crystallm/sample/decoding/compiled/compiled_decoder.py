"""Decoding on a CPU: the products of torch, and compiled loops for all that is between them (decision 14)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from crystallm.sample.decoding.cache import Feed, Piece
from crystallm.sample.decoding.compiled import kernels
from crystallm.sample.decoding.decoder import Decoder, Mlp, Norm

Numbers = NDArray[Any]
"""float32, or the bits of bfloat16 as uint16."""


class Kept(NamedTuple):
    """Keys (L, S / BLOCK, G, D, BLOCK) and values (L, S, G, D) of the first tokens of a row."""

    keys: Numbers
    values: Numbers


class BlockCache:
    """Keys (L, B, S / BLOCK, G, D, BLOCK) and values (L, B, S, G, D) of rows, laid out for `kernels.attention`.

    The capacity S starts small and doubles when the longest text needs it.
    """

    def __init__(
        self, *, layers: int, rows: int, heads: int, width: int, dtype: np.dtype[Any], capacity: int = 64
    ) -> None:
        blocks = -(-capacity // kernels.BLOCK)
        # Zeros, not empty: what is not looked at has weight zero, but NaN times zero would still be NaN.
        self.keys: Numbers = np.zeros((layers, rows, blocks, heads, width, kernels.BLOCK), dtype)
        self.values: Numbers = np.zeros((layers, rows, blocks * kernels.BLOCK, heads, width), dtype)

    @property
    def capacity(self) -> int:
        """Slots of a row."""
        return int(self.values.shape[2])

    @property
    def bytes(self) -> int:
        """Memory of keys and values."""
        return self.keys.nbytes + self.values.nbytes

    def reserve(self, slots: int) -> None:
        """Make room for texts of so many tokens."""
        if slots > self.capacity:
            blocks = max(self.capacity // kernels.BLOCK, -(-(slots - self.capacity) // kernels.BLOCK))
            self.keys = np.pad(self.keys, [(0, 0)] * 2 + [(0, blocks)] + [(0, 0)] * 3)
            self.values = np.pad(self.values, [(0, 0)] * 2 + [(0, blocks * kernels.BLOCK)] + [(0, 0)] * 2)

    def copy_out(self, row: int, length: int) -> Kept:
        """What is kept of the first tokens of a row."""
        blocks = -(-length // kernels.BLOCK)
        return Kept(self.keys[:, row, :blocks].copy(), self.values[:, row, :length].copy())

    def copy_in(self, row: int, prefix: Kept) -> None:
        """Let a row begin with what was copied out before."""
        self.keys[:, row, : prefix.keys.shape[1]] = prefix.keys
        self.values[:, row, : prefix.values.shape[1]] = prefix.values


@dataclass(frozen=True)
class CompiledNorm:
    """A norm of numbers (N, W)."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    eps: np.float32

    @classmethod
    def of(cls, norm: Norm) -> CompiledNorm:
        """The same norm."""
        bias = None if norm.bias is None else norm.bias.numpy()
        return cls(norm.weight.numpy(), bias, np.float32(norm.eps))

    def __call__(self, h: NDArray[np.float32], out: Numbers) -> None:
        if self.bias is None:
            kernels.rms_norm(h, self.weight, self.eps, out)
        else:
            kernels.layer_norm(h, self.weight, self.bias, self.eps, out)


class Room:
    """What a pass over N tokens works in: each tensor for the products and, where it lies, an array for the loops."""

    def __init__(self, n: int, model: Decoder) -> None:
        hidden, inner = model.embedding.shape[1], model.heads * model.width
        self.normed, self.attended = (torch.empty((n, width), dtype=model.dtype) for width in (hidden, inner))
        self.normed_numbers = numbers(self.normed)
        self.attended_numbers = numbers(self.attended).reshape(n, model.heads, model.width)
        self._n, self._gated = n, torch.empty((n, 0), dtype=model.dtype)

    def gated(self, width: int) -> Tensor:
        """What the gates of an MLP let through, (N, W)."""
        if self._gated.shape[1] != width:
            self._gated = torch.empty((self._n, width), dtype=self._gated.dtype)
        return self._gated


class CompiledDecoder:
    """A decoder on a CPU whose norms, rotations, attention and gates are compiled loops.

    Keys and values are kept in the precision of the products, as they are rounded in training, too.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.name, self.device = decoder.name, decoder.device
        rotations = decoder.rotations
        self._attend = kernels.attention(decoder.heads, decoder.kv_heads, decoder.width, rotations is not None)
        self._angles = np.zeros((1, 0), np.float32) if rotations is None else rotations.numpy()
        self._norms = [tuple(map(CompiledNorm.of, (one.attention_norm, one.mlp_norm))) for one in decoder.blocks]
        self._last_norm = CompiledNorm.of(decoder.norm)
        self._room = lru_cache(maxsize=128)(lambda n: Room(n, decoder))
        self._queries = np.empty((2, decoder.heads, decoder.width), np.float32)
        self._shares = np.empty(decoder.heads, np.float32)

    def warm_up(self) -> None:
        """Load the loops or, in the first run after installation, compile them: one token is fed, and forgotten."""
        with torch.inference_mode():
            self.logits(Feed([Piece(0, 0, [0])], self.device), self.cache(1))

    def cache(self, rows: int) -> BlockCache:
        """An empty cache for so many rows."""
        model = self.decoder
        shape = {"layers": len(model.blocks), "rows": rows, "heads": model.kv_heads, "width": model.width}
        return BlockCache(**shape, dtype=numbers(torch.empty(0, dtype=model.dtype)).dtype)

    def logits(self, feed: Feed, cache: BlockCache) -> Tensor:
        """Logits (F, V) after the last token of each piece; the cache then holds the tokens of the step."""
        model, step = self.decoder, feed.host
        cache.reserve(feed.n_slots)
        h = functional.embedding(feed.ids, model.embedding)
        if model.positions is not None:
            h += functional.embedding(feed.slots, model.positions)
        stream, room = h.numpy(), self._room(len(h))
        scores = np.empty((model.heads, cache.capacity // kernels.BLOCK, kernels.BLOCK), np.float32)
        shape = (len(h), model.heads + 2 * model.kv_heads, model.width)
        parts = zip(model.blocks, self._norms, cache.keys, cache.values, strict=True)
        for block, (attention_norm, mlp_norm), keys, values in parts:
            attention_norm(stream, room.normed_numbers)
            qkv = numbers(block.qkv(room.normed)).reshape(shape)
            where = (self._angles, step.rows, step.slots, keys, values)
            self._attend(qkv, *where, room.attended_numbers, self._queries, self._shares, scores)
            kernels.add(stream, numbers(block.out(room.attended)))
            mlp_norm(stream, room.normed_numbers)
            kernels.add(stream, numbers(_mlp(block.mlp, room)))
        # By torch, whose memory is aligned: sums of float32 products hang on that in their last bits.
        last = h.index_select(0, feed.last)
        self._last_norm(last.numpy(), last.numpy())
        return model.head(last)


def _mlp(mlp: Mlp, room: Room) -> Tensor:
    if not mlp.gated or mlp.activation is not functional.silu:
        return mlp(room.normed)
    gate_up = mlp.up(room.normed)
    gated = room.gated(gate_up.shape[1] // 2)
    kernels.gate(numbers(gate_up), numbers(gated))
    return mlp.down(gated)


def numbers(tensor: Tensor) -> Numbers:
    """The numbers of a tensor where they lie: float32, or the bits of bfloat16."""
    bits = tensor.view(torch.uint16) if tensor.dtype is torch.bfloat16 else tensor
    array: Numbers = bits.numpy()
    return array
