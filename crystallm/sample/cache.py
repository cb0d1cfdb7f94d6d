"""A key-value cache of rows of different lengths: token i of a row's text lies in slot i of its row.

Rows are fed different numbers of tokens at a step, step back to an earlier token, and are replaced by other prompts
without moving memory: what lies beyond the length of a text is never looked at, and is written over later.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch

Prefix: TypeAlias = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values (H, S, D) of the first S tokens of a text, for each layer."""


@dataclass(frozen=True)
class Feed:
    """The tokens of one step, of all rows end to end. rows, slots: row and place in its text of each token, (N,)."""

    rows: torch.Tensor
    slots: torch.Tensor
    columns: torch.Tensor
    """How many tokens of the same row stand before each token in this step."""
    n_rows: int
    width: int
    """Most tokens of one row."""

    @cached_property
    def blocked(self) -> torch.Tensor:
        """What no query may look at (B, K, S): slots after its own. Queries that stand for nothing look at slot 0."""
        last = self.slots.new_zeros((self.n_rows, self.width))
        last[self.rows, self.columns] = self.slots
        return torch.arange(int(self.slots.max()) + 1, device=last.device) > last[:, :, None]


class RowCache:
    """Keys and values (B, H, S, D) of all layers. The engine announces a step; the model then calls `update`.

    The capacity S starts small and doubles when the longest text needs it, so memory is bounded by rows times the
    longest text.
    """

    def __init__(self, *, layers: int, rows: int, capacity: int = 64) -> None:
        self.layers: list[tuple[torch.Tensor, torch.Tensor] | None] = [None] * layers
        self.rows, self.capacity = rows, capacity
        self.feed: Feed | None = None

    def expect(self, feed: Feed) -> None:
        """Make room for the tokens of a step, and remember where they belong."""
        self.feed = feed
        needed = feed.blocked.shape[-1]
        if needed <= self.capacity:
            return
        extra = max(self.capacity, needed - self.capacity)
        self.capacity += extra
        for number, layer in enumerate(self.layers):
            if layer is not None:
                keys, values = (torch.nn.functional.pad(store, (0, 0, 0, extra)) for store in layer)
                self.layers[number] = keys, values

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Called by the model: keep keys and values (1, H, N, D) of the step, return those of all rows (B, H, S, D)."""
        assert self.feed is not None
        stores = self.layers[layer]
        if stores is None:
            shape = (self.rows, keys.shape[1], self.capacity, keys.shape[3])
            # Zeros, not empty: what is not looked at has weight zero, but NaN times zero would still be NaN.
            stores = self.layers[layer] = keys.new_zeros(shape), values.new_zeros(shape)
        longest = self.feed.blocked.shape[-1]
        for store, new in zip(stores, (keys, values), strict=True):
            store[self.feed.rows, :, self.feed.slots] = new[0].transpose(0, 1)
        return stores[0][:, :, :longest], stores[1][:, :, :longest]

    def copy_out(self, row: int, length: int) -> Prefix:
        """Keys and values of the first tokens of a row."""
        stored = [layer for layer in self.layers if layer is not None]
        return [(keys[row, :, :length].clone(), values[row, :, :length].clone()) for keys, values in stored]

    def copy_in(self, row: int, prefix: Prefix) -> None:
        """Let a row begin with a prefix copied out before."""
        for layer, (keys, values) in zip(self.layers, prefix, strict=False):
            assert layer is not None
            layer[0][row, :, : keys.shape[1]] = keys
            layer[1][row, :, : values.shape[1]] = values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Zero: positions are given to the model with each token. Asked for by `transformers`."""
        return 0

    @property
    def bytes(self) -> int:
        """Memory of keys and values."""
        return sum(store.numel() * store.element_size() for layer in self.layers if layer for store in layer)
