"""Which texts go into which step: pure functions of lengths, seed and epoch, the same for any number of processes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

POOL_BATCHES = 64
"""Texts are sorted by length within pools of this many forward passes: enough to pad little, and still shuffled."""


WIDTH_STEP = 8
"""Passes are as wide as a multiple of this many tokens, and have as many rows as the budget allows at that width.

Libraries prepare a kernel for each shape of a matrix product; with passes of any shape they would prepare new ones in
every pass (docs/explanation/scale.md).
"""


def widths(lengths: Ints) -> Ints:
    """Return the widths of the passes that texts of these lengths go into."""
    return -(-lengths // WIDTH_STEP) * WIDTH_STEP


def plan_epoch(lengths: Ints, *, seed: int, epoch: int, batch_tokens: int, accumulate: int) -> list[list[Ints]]:
    """Return the steps of one epoch; a step is up to `accumulate` arrays of row numbers, one per forward pass.

    Every row occurs once. A forward pass holds texts of similar length, with padding to a multiple of `WIDTH_STEP` at
    most `batch_tokens / accumulate` tokens; the passes of a step are drawn at random.
    """
    rng = np.random.default_rng((seed, epoch))
    budget = batch_tokens // accumulate
    order = rng.permutation(len(lengths))
    wide = widths(lengths)
    # Pools are cut by tokens, so that a corpus of short texts mixes as well as one of long texts.
    pool_of = np.cumsum(lengths[order]) // (budget * POOL_BATCHES)
    order = order[np.lexsort((lengths[order], pool_of))]
    passes = [rows for pool in np.split(order, _changes(pool_of)) for rows in cut(pool, wide, budget=budget)]
    shuffled = [passes[i] for i in rng.permutation(len(passes))]
    return [shuffled[i : i + accumulate] for i in range(0, len(shuffled), accumulate)]


def draw_replay(own: int, others: int, *, share: float, seed: int, epoch: int) -> Ints:
    """Return which of `others` texts join the `own` ones in an epoch, so that they are `share` of all its texts.

    None comes twice before there are too few.
    """
    count = round(own * share / (1 - share)) if others else 0
    rng = np.random.default_rng((seed, epoch, 1))
    rounds = [rng.permutation(others) for _ in range(-(-count // others) if others else 0)]
    return np.concatenate([np.zeros(0, dtype=np.int64), *rounds])[:count]


def plan_evaluation(lengths: Ints, *, budget: int) -> list[Ints]:
    """Return all rows in order of length, in batches of at most `budget` tokens with padding."""
    return cut(np.argsort(lengths, kind="stable"), widths(lengths), budget=budget)


def cut(rows: Ints, wide: Ints, *, budget: int) -> list[Ints]:
    """Cut `rows`, sorted by width, so that rows times largest width stays within `budget`; a row is never dropped."""
    pieces: list[Ints] = []
    start = 0
    for i, row in enumerate(rows):
        if i > start and (i + 1 - start) * wide[row] > budget:
            pieces.append(rows[start:i])
            start = i
    return [*pieces, rows[start:]] if start < len(rows) else pieces


def share(rows: Ints, *, process: int, processes: int) -> Ints:
    """Return the part of a forward pass that one process computes; it may be empty."""
    return rows[process::processes]


def pad(texts: Sequence[Ints], *, wide: int, budget: int, longest: int, pad_id: int) -> tuple[Ints, Ints]:
    """Return token ids (B, T), padded on the right and below, and labels (B, T) with -100 at the padding.

    T is `wide` or what the longest text needs, up to `longest`; B is what `budget` tokens allow at that width. Padding
    on the right needs no attention mask: causal attention hides it from the text, and the loss skips it.
    """
    wide = min(max([wide, *(int(widths(np.asarray(len(text)))) for text in texts)]), longest)
    ids_BT = np.full((max(budget // wide, len(texts), 1), wide), pad_id, dtype=np.int64)
    labels_BT = np.full_like(ids_BT, IGNORED)
    for i, text in enumerate(texts):
        ids_BT[i, : len(text)] = text
        labels_BT[i, : len(text)] = text
    return ids_BT, labels_BT


IGNORED = -100
"""Label that torch's cross entropy leaves out."""


def _changes(values: Ints) -> Ints:
    return np.flatnonzero(np.diff(values)) + 1
