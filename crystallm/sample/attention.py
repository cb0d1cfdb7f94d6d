"""Attention of the tokens of one step, rows end to end, to the keys and values of their own rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from transformers import AttentionInterface

from crystallm.sample.cache import Feed

NAME = "crystallm_rows"


def row_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    *,
    feed: Feed,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of queries (1, H, N, D) to keys and values (B, G, S, D), H a multiple of G; (1, N, H, D).

    Only here the tokens are spread over a rectangle of rows; every other product of the model runs over N tokens.
    Grouped heads are multiplied against keys and values where they lie, nothing is repeated.
    """
    heads, depth = query.shape[1], query.shape[3]
    rows, groups, slots = key.shape[:3]
    spread = query.new_zeros((rows, heads, feed.width, depth))
    spread[feed.rows, :, feed.columns] = query[0].transpose(0, 1)
    grouped = spread.view(rows, groups, heads // groups * feed.width, depth)
    scores = torch.matmul(grouped, key.transpose(2, 3)).mul_(scaling)
    by_head = scores.view(rows, heads, feed.width, slots)
    by_head.masked_fill_(feed.blocked[:, None], torch.finfo(scores.dtype).min)
    weights = torch.softmax(scores, dim=-1)
    output = torch.matmul(weights, value).view(rows, heads, feed.width, depth)
    return output[feed.rows, :, feed.columns][None], None


@contextmanager
def rows_attended(config: Any, feed: Feed) -> Iterator[None]:
    """Let the model of a configuration use `row_attention`; its own way of attending is restored at the end."""
    AttentionInterface.register(NAME, partial(row_attention, feed=feed))
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
