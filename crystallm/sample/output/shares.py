"""Dealing out draws to processes."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crystallm.sample.grammar.wyckoff_grammar import Prompt

UNKNOWN_FORMULA = 10
"""Atoms of a formula that is yet to be drawn, about the mean of the corpus."""


def work_of(prompt: Prompt) -> int:
    """How long a draw takes, in units of its own: the atoms of the formula, more of which take more sites."""
    return UNKNOWN_FORMULA if prompt.amounts is None else sum(amount for _, amount in prompt.amounts)


def shares(work: Sequence[float], number: int) -> list[list[int]]:
    """Places of pieces of work for each of so many processes, in rising order: the longest pieces are dealt out first,
    each to the process that has least so far (Graham 1969)."""
    dealt: list[list[int]] = [[] for _ in range(number)]
    loads = [(0.0, process) for process in range(number)]
    for place in sorted(range(len(work)), key=lambda place: -work[place]):
        load, process = heapq.heappop(loads)
        dealt[process].append(place)
        heapq.heappush(loads, (load + work[place], process))
    return [sorted(places) for places in dealt]
