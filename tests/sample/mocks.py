"""Texts and a model without chemistry, for what the engine does with any."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from crystallm.sample.decoding.cache import Feed, RowCache
from crystallm.sample.engine.mixture import Belief
from crystallm.sample.engine.rows import SECTION
from crystallm.sample.engine.token_sets import Choices, Walk
from crystallm.sample.engine.without_replacement import Memory


@dataclass
class Words:
    """A task of three sections, each one of the tokens 1 to 4, between the tokens 0 and 5; `refused` cannot stay."""

    refused: Sequence[int] = ()
    memory: Memory | None = None
    number: int = 0
    chosen: list[int] = field(default_factory=list)
    belief: Belief | None = None
    disliked: Sequence[int] = ()
    """There is an objection to texts with one of these tokens, up to `patience` times."""
    patience: int = 0
    table: NDArray[np.float64] | None = None
    """By what the components of the belief multiply the probabilities of the tokens 1 to 4."""

    @property
    def judge(self) -> "Words":
        return self

    @property
    def proposal(self) -> "Words | None":
        return None if self.belief is None else self

    def start(self) -> Walk:
        self.chosen = []
        return self._walk()

    def resume(self, level: int, since: int, tokens: Sequence[int]) -> tuple[Walk, Choices]:
        del self.chosen[since:]
        steps = self._sections()
        return steps, next(steps)

    def hopeless(self, since: int) -> Sequence[int]:
        return ()

    def objection(self, belief: Belief | None, before: int) -> str | None:
        objected = before < self.patience and set(self.disliked) & set(self.chosen)
        return "disliked" if objected else None

    def factors(self, tokens: NDArray[np.int64], alive: NDArray[np.int64]) -> NDArray[np.float64]:
        assert self.table is not None
        return self.table[alive]

    goes_by_component = False

    def used_up(self, belief: Belief | None) -> Sequence[int]:
        return ()

    def differs(self) -> bool:
        return True

    def _walk(self) -> Walk:
        yield (0,)
        yield from self._sections()

    def _sections(self) -> Walk:
        while len(self.chosen) < 3:
            self.chosen.append((yield (1, 2, 3, 4)))
        yield (5,)

    def sections(self) -> int:
        return len(self.chosen)

    def level(self) -> int:
        return SECTION if self.chosen else 0

    def refusal(self, since: int) -> str | None:
        return "refused" if set(self.refused) & set(self.chosen[since:]) else None


class SuccessorModel:
    """Logits that depend on the last token alone: a row of a table (6, 6)."""

    name = "mock"
    device = torch.device("cpu")

    def __init__(self, table: torch.Tensor) -> None:
        self.table = table

    def cache(self, rows: int) -> RowCache:
        return RowCache(layers=0, rows=rows, heads=1, width=1, dtype=torch.float32, device=self.device)

    def logits(self, feed: Feed, cache: RowCache) -> torch.Tensor:
        return self.table[feed.ids[feed.last]]
