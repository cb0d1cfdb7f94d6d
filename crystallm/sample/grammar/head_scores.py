"""What a model says of the beginnings of texts: formula units and space group of a formula."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.wyckoff import space_group
from crystallm.sample.grammar.symmetry_search import Symmetries

ROWS = 32
"""Beginnings of texts that are scored at a time."""

Counts = tuple[tuple[str, int], ...]
"""Elements with their numbers of atoms in a cell."""


def symmetries_of_units(
    model: Any, heads: Sequence[Sequence[int]], units: list[int], groups: Sequence[int], possible: NDArray[np.bool_]
) -> Symmetries:
    """Of texts that name the formula units, and the space group after them.

    Args:
        model: of `transformers`.
        heads: ids of the beginning of a text up to each of the C formula units.
        units: the formula units.
        groups: ids of the tokens of all space groups, (230,).
        possible: whether a group can hold the formula, (C, 230).

    Returns:
        Log-probabilities of formula units and space groups.
    """
    import torch

    ids = torch.tensor(heads, device=model.device)
    with torch.inference_mode():
        log = torch.log_softmax(model(input_ids=ids).logits[:, -2:].double(), dim=-1).cpu().numpy()
    own = ids[:, -1].cpu().numpy()
    return Symmetries(units, log[np.arange(len(units)), 0, own], log[:, 1][:, groups], possible)


def symmetries_of_cells(
    model: Any,
    heads: Mapping[tuple[int, ...], Counts],
    groups_of: Callable[[tuple[int, ...]], Sequence[int]],
    group_ids: Mapping[int, int],
    atoms: int,
) -> Symmetries:
    """Of texts that begin with the size of the conventional cell.

    Formula units of the primitive cell are then known only together with the space group: what both say together is
    added up over the groups.

    Args:
        model: of `transformers`.
        heads: beginnings of texts, with the content of their cells.
        groups_of: space groups that a content allows.
        group_ids: ids of the tokens of space groups.
        atoms: of one formula unit.

    Returns:
        Log-probabilities of formula units and space groups.
    """
    rows = list(heads)
    joint: dict[int, NDArray[np.float64]] = {}
    for row, log_TV in zip(rows, log_probabilities(rows, model), strict=True):
        counts = tuple(n for _, n in heads[row])
        # What is not open is forced, as in a text that is drawn.
        is_open = [len({r[place] for r in rows if r[:place] == row[:place]}) > 1 for place in range(len(row))]
        cell = sum(float(log_TV[place - 1, row[place]]) for place in range(1, len(row)) if is_open[place])
        for number in groups_of(counts):
            units = sum(counts) // atoms // space_group(number).centring_order
            known = joint.setdefault(units, np.full(230, -np.inf))
            known[number - 1] = cell + float(log_TV[-1, group_ids[number]])
    values = sorted(joint)
    log = np.stack([joint[units] for units in values])
    log_units = np.logaddexp.reduce(log, axis=1)
    return Symmetries(values, log_units, log - log_units[:, None], np.isfinite(log))


def log_probabilities(rows: Sequence[tuple[int, ...]], model: Any) -> Iterator[NDArray[np.float64]]:
    """For each row of T tokens the log-probabilities (T, V) after each of them."""
    import torch

    for first in range(0, len(rows), ROWS):
        some = rows[first : first + ROWS]
        widest = max(map(len, some))
        # What fills up a row on the right is not seen from its left.
        ids = torch.tensor([[*row, *([0] * (widest - len(row)))] for row in some], device=model.device)
        with torch.inference_mode():
            log_BTV = torch.log_softmax(model(input_ids=ids).logits.double(), dim=-1).cpu().numpy()
        for row, log_TV in zip(some, log_BTV, strict=True):
            yield log_TV[: len(row)]
