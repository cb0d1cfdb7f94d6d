"""The engine: many constrained texts in one batch. It handles token ids and logits, and knows no chemistry.

Each model step feeds every row the token it has just drawn and all tokens that follow from it by force, so a text
costs as many steps as it has free choices. The tokens of all rows lie end to end, so a row with many costs the others
nothing. Finished rows are replaced at once by waiting jobs, and what many texts begin with is computed once.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import compress
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from crystallm.errors import CheckpointError
from crystallm.sample.cache import WIDTHS, Feed, Piece, RowCache
from crystallm.sample.constraint import Choices, Walk
from crystallm.sample.mixture import TRUST, Belief, mix
from crystallm.sample.refusals import NOTHING_LEFT, Branching, Memory, Step, memory_after, rule_out
from crystallm.sample.warp import Warp, chances

Job = tuple["Task", np.random.Generator]
"""A text to be made, and the random stream it is drawn with."""


class Model(Protocol):
    """What the engine asks of a model: see `decoder.Decoder`."""

    name: str
    device: torch.device

    def cache(self, rows: int) -> RowCache:
        """An empty cache for so many rows."""

    def logits(self, feed: Feed, cache: RowCache) -> torch.Tensor:
        """Logits (F, V) after the last token of each piece of a step; the cache then holds its tokens."""


class Task(Protocol):
    """One text to be made."""

    def start(self) -> Walk:
        """A fresh automaton; called again when the text is begun anew."""

    def resume(self, level: int, since: int, tokens: Sequence[int]) -> tuple[Walk, Choices]:
        """The automaton as it stood at the first choice of a level, SECTION or deeper, of the section after the first
        `since` ones, and what is allowed there; `tokens` is the text up to that place."""

    def level(self) -> int:
        """How deep in the text the next choice lies, from 0; levels from SECTION on belong to one section."""

    def sections(self) -> int:
        """How many sections (sites) of the text are complete."""

    def refusal(self, since: int) -> str | None:
        """Why the sections completed after the first `since` ones cannot stay; None if they can."""

    @property
    def memory(self) -> Memory | None:
        """What this text is to differ from; None if it is drawn by itself."""

    @property
    def belief(self) -> Belief | None:
        """Components that are mixed with the model, with their shares at the start; None for the model alone."""

    def factors(self, tokens: NDArray[np.int64], alive: NDArray[np.int64]) -> NDArray[np.float64]:
        """By what each component of `alive` multiplies the model's probabilities of the tokens allowed next, (L, C)."""

    def differs(self) -> bool:
        """Whether the next choice is one of those in which texts of one memory are to differ."""

    def hopeless(self, since: int) -> Collection[int]:
        """After such a refusal: tokens with which the deepest level of that section cannot begin, whatever follows."""


SECTION = 2
TRIES = (9, 2, 3, 24)
"""How often a text goes back to its first choice of each level before it goes back to the level above.

For crystals: anew, to the cell, to the letter of the site, to its coordinates. Coordinates cost the least to draw
again, and in P 1, where the letter is no choice, all hangs on them. Anew, because a formula that is drawn for a given
space group may fit into it only in arrangements of higher symmetry.
"""


@dataclass
class Outcome:
    """A finished text, or one given up. Log-probabilities are natural, of the unwarped, unmasked model."""

    task: Any
    tokens: list[int]
    log_probabilities: list[float]
    """One per free choice."""
    unlike: float
    """The sum over the choices in which texts of one memory are to differ."""
    failure: str | None
    """Why the text was given up; None if it is finished."""
    steps: int
    redrawn: dict[str, int]
    """How often sections were refused and drawn again, by reason."""
    path: list[Step]
    """The choices made."""
    unlike_drawn: float
    """The same as `unlike` under what the text was drawn from: the mixture, where there is one, warped, among what was
    allowed."""
    belief: Belief | None
    """The shares of the components after the last choice; None for the model alone."""
    unfit: list[list[Step]]
    """Choices after which all tries were used up, where the text has a memory."""

    @property
    def finished(self) -> bool:
        """Whether the text is whole."""
        return self.failure is None


@dataclass(frozen=True)
class Mark:
    """A place in a text that can be returned to: what stands before it, and the log-probabilities (V,) there."""

    length: int
    n_choices: int
    scores: NDArray[np.float32]
    branching: Branching


@dataclass
class Row:
    """One row of the batch and the text it is working on."""

    task: Task
    random: np.random.Generator
    walk: Walk
    choices: Choices
    tokens: list[int] = field(default_factory=list)
    seen: int = 0
    """Tokens that the model has seen."""
    log_probabilities: list[float] = field(default_factory=list)
    differing: list[bool] = field(default_factory=list)
    """Which of them belong to choices in which texts of one memory are to differ."""
    path: list[Step] = field(default_factory=list)
    """The choices made, as places in the tree of what is known to be refused."""
    start: Branching | None = None
    """The first choice."""
    marks: dict[int, Mark] = field(default_factory=dict)
    """The first choice of each level, until its section is accepted."""
    tries: Counter[int] = field(default_factory=Counter)
    """How often the text went back to each level since it last went further back."""
    sections: int = 0
    steps: int = 0
    redrawn: Counter[str] = field(default_factory=Counter)
    unfit: list[list[Step]] = field(default_factory=list)
    done: bool = False
    failure: str | None = None


@dataclass(frozen=True)
class Head:
    """Forced tokens that texts begin with: what the model keeps of them, and the log-probabilities (V,) after them."""

    prefix: torch.Tensor
    scores: NDArray[np.float32]


HEADS_KEPT = 64
"""Beginnings kept for later texts; the one not used for longest goes first."""


class Engine:
    """Draws constrained texts from a causal language model.

    rows: texts worked on at the same time. context: longest text. tries: see TRIES; a text that has used them up is
    given up. chunk: most tokens that a row feeds in one step.
    """

    def __init__(
        self, model: Model, *, rows: int = 32, context: int = 1024, tries: Sequence[int] = TRIES, chunk: int = 64
    ) -> None:
        self.model = model
        self.rows, self.context = rows, context
        self.tries, self.chunk = tries, min(chunk, WIDTHS[-1])
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
            return None if job is None else _begin(*job)

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
                        outcome = _outcome(row)
                        finished.append(outcome)
                        waiting.extend(then(outcome))
                        active[index] = next_row() or row
                _close_ranks(cache, active)
                while waiting and len(active) < self.rows:
                    active.append(_begin(*waiting.popleft()))
            yield from finished

    def _step(
        self, cache: RowCache, active: list[Row], heads: dict[tuple[int, ...], Head]
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

    def _forward(self, cache: RowCache, fed: list[tuple[int, Row, int]]) -> NDArray[np.float32]:
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
        while True:
            branching = _branching(row, log_V, warp)
            level = row.task.level()
            if level not in row.marks:
                row.marks[level] = Mark(len(row.tokens), len(row.path), log_V, branching)
            place = branching.draw(row.random)
            row.path.append((branching, place))
            token = int(branching.tokens[place])
            row.log_probabilities.append(float(log_V[token]))
            row.differing.append(row.task.differs())
            _append(row, token)
            _follow(row)
            if len(row.tokens) > self.context:
                row.done, row.failure = True, f"longer than the model's context of {self.context} tokens"
            if row.failure or row.task.sections() == row.sections:
                return
            reason = row.task.refusal(row.sections)
            if reason is None:
                row.sections = row.task.sections()
                _forget(row, SECTION)
                return
            row.redrawn[reason] += 1
            back_to = self._retreat(row)
            if back_to is None:
                counts = ", ".join(f"{reason} {count} times" for reason, count in row.redrawn.items())
                row.done, row.failure = True, f"drawn again until all tries were used up ({counts})"
                return
            log_V = _return_to(row, back_to)

    def _retreat(self, row: Row) -> int | None:
        """What to go back to: the deepest level that has tries left and something else to choose; None if none has."""
        deepest = row.marks[max(row.marks)].branching
        if max(row.marks) >= SECTION and not deepest.examined:
            deepest.examine(row.task.hopeless(row.sections))
        rule_out(row.path)
        for level in sorted(row.marks, reverse=True):
            mark = row.marks[level]
            row.tries[level] += 1
            if row.tries[level] <= self.tries[level] and mark.branching.refused_share < 1 - NOTHING_LEFT:
                _forget(row, level + 1)
                return level
            del row.path[mark.n_choices :]
            rule_out(row.path)
            if row.task.memory is not None:
                row.unfit.append(list(row.path))
        return None


def _close_ranks(cache: RowCache, active: list[Row]) -> None:
    """Let the last rows take the places of rows that are done, so that the work shrinks with their number."""
    for index in reversed(range(len(active))):
        if active[index].done:
            last = active.pop()
            if index < len(active):
                cache.copy_in(index, cache.copy_out(len(active), last.seen))
                active[index] = last


def _forget(row: Row, level: int) -> None:
    """Leave a level and those below it: the next ones are others."""
    for deeper in [known for known in row.marks if known >= level]:
        del row.marks[deeper], row.tries[deeper]


def _return_to(row: Row, level: int) -> NDArray[np.float32]:
    """Bring a row back to its mark of a level; log-probabilities (V,) there."""
    mark = row.marks[level]
    del row.tokens[mark.length :], row.path[mark.n_choices :]
    del row.log_probabilities[mark.n_choices :], row.differing[mark.n_choices :]
    if level >= SECTION:
        row.walk, row.choices = row.task.resume(level, row.sections, row.tokens)
    else:
        row.walk = row.task.start()
        row.choices = next(row.walk)
        for token in row.tokens:
            row.choices = row.walk.send(token)
    row.seen, row.done = mark.length, False
    row.sections = row.task.sections()
    return mark.scores


def _begin(task: Task, random: np.random.Generator) -> Row:
    walk = task.start()
    row = Row(task, random, walk, next(walk))
    _follow(row)
    return row


def _follow(row: Row) -> None:
    """Append forced tokens until there is a choice or the text is done."""
    while not row.done and len(row.choices) == 1:
        _append(row, row.choices[0])


def _append(row: Row, token: int) -> None:
    row.tokens.append(token)
    try:
        row.choices = row.walk.send(token)
    except StopIteration:
        row.done = True


def _outcome(row: Row) -> Outcome:
    unlike = float(sum(compress(row.log_probabilities, row.differing)))
    drawn = float(sum(np.log(node.chances[place]) for node, place in row.path if node.differs))
    made = (row.task, row.tokens, row.log_probabilities, unlike, row.failure, row.steps, dict(row.redrawn))
    return Outcome(*made, path=row.path, unlike_drawn=drawn, belief=_belief(row.task, row.path), unfit=row.unfit)


def _belief(task: Task, path: Sequence[Step]) -> Belief | None:
    """The shares of the components that are mixed after the choices made; None for the model alone."""
    node, place = path[-1] if path else (None, 0)
    return task.belief if node is None or node.mixture is None else node.mixture.after(place)


def _branching(row: Row, log_V: NDArray[np.float32], warp: Warp) -> Branching:
    """The choice that a row stands at, as it is known or for the first time."""
    before, place = row.path[-1] if row.path else (None, 0)
    known = row.start if before is None else before.after.get(place)
    if known is None:
        tokens = _as_array(row.choices)
        log_C = log_V[tokens].astype(np.float64)
        belief, mixture = _belief(row.task, row.path), None
        if belief is not None:
            trust = TRUST if row.task.differs() else 0.0
            mixture = mix(belief, log_C, row.task.factors(tokens, belief.alive), trust=trust)
            log_C = mixture.log_probabilities
        known = Branching(tokens, chances(log_C, warp), mixture=mixture)
        known.differs = row.task.differs()
        if before is None:
            row.start = known
        else:
            before.after[place] = known
        if row.task.memory is not None and row.task.differs():
            known.memory = memory_after(row.path, row.task.memory.start)
    return known


@lru_cache(maxsize=4096)
def _as_array(choices: Choices) -> NDArray[np.int64]:
    """The same few hundred sets of tokens come again and again."""
    return np.asarray(choices)
