"""Products with the weights of a model, laid out once for the processor that multiplies them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Map = Callable[[Tensor], Tensor]

FULL_TILE = 16
"""MKL's float32 products add in another order for the last few rows; with multiples of this a row's result does not
depend on the others, to the last bit. Products of bfloat16 (oneDNN) do not need it. Measured: decision 5."""


@dataclass(frozen=True)
class Linear:
    """A product with weights (out, in), in the precision of the weights."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        extra = -len(x) % FULL_TILE if self.weight.dtype is torch.float32 else 0
        padded = functional.pad(x, (0, 0, 0, extra)) if extra else x
        return functional.linear(padded.to(self.weight.dtype), self.weight, self.bias)[: len(x)]


PACKED_FOR = 32
"""Rows that weights are packed for; they multiply any number."""


_packed_product: Any = getattr(getattr(torch.ops.mkldnn, "_linear_pointwise", None), "default", None)


@dataclass(frozen=True)
class PackedLinear:
    """The same on a CPU, with weights in the order in which oneDNN reads them, without laying them out anew at each
    step (decision 12). In float32, too, a row's result does not depend on the others, nor on where they lie."""

    weight: Any
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if x.dtype is not self.weight.dtype:
            x = x.to(self.weight.dtype)
        packed: Tensor = _packed_product(x, self.weight, self.bias, "none", [], "")
        return packed


MOST_INPUTS, MOST_ROWS = 384, 32
"""A CPU multiplies at most so many rows at once where a product of bfloat16 has more inputs. From 512 inputs on oneDNN
adds them up in another order for some numbers of rows, the first of them between 33 and 87 (AMX, torch 2.13, inputs 512
to 1,376; up to 384 inputs none of 240 numbers of rows from 1 to 1,164 differed)."""


MOST_PACKED = 1024
"""A product of float32 with more inputs is not packed: one row alone would be added up in another order than two."""


@dataclass(frozen=True)
class RowBlocks:
    """A product made for a few rows at a time, so that what a row gives does not depend on how many there are."""

    product: Map

    def __call__(self, x: Tensor) -> Tensor:
        if len(x) <= MOST_ROWS:
            return self.product(x)
        return torch.cat([self.product(block) for block in torch.split(x, MOST_ROWS)])


def product(weight: Tensor, bias: Tensor | None = None) -> Map:
    """The product x -> x @ weight.T + bias in the precision of the weights, packed where that can be done.

    On a CPU a row's result does not depend on the other rows, to the last bit.
    """
    on_cpu = weight.device.type == "cpu"
    wide = weight.dtype is torch.float32 and weight.shape[1] > MOST_PACKED
    if on_cpu and not wide and _can_pack(weight.dtype):
        made: Map = PackedLinear(torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_FOR), bias)
    else:
        made = Linear(weight, bias)
    return RowBlocks(made) if on_cpu and weight.dtype is torch.bfloat16 and weight.shape[1] > MOST_INPUTS else made


def _can_pack(dtype: torch.dtype) -> bool:
    names = ("_is_mkldnn_bf16_supported", "_reorder_linear_weight", "_linear_pointwise")
    onednn: Any = torch.backends.mkldnn
    if not onednn.is_available() or not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return False
    return dtype is torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
