"""Attention over slots: grouped heads are multiplied against keys and values where they lie, nothing is repeated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface

NAME = "crystallm_slots"


def slot_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of queries (B, H, K, D) to slots (B, G, S, D), H a multiple of G, with a mask (B, 1, K, S) added.

    Returns (B, K, H, D), as `transformers` wants it.
    """
    rows, heads, width, depth = query.shape
    groups = key.shape[1]
    grouped = query.reshape(rows, groups, heads // groups * width, depth)
    scores = torch.matmul(grouped, key.transpose(2, 3)).mul_(scaling)
    by_head = scores.view(rows, groups, heads // groups, width, -1)
    by_head += attention_mask[:, :, None]
    weights = torch.softmax(scores, dim=-1)
    output = torch.matmul(weights, value).view(rows, heads, width, depth)
    return output.transpose(1, 2), None


@contextmanager
def slots_attended(config: Any) -> Iterator[None]:
    """Let the model of a configuration use `slot_attention`; its own way of attending is restored at the end."""
    AttentionInterface.register(NAME, slot_attention)
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
