"""The engine: many constrained texts in one batch. It handles token ids and logits, and knows no chemistry.

Each model step feeds every row the token it has just drawn and all tokens that follow from it by force, so a text
costs as many steps as it has free choices. The tokens of all rows lie end to end, so a row with many costs the others
nothing. Finished rows are replaced at once by waiting jobs, and what many texts begin with is computed once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from crystallm.base.errors import CheckpointError
from crystallm.sample.decoding.cache import WIDTHS, Feed, Piece
from crystallm.sample.engine.rows import (
    SECTION,
    Mark,
    Outcome,
    Row,
    Task,
    append,
    begin,
    belief_after,
    branching_of,
    forget,
    outcome_of,
    return_to,
)
from crystallm.sample.engine.warp import Warp
from crystallm.sample.engine.without_replacement import HARDLY_ANYTHING, Branching, pass_on, rule_out

Job = tuple["Task", np.random.Generator]
"""A text to be made, and the random stream it is drawn with."""


class Model(Protocol):
    """What the engine asks of a model: see `decoder.Decoder`."""

    name: str
    device: torch.device

    def cache(self, rows: int) -> Any:
        """An empty cache for so many rows, which can copy the beginnings of rows: see `cache.RowCache`."""

    def logits(self, feed: Feed, cache: Any) -> torch.Tensor:
        """Logits (F, V) after the last token of each piece of a step; the cache then holds its tokens."""


TRIES = (9, 2, 3, 6)
"""How often a text goes back to its first choice of each level before it goes back to the level above.

For crystals: anew, to the cell, to the letter of the site, to its coordinates. Where some coordinates did not fit,
more of them seldom do, and other letters or another cell do sooner (decision 15). Anew, because a formula may fit into
a space group only in arrangements of higher symmetry.
"""

TRIES_FOR_A_SECTION = 2
"""Tries of the deepest level that each section before it adds: the more of a text stands, the more is lost above."""


@dataclass(frozen=True)
class Head:
    """Forced tokens that texts begin with: what the model keeps of them, and the log-probabilities (V,) after them."""

    prefix: Any
    scores: NDArray[np.float32]


HEADS_KEPT = 64
"""Beginnings kept for later texts; the one not used for longest goes first."""


class Engine:
    """Draws constrained texts from a causal language model.

    rows: texts worked on at the same time. context: longest text. tries, tries_for_a_section: see TRIES; a text that
    has used them up is given up. chunk: most tokens that a row feeds in one step.
    """

    def __init__(
        self,
        model: Model,
        *,
        rows: int = 32,
        context: int = 1024,
        tries: Sequence[int] = TRIES,
        tries_for_a_section: int = TRIES_FOR_A_SECTION,
        chunk: int = 64,
    ) -> None:
        self.model = model
        self.rows, self.context = rows, context
        self.tries, self.tries_for_a_section = tries, tries_for_a_section
        self.chunk = min(chunk, WIDTHS[-1])
        self.steps = 0
        self.tokens_fed = 0
        self.model_seconds = 0.0
        """Spent in the model, from ids to log-probabilities."""

    def run(
        self, jobs: Iterable[Job], warp: Warp, *, then: Callable[[Outcome], Iterable[Job]] = lambda outcome: ()
    ) -> Iterator[Outcome]:
        """Outcomes of the jobs in the order in which they finish; jobs are taken as rows fall free.

        then: the jobs that only the outcome of another makes possible; they come before the others.
        """
        source = iter(jobs)
        waiting: deque[Job] = deque()

        def next_row() -> Row | None:
            job = waiting.popleft() if waiting else next(source, None)
            return None if job is None else begin(*job)

        active = [row for _ in range(self.rows) if (row := next_row()) is not None]
        if not active:
            return
        cache = self.model.cache(self.rows)
        heads: dict[tuple[int, ...], Head] = {}
        while active:
            finished: list[Outcome] = []
            # Nothing is yielded inside: the mode would hold in the caller's code, too.
            with torch.inference_mode():
                for index, log_V in self._step(cache, active, heads):
                    row = active[index]
                    self._draw(row, log_V, warp)
                    if row.done:
                        outcome = outcome_of(row)
                        finished.append(outcome)
                        waiting.extend(then(outcome))
                        active[index] = next_row() or row
                _close_ranks(cache, active)
                while waiting and len(active) < self.rows:
                    active.append(begin(*waiting.popleft()))
            yield from finished

    def _step(
        self, cache: Any, active: list[Row], heads: dict[tuple[int, ...], Head]
    ) -> list[tuple[int, NDArray[np.float32]]]:
        """Let the model see what the rows have pending; rows that may draw, with log-probabilities (V,)."""
        ready: list[tuple[int, NDArray[np.float32]]] = []
        fed: list[tuple[int, Row, int]] = []
        begun = set()
        for index, row in enumerate(active):
            if row.seen == 0:
                beginning = tuple(row.tokens)
                head = heads.pop(beginning, None)
                if head is not None:
                    heads[beginning] = head
                    cache.copy_in(index, head.prefix)
                    row.seen = len(beginning)
                    ready.append((index, head.scores))
                    continue
                if beginning in begun:  # another row is at it
                    continue
                begun.add(beginning)
            fed.append((index, row, min(len(row.tokens) - row.seen, self.chunk)))
        if not fed:
            return ready
        for (index, row, count), log_V in zip(fed, self._forward(cache, fed), strict=True):
            row.seen += count
            row.steps += 1
            if row.seen < len(row.tokens):
                continue
            if not row.marks:
                heads[tuple(row.tokens)] = Head(cache.copy_out(index, row.seen), log_V)
                if len(heads) > HEADS_KEPT:
                    del heads[next(iter(heads))]
            ready.append((index, log_V))
        return ready

    def _forward(self, cache: Any, fed: list[tuple[int, Row, int]]) -> NDArray[np.float32]:
        """One pass of the model over `count` tokens of each row; log-probabilities (F, V) after the last of each."""
        pieces = [Piece(index, row.seen, row.tokens[row.seen : row.seen + count]) for index, row, count in fed]
        self.steps += 1
        self.tokens_fed += sum(count for *_, count in fed)
        started = time.perf_counter()
        logits = self.model.logits(Feed(pieces, self.model.device), cache)
        result: NDArray[np.float32] = torch.log_softmax(logits, dim=-1).cpu().numpy()
        if not np.isfinite(result).all():
            raise CheckpointError(
                f"the model {self.model.name} gives logits that are not finite; its weights are damaged"
            )
        self.model_seconds += time.perf_counter() - started
        return result

    def _draw(self, row: Row, log_V: NDArray[np.float32], warp: Warp) -> None:
        """Draw the row's next token and follow the forced ones; step back where a section is refused."""
        task = row.task
        while True:
            branching = branching_of(row, log_V, warp)
            level = task.level()
            if level not in row.marks:
                row.marks[level] = Mark(len(row.tokens), len(row.path), log_V, branching)
            place = branching.draw(row.random)
            row.path.append((branching, place))
            token = branching.tokens.item(place)
            row.log_probabilities.append(log_V.item(token))
            row.differing.append(branching.differs)
            append(row, token)
            if len(row.tokens) > self.context:
                row.done, row.failure = True, f"longer than the model's context of {self.context} tokens"
            if row.failure or task.sections() == row.sections:
                return
            assert task.judge is not None  # a text of sections has one
            reason = task.judge.refusal(row.sections)
            if reason is None:
                row.sections = task.sections()
                forget(row, SECTION)
                if not row.done:
                    return
                if task.memory is not None:
                    pass_on(row.path)
                start = self._draw_again(row)
                if start is None:
                    return
                log_V = return_to(row, start)
                continue
            row.redrawn[reason] += 1
            back_to = self._retreat(row)
            if back_to is None:
                counts = ", ".join(f"{reason} {count} times" for reason, count in row.redrawn.items())
                row.done, row.failure = True, f"drawn again until all tries were used up ({counts})"
                return
            log_V = return_to(row, back_to)

    def _draw_again(self, row: Row) -> int | None:
        """What a complete text goes back to because there is an objection to it; None if it stays."""
        assert row.task.judge is not None
        objection = row.task.judge.objection(belief_after(row.task, row.path), row.objections)
        if objection is None:
            return None
        path, unfit = list(row.path), list(row.unfit)
        level = self._retreat(row, to_the_last=False)
        if level is None:  # nothing else is left: better this one than none
            row.path, row.unfit = path, unfit
            return None
        row.redrawn[objection] += 1
        row.objections += 1
        return level

    def _retreat(self, row: Row, *, to_the_last: bool = True) -> int | None:
        """What to go back to: the deepest level that has tries left and something else to choose; None if none has.

        Something else: more than hardly anything, and what earlier draws did not choose, where texts are to differ.
        to_the_last: at the first level anything will do, there being nothing above it to go back to.
        """
        deepest = row.marks[max(row.marks)]
        if max(row.marks) >= SECTION and not deepest.branching.examined:
            assert row.task.judge is not None
            deepest.branching.examine(row.task.judge.hopeless(row.sections))
        rule_out(row.path, since=deepest.n_choices)
        last = min(row.marks) if to_the_last else None
        for level in sorted(row.marks, reverse=True):
            mark = row.marks[level]
            row.tries[level] += 1
            if row.tries[level] <= self._most_tries(level, row.sections) and _has_more(
                mark.branching, anything=level == last
            ):
                forget(row, level + 1)
                return level
            del row.path[mark.n_choices :]
            rule_out(row.path)
            if row.task.memory is not None:
                row.unfit.append(list(row.path))
        return None

    def _most_tries(self, level: int, sections: int) -> int:
        """How often a text goes back to a level, once so many sections stand."""
        return self.tries[level] + (self.tries_for_a_section * sections if level == len(self.tries) - 1 else 0)


def _has_more(choice: Branching, *, anything: bool) -> bool:
    """Whether a choice that has been refused once has something else to offer."""
    share = choice.share_left
    if anything or choice.memory is None:
        return share > (0 if anything else HARDLY_ANYTHING)
    return share > HARDLY_ANYTHING and bool(choice.left_unlike.any())


def _close_ranks(cache: Any, active: list[Row]) -> None:
    """Let the last rows take the places of rows that are done, so that the work shrinks with their number."""
    for index in reversed(range(len(active))):
        if active[index].done:
            last = active.pop()
            if index < len(active):
                cache.copy_in(index, cache.copy_out(len(active), last.seen))
                active[index] = last
