"""Keys and values of rows of different lengths, and the tokens that one step adds to them.

Token i of a row's text lies in slot i of its row. Rows are fed different numbers of tokens at a step, step back to an
earlier token, and are replaced by other prompts without moving memory: what lies beyond the length of a text is never
looked at, and is written over later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

WIDTHS = (1, 4, 16, 64)
"""Rows attend together with as many queries as the next of these. A row's own tokens settle its width, so that what it
computes does not depend on the other rows, to the last bit."""

SLOT_STEP = 32
"""Slots looked at are a multiple of this: vectors of the processor are filled, and sums do not depend on other rows."""

MOST_SLOTS, MOST_WASTE = 2048, 512
"""Rows of one token attend together while all their slots fit the processor's cache, and not many are looked at in vain
because a row of the group is longer."""


ANY_COMPANY = 96
"""Rows of several tokens attend together with longer ones up to so many slots, beyond that with rows of as many slots:
from 128 on the sums of several queries depend on the number of slots. Those of one query do not (decision 12)."""


class Piece(NamedTuple):
    """Tokens that a row is fed in one step; the first of them lies in slot `start`."""

    row: int
    start: int
    tokens: Sequence[int]

    @property
    def end(self) -> int:
        """The first slot after them."""
        return self.start + len(self.tokens)


@dataclass(frozen=True)
class Group:
    """B rows that attend together, K queries each, to their first S slots."""

    rows: torch.Tensor
    queries: torch.Tensor
    """Which token of the step each query is, (B * K,); queries that stand for nothing repeat another one."""
    mask: torch.Tensor
    """(B, 1, K, S): 0 where a query may look, minus infinity where not. Every query may look somewhere."""


class Tokens(NamedTuple):
    """The tokens of a step in the memory of the CPU: ids, rows, slots (N,), and the last of each piece (F,)."""

    ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    slots: NDArray[np.int64]
    last: NDArray[np.int64]


class Feed:
    """The tokens of one step, N of all rows end to end, and how they attend.

    ids, rows, slots: (N,). last: the last token of each piece, (F,). groups: for the attention. places: where the
    groups' queries, end to end, hold each token, (N,).
    """

    def __init__(self, pieces: Sequence[Piece], device: torch.device) -> None:
        self._counts = np.array([len(piece.tokens) for piece in pieces])
        self._ends = np.cumsum(self._counts)
        self._starts = np.array([piece.start for piece in pieces])
        self._owners = np.array([piece.row for piece in pieces])
        self.device = device
        offsets = np.repeat(self._starts - self._ends + self._counts, self._counts)
        self.host = Tokens(
            np.array([token for piece in pieces for token in piece.tokens]),
            np.repeat(self._owners, self._counts),
            np.arange(self._ends[-1]) + offsets,
            self._ends - 1,
        )
        self.n_slots = _round_up(int((self._starts + self._counts).max()))

    @cached_property
    def ids(self) -> torch.Tensor:
        """The tokens."""
        return self._tensor(self.host.ids)

    @cached_property
    def rows(self) -> torch.Tensor:
        """Whose they are."""
        return self._tensor(self.host.rows)

    @cached_property
    def slots(self) -> torch.Tensor:
        """Where in their text they stand."""
        return self._tensor(self.host.slots)

    @cached_property
    def last(self) -> torch.Tensor:
        """The last token of each piece."""
        return self._tensor(self.host.last)

    @property
    def groups(self) -> list[Group]:
        """Rows that attend together."""
        return self._attention[0]

    @property
    def places(self) -> torch.Tensor:
        """Where the queries of all groups, end to end, hold each token."""
        return self._attention[1]

    @cached_property
    def _attention(self) -> tuple[list[Group], torch.Tensor]:
        counts, ends, starts, owners = self._counts, self._ends, self._starts, self._owners
        offsets = ends - counts
        groups: list[Group] = []
        places = np.empty(ends[-1], dtype=np.int64)
        made = 0
        for group in _alike(np.flatnonzero(counts == 1), starts + 1):
            places[offsets[group]] = np.arange(made, made + len(group))
            groups.append(self._group(owners[group], offsets[group, None], starts[group, None]))
            made += len(group)
        for least, width in pairwise(WIDTHS):
            (wide,) = np.nonzero((counts > least) & (counts <= width))
            looked_at = np.maximum(_round_up(starts + counts), ANY_COMPANY)
            for n_slots in np.unique(looked_at[wide]):
                alike = wide[looked_at[wide] == n_slots]
                columns = np.minimum(np.arange(width), counts[alike, None] - 1)
                groups.append(self._group(owners[alike], offsets[alike, None] + columns, starts[alike, None] + columns))
                for number, piece in enumerate(alike):
                    begin = made + number * width
                    places[offsets[piece] : ends[piece]] = np.arange(begin, begin + counts[piece])
                made += len(alike) * width
        return groups, self._tensor(places)

    def _group(self, rows: NDArray[np.int64], queries: NDArray[np.int64], limits: NDArray[np.int64]) -> Group:
        """A group of queries (B, K) that look at the slots up to their limits (B, K)."""
        hidden = np.arange(_round_up(int(limits.max()) + 1)) > limits[:, None, :, None]
        mask = np.where(hidden, np.float32(-np.inf), np.float32(0))
        return Group(self._tensor(rows), self._tensor(queries.ravel()), torch.from_numpy(mask).to(self.device))

    def _tensor(self, array: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)


def _alike(pieces: NDArray[np.int64], lengths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Groups of pieces of similar lengths, longest first."""
    group: list[int] = []
    longest = waste = 0
    for piece in pieces[np.argsort(-lengths[pieces], kind="stable")]:
        waste += longest - lengths[piece]
        if group and ((len(group) + 1) * longest > MOST_SLOTS or waste > MOST_WASTE):
            yield np.array(group)
            group = []
        if not group:
            longest, waste = int(lengths[piece]), 0
        group.append(int(piece))
    if group:
        yield np.array(group)


Count = TypeVar("Count", int, NDArray[np.int64])


def _round_up(slots: Count) -> Count:
    return -(-slots // SLOT_STEP) * SLOT_STEP


class RowCache:
    """Keys and values (L, B, S, 2, G, D): layers, rows, slots, key or value, key-value heads, their width.

    The capacity S starts small and doubles when the longest text needs it, so memory is bounded by rows times the
    longest text.
    """

    def __init__(
        self,
        *,
        layers: int,
        rows: int,
        heads: int,
        width: int,
        dtype: torch.dtype,
        device: torch.device,
        capacity: int = 64,
    ) -> None:
        # Zeros, not empty: what is not looked at has weight zero, but NaN times zero would still be NaN.
        shape = (layers, rows, _round_up(capacity), 2, heads, width)
        self.stored = torch.zeros(shape, dtype=dtype, device=device)

    @property
    def capacity(self) -> int:
        """Slots of a row."""
        return self.stored.shape[2]

    @property
    def bytes(self) -> int:
        """Memory of keys and values."""
        return self.stored.numel() * self.stored.element_size()

    def reserve(self, slots: int) -> None:
        """Make room for texts of so many tokens."""
        if slots > self.capacity:
            extra = max(self.capacity, slots - self.capacity)
            self.stored = torch.nn.functional.pad(self.stored, (0, 0) * 3 + (0, extra))

    def places(self, rows: torch.Tensor, slots: int) -> torch.Tensor:
        """Where the first slots of rows lie when the rows of a layer are laid end to end, (rows * slots,)."""
        return (rows[:, None] * self.capacity + torch.arange(slots, device=rows.device)).flatten()

    def copy_out(self, row: int, length: int) -> torch.Tensor:
        """Keys and values (L, S, 2, G, D) of the first tokens of a row."""
        return self.stored[:, row, :length].clone()

    def copy_in(self, row: int, prefix: torch.Tensor) -> None:
        """Let a row begin with what was copied out before."""
        self.stored[:, row, : prefix.shape[1]] = prefix
