"""Which texts go into which step: pure functions of lengths, seed and epoch, the same for any number of processes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

POOL_BATCHES = 64
"""Texts are sorted by length within pools of this many forward passes: enough to pad little, and still shuffled."""


def plan_epoch(lengths: Ints, *, seed: int, epoch: int, batch_tokens: int, accumulate: int) -> list[list[Ints]]:
    """Return the steps of one epoch; a step is up to `accumulate` arrays of row numbers, one per forward pass.

    Every row occurs once. A forward pass holds texts of similar length, with padding at most
    `batch_tokens / accumulate` tokens; the passes of a step are drawn at random.
    """
    rng = np.random.default_rng((seed, epoch))
    budget = batch_tokens // accumulate
    order = rng.permutation(len(lengths))
    # Pools are cut by tokens, so that a corpus of short texts mixes as well as one of long texts.
    pool_of = np.cumsum(lengths[order]) // (budget * POOL_BATCHES)
    order = order[np.lexsort((lengths[order], pool_of))]
    passes = [rows for pool in np.split(order, _changes(pool_of)) for rows in cut(pool, lengths, budget=budget)]
    shuffled = [passes[i] for i in rng.permutation(len(passes))]
    return [shuffled[i : i + accumulate] for i in range(0, len(shuffled), accumulate)]


def plan_evaluation(lengths: Ints, *, budget: int) -> list[Ints]:
    """Return all rows in order of length, in batches of at most `budget` tokens with padding."""
    return cut(np.argsort(lengths, kind="stable"), lengths, budget=budget)


def cut(rows: Ints, lengths: Ints, *, budget: int) -> list[Ints]:
    """Cut `rows`, sorted by length, so that rows times longest length stays within `budget`; a row is never dropped."""
    pieces: list[Ints] = []
    start = 0
    for i, row in enumerate(rows):
        if i > start and (i + 1 - start) * lengths[row] > budget:
            pieces.append(rows[start:i])
            start = i
    return [*pieces, rows[start:]] if start < len(rows) else pieces


def share(rows: Ints, *, process: int, processes: int) -> Ints:
    """Return the part of a forward pass that one process computes; it may be empty."""
    return rows[process::processes]


def pad(texts: Sequence[Ints], *, pad_id: int) -> tuple[Ints, Ints]:
    """Return token ids (B, T), padded on the right, and labels (B, T) with -100 at the padding.

    Padding on the right needs no attention mask: causal attention hides it from the text, and the loss skips it.
    """
    longest = max((len(text) for text in texts), default=2)
    ids_BT = np.full((max(len(texts), 1), longest), pad_id, dtype=np.int64)
    labels_BT = np.full_like(ids_BT, IGNORED)
    for i, text in enumerate(texts):
        ids_BT[i, : len(text)] = text
        labels_BT[i, : len(text)] = text
    return ids_BT, labels_BT


IGNORED = -100
"""Label that torch's cross entropy leaves out."""


def _changes(values: Ints) -> Ints:
    return np.flatnonzero(np.diff(values)) + 1
