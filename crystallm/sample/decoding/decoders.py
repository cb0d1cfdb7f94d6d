"""Who computes a decoding step: torch, or what is compiled for the device, behind one interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import torch

from crystallm.crystal.switch import Switch, Way
from crystallm.sample.decoding.cache import Feed
from crystallm.sample.decoding.decoder import Decoder

DecoderName = Literal["compiled", "torch"]


class DecodesRows(Protocol):
    """A model that is fed tokens of many rows and keeps what it needs of them."""

    name: str
    device: torch.device

    def cache(self, rows: int) -> Any:
        """An empty cache for so many rows, which can copy the beginnings of rows: see `cache.RowCache`."""

    def logits(self, feed: Feed, cache: Any) -> torch.Tensor:
        """Logits (F, V) after the last token of each piece of a step; the cache then holds its tokens."""

    def warm_up(self) -> None:
        """Compile and load what a step needs, before any clock starts."""


def _by_torch() -> Callable[[Decoder], DecodesRows]:
    return lambda decoder: decoder


def _compiled() -> Callable[[Decoder], DecodesRows]:
    def for_device(decoder: Decoder) -> DecodesRows:
        if decoder.device.type == "cuda":
            from crystallm.sample.decoding.cuda_graphs import GraphDecoder

            return GraphDecoder(decoder)
        from crystallm.sample.decoding.compiled import CompiledDecoder

        return CompiledDecoder(decoder)

    return for_device


DECODERS: Switch[Callable[[Decoder], DecodesRows]] = Switch(
    "decoder",
    reference=Way("torch", "torch", ("torch",), _by_torch),
    accelerator=Way(
        "compiled", "torch and, between its products, compiled loops or CUDA graphs", ("torch", "numba"), _compiled
    ),
)
"""Both take the weights as `Decoder` lays them out. What is compiled depends on the model, so `warm_up` is the
decoder's."""
