"""Decoding on a GPU: steps of few shapes, each recorded once as a CUDA graph and then replayed.

A step of a small model is some two hundred kernels, and starting them one by one takes longer than running them. A
graph starts them all at once, but its shapes and addresses are fixed. So a step is padded to the next of a row of
sizes: tokens that stand for nothing write into a row of the cache that no text has, and every token attends for itself
to the first slots of its row.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from crystallm.sample.decoding.cache import Feed, Group, RowCache
from crystallm.sample.decoding.decoder import Decoder

logger = logging.getLogger(__name__)

SMALLEST = 32
"""Tokens and slots of the smallest step."""

MOST_TOKENS_A_ROW = 4
"""Steps with more tokens than this a row are prompts: they run as they are."""

WARM_UPS = 2
"""Passes before one is recorded, in which libraries choose their kernels and take their memory."""


def next_size(n: int) -> int:
    """The smallest of 32, 48, 64, 96, 128, 192, ... that is at least `n`: at most a third is padding."""
    size = SMALLEST
    while size < n:
        size = size * 3 // 2 if size & (size - 1) == 0 else size // 3 * 4
    return size


@dataclass(frozen=True)
class PaddedStep:
    """A step whose tensors have sizes of their own: ids, rows, slots (N,), last (F,); each token attends by itself."""

    ids: Tensor
    rows: Tensor
    slots: Tensor
    last: Tensor
    n_slots: int

    @cached_property
    def places(self) -> Tensor:
        """The queries stand in the order of the tokens, (N,)."""
        return torch.arange(len(self.ids), device=self.ids.device)

    @cached_property
    def groups(self) -> list[Group]:
        """One group of N rows with one query."""
        hidden = torch.arange(self.n_slots, device=self.ids.device) > self.slots[:, None]
        mask = torch.zeros(hidden.shape, device=self.ids.device).masked_fill(hidden, float("-inf"))
        return [Group(self.rows, self.places, mask[:, None, None])]


@dataclass(frozen=True)
class Recorded:
    """A step that can be run again: what it reads, 3 N + F integers, how to run it, and what it writes, (F, V)."""

    inputs: Tensor
    replay: Callable[[], Any]
    logits: Tensor


class GraphDecoder:
    """A decoder whose steps are recorded on a GPU; on a CPU (in tests) they are computed anew each time."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.name, self.device = decoder.name, decoder.device
        self._recorded: dict[tuple[int, int], Recorded] = {}
        self._stored: Tensor | None = None
        self._works = True
        self._memory = torch.cuda.graph_pool_handle() if self.device.type == "cuda" else None

    def warm_up(self) -> None:
        """Nothing: steps are recorded as their shapes come."""

    def cache(self, rows: int) -> RowCache:
        """An empty cache for so many rows, and one for padding."""
        return self.decoder.cache(rows + 1)

    def logits(self, feed: Feed, cache: RowCache) -> Tensor:
        """Logits (F, V) after the last token of each piece; valid until the next call."""
        n_tokens, n_rows = len(feed.host.ids), cache.stored.shape[1]
        size, slots = next_size(n_tokens), next_size(feed.n_slots)
        if not self._works or size > max(MOST_TOKENS_A_ROW * n_rows, SMALLEST):
            return self.decoder.logits(feed, cache)
        cache.reserve(slots)
        if cache.stored is not self._stored:  # what was recorded reads and writes another cache
            self._recorded.clear()
            self._stored = cache.stored
        step = self._recorded.get((size, slots))
        if step is None:
            try:
                step = self._recorded[size, slots] = self._record(size, slots, cache)
            except RuntimeError as error:  # as torch reports what a driver cannot record
                logger.warning("steps cannot be recorded as CUDA graphs and run one kernel at a time: %s", error)
                self._works = False
                return self.decoder.logits(feed, cache)
        step.inputs.copy_(_packed(feed, size, n_rows), non_blocking=True)
        step.replay()
        return step.logits[: len(feed.host.last)]

    def _record(self, size: int, slots: int, cache: RowCache) -> Recorded:
        n_rows = cache.stored.shape[1]
        inputs = torch.zeros(3 * size + n_rows, dtype=torch.int64, device=self.device)
        inputs[size : 2 * size] = n_rows - 1
        ids, rows, places, last = torch.split(inputs, [size, size, size, n_rows])

        def run() -> Tensor:
            return self.decoder.run(PaddedStep(ids, rows, places, last, slots), cache)

        if self.device.type != "cuda":
            logits = run()
            return Recorded(inputs, lambda: logits.copy_(run()), logits)
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                run()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._memory):
            logits = run()
        return Recorded(inputs, graph.replay, logits)


def _packed(feed: Feed, size: int, n_rows: int) -> Tensor:
    """Ids, rows, slots and last tokens of a step in one tensor, each filled up with tokens of the last row."""
    packed = torch.zeros(3 * size + n_rows, dtype=torch.int64)
    packed[size : 2 * size] = n_rows - 1
    for begin, values in zip((0, size, 2 * size, 3 * size), feed.host, strict=True):
        packed[begin : begin + len(values)] = torch.from_numpy(values)
    return packed.pin_memory() if torch.cuda.is_available() else packed
