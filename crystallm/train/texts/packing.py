"""Texts end to end in one row instead of side by side in a rectangle: which runs do so, and how such a row is made.

The positions of a packed row start at 0 with each text. From that alone `transformers` (5.x) tells the texts apart:
`masking_utils.find_packed_sequence_indices` for eager, sdpa and flex attention, `_is_packed_sequence` for flash
attention. No mask is passed, and no text attends to another.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from crystallm.base.errors import ConfigError
from crystallm.train.config import TrainConfig
from crystallm.train.texts.batches import IGNORED, Ints

ROW_STEP = 128
"""A row that must be longer than planned grows by this many tokens: the block size of flex attention."""

IMPLEMENTATIONS = {"eager": "eager", "sdpa": "sdpa", "flex": "flex_attention", "flash": "flash_attention_2"}
"""What `transformers` calls the attentions of a recipe."""


def settle(config: TrainConfig, *, on_cpu: bool) -> TrainConfig:
    """Return the recipe with `packing: auto` decided: buckets on a CPU, packed on a GPU whose attention skips blocks.

    Raises ConfigError if the recipe's attention cannot do what the recipe asks for.
    """
    refusal = unable(config, config.attention, on_cpu=on_cpu)
    if refusal:
        raise ConfigError(f"attention={config.attention}: {refusal}")
    if config.packing != "auto":
        return config
    # sdpa and eager compute every pair of tokens of a row and then hide most: on a CPU buckets are faster
    # (docs/decisions/0008-packing.md).
    skips = not on_cpu and attention_of(replace(config, packing="packed"), on_cpu=on_cpu) in ("flex", "flash")
    return replace(config, packing="packed" if skips else "buckets")


def attention_of(config: TrainConfig, *, on_cpu: bool) -> str:
    """Return the attention that a run takes, by the name in its recipe."""
    if config.attention != "auto":
        return config.attention
    if on_cpu:
        # The fused kernel does not pay for short texts, but spares the scores of a long row.
        return "sdpa" if config.packing == "packed" else "eager"
    if config.packing == "packed":
        return next((name for name in ("flash", "flex") if not unable(config, name, on_cpu=on_cpu)), "sdpa")
    return "sdpa"


def unable(config: TrainConfig, attention: str, *, on_cpu: bool) -> str | None:
    """Return why a run cannot take an attention, None if it can."""
    if attention == "flash":
        from transformers.utils import is_flash_attn_2_available

        if on_cpu or not is_flash_attn_2_available():
            return "needs a GPU and the package flash-attn; use auto, flex or sdpa"
        if config.precision != "bf16":
            return "computes in half precision only; set precision to bf16, or attention to auto"
    if attention == "flex":
        if config.model.model_type != "llama":
            return f"model.model_type={config.model.model_type} has none in transformers; use llama, sdpa or buckets"
        if config.model.dropout:
            return f"has no dropout, the recipe has model.dropout={config.model.dropout}; set it to 0, or use sdpa"
        if on_cpu:
            return "torch has no backward pass of it on a CPU; use auto, eager or sdpa"
    return None


def plan_packed(lengths: Ints, *, seed: int, epoch: int, batch_tokens: int, accumulate: int) -> list[list[Ints]]:
    """Return the steps of one epoch; a step is up to `accumulate` arrays of row numbers, one per packed row.

    Every text occurs once, none is cut. Texts come in random order, so a row mixes all lengths; it holds at most
    `batch_tokens / accumulate` tokens. Its longest texts are named first, so that processes share it evenly.
    """
    rng = np.random.default_rng((seed, epoch))
    budget = batch_tokens // accumulate
    order = rng.permutation(len(lengths))
    starts, filled = [0], 0
    for place, length in enumerate(lengths[order].tolist()):
        if filled and filled + length > budget:
            starts.append(place)
            filled = 0
        filled += length
    rows = [piece[np.argsort(-lengths[piece], kind="stable")] for piece in np.split(order, starts[1:]) if len(piece)]
    return [rows[i : i + accumulate] for i in range(0, len(rows), accumulate)]


def pack(texts: Sequence[Ints], *, budget: int, pad_id: int) -> tuple[Ints, Ints, Ints]:
    """Return token ids, labels and positions, each (1, T), of texts end to end; T is `budget` unless they need more.

    The first token of a text is no label: nothing before it belongs to its crystal. What is left of the row is padding,
    of which each token is a text of its own without labels.
    """
    filled = sum(map(len, texts))
    wide = budget if filled <= budget else -(-filled // ROW_STEP) * ROW_STEP
    ids_T = np.full(wide, pad_id, dtype=np.int64)
    labels_T = np.full(wide, IGNORED, dtype=np.int64)
    positions_T = np.zeros(wide, dtype=np.int64)
    start = 0
    for text in texts:
        end = start + len(text)
        ids_T[start:end] = text
        labels_T[start + 1 : end] = text[1:]
        positions_T[start:end] = np.arange(len(text))
        start = end
    return ids_T[None], labels_T[None], positions_T[None]
