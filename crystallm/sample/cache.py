"""A key-value cache of slots: every row appends at the same place, and a mask says which slots count for which row.

That is what lets rows of different lengths share a batch, take chunks of different lengths, step back to an earlier
token, and be replaced by another prompt, all without moving memory. Slots that no row needs are squeezed out at times.
"""

from __future__ import annotations

import torch


class SlotLayer:
    """Keys and values (B, H, S, D) of one layer, allocated once."""

    def __init__(self) -> None:
        self.keys: torch.Tensor | None = None
        self.values: torch.Tensor | None = None


class SlotCache:
    """Slots of all layers. The model calls `update`; the engine says where and which slots are alive.

    alive: (B, S) bool, true where a slot holds a token of the row's text. The capacity S starts small and doubles
    when the longest text needs it, so memory is bounded by rows times the longest text.
    """

    def __init__(
        self, *, layers: int, rows: int, device: torch.device, dtype: torch.dtype, capacity: int = 128
    ) -> None:
        self.layers = [SlotLayer() for _ in range(layers)]
        self.rows, self.capacity, self.device, self.dtype = rows, capacity, device, dtype
        self.alive = torch.zeros((rows, capacity), dtype=torch.bool, device=device)
        self.used = 0

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the chunk (B, H, K, D) at the next slots; return all slots up to its end. Called by the model."""
        store = self.layers[layer]
        if store.keys is None or store.values is None:
            shape = (self.rows, keys.shape[1], self.capacity, keys.shape[3])
            # Zeros, not empty: a dead slot is masked, but NaN times zero would still be NaN.
            store.keys, store.values = keys.new_zeros(shape), values.new_zeros(shape)
        end = self.used + keys.shape[2]
        store.keys[:, :, self.used : end] = keys
        store.values[:, :, self.used : end] = values
        return store.keys[:, :, :end], store.values[:, :, :end]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Slots in use, under the name that `transformers` asks for."""
        return self.used

    @property
    def bytes(self) -> int:
        """Memory of the slots."""
        stores = [t for layer in self.layers for t in (layer.keys, layer.values) if t is not None]
        return sum(t.numel() * t.element_size() for t in stores)

    def make_room(self, width: int) -> bool:
        """Squeeze out dead slots, and grow if that is not enough, so that a chunk fits. True if slots have moved."""
        if self.used + width <= self.capacity:
            return False
        self._squeeze()
        extra = 0
        while 2 * self.used + width > self.capacity + extra:  # at least half shall be free after a squeeze
            extra += self.capacity + extra
        if extra:
            self.capacity += extra
            self.alive = torch.nn.functional.pad(self.alive, (0, extra))
            for layer in self.layers:
                if layer.keys is not None and layer.values is not None:
                    layer.keys = torch.nn.functional.pad(layer.keys, (0, 0, 0, extra))
                    layer.values = torch.nn.functional.pad(layer.values, (0, 0, 0, extra))
        return True

    def _squeeze(self) -> None:
        """Move living slots to the front of each row, in their order."""
        order = torch.argsort((~self.alive).to(torch.uint8), dim=1, stable=True)
        keep = int(self.alive.sum(dim=1).max())
        for layer in self.layers:
            if layer.keys is not None and layer.values is not None:
                index = order[:, None, :keep, None].expand(-1, layer.keys.shape[1], -1, layer.keys.shape[3])
                layer.keys[:, :, :keep] = layer.keys.gather(2, index)
                layer.values[:, :, :keep] = layer.values.gather(2, index)
        self.alive = self.alive.gather(1, order)
        self.used = keep
