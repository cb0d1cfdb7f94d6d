"""The engine: many constrained texts in one batch. It handles token ids and logits, and knows no chemistry.

Each model step feeds every row the token it has just drawn and all tokens that follow from it by force, so a text costs
as many steps as it has free choices. Finished rows are replaced at once by waiting jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from crystallm.errors import CheckpointError
from crystallm.sample.attention import slots_attended
from crystallm.sample.cache import SlotCache
from crystallm.sample.constraint import Choices, Walk


@dataclass(frozen=True, kw_only=True)
class Warp:
    """How the model's distribution over the allowed tokens is changed before a token is drawn."""

    temperature: float = 1.0
    top_k: int = 0
    """Keep the k most probable tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the most probable tokens that together hold this share."""


class Task(Protocol):
    """One text to be made."""

    def start(self) -> Walk:
        """A fresh automaton; called again when the text is begun anew."""

    def sections(self) -> int:
        """How many sections (sites) of the text are complete."""

    def acceptable(self, since: int) -> bool:
        """Whether the sections completed after the first `since` ones may stay."""


@dataclass
class Outcome:
    """A finished text, or one given up. Log-probabilities are natural, of the unwarped, unmasked model."""

    task: Any
    tokens: list[int]
    log_probabilities: list[float]
    """One per free choice."""
    finished: bool
    steps: int
    redrawn: int
    """Sections refused and drawn again."""


@dataclass(frozen=True)
class Mark:
    """A place in a text that can be returned to: the number of tokens before it and the logits (V,) there."""

    length: int
    n_choices: int
    logits: NDArray[np.float32]


@dataclass
class Row:
    """One row of the batch and the text it is working on."""

    task: Task
    random: np.random.Generator
    walk: Walk
    choices: Choices
    tokens: list[int] = field(default_factory=list)
    pending: int = 0
    """Tokens at the end of the list that the model has not seen."""
    slots: list[int] = field(default_factory=list)
    """Slot of each token the model has seen."""
    log_probabilities: list[float] = field(default_factory=list)
    mark: Mark | None = None
    first: Mark | None = None
    sections: int = 0
    steps: int = 0
    redrawn: int = 0
    tries: int = 0
    restarts: int = 0
    done: bool = False
    failed: bool = False


class Engine:
    """Draws constrained texts from a causal language model.

    rows: texts worked on at the same time. context: longest text. tries: redraws of one section before the whole text
    is begun anew; restarts: how often that may happen before the text is given up.
    """

    def __init__(
        self, model: Any, *, rows: int = 32, context: int = 1024, tries: int = 8, restarts: int = 4, chunk: int = 16
    ) -> None:
        self.model = model
        self.rows, self.context = rows, context
        self.tries, self.restarts, self.chunk = tries, restarts, chunk
        parameter = next(model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.steps = 0

    def run(
        self, jobs: Iterable[tuple[Task, np.random.Generator]], warp: Warp, *, tick: Callable[[], None] | None = None
    ) -> Iterator[Outcome]:
        """Outcomes of the jobs in the order in which they finish; jobs are taken as rows fall free."""
        source = iter(jobs)

        def next_row() -> Row | None:
            job = next(source, None)
            return None if job is None else _begin(*job)

        active: list[Row | None] = [next_row() for _ in range(self.rows)]
        while active and active[-1] is None:
            active.pop()
        if not active:
            return
        cache = SlotCache(
            layers=self.model.config.num_hidden_layers, rows=len(active), device=self.device, dtype=self.dtype
        )
        while any(active):
            finished: list[Outcome] = []
            # Nothing is yielded inside: the mode would hold in the caller's code, too.
            with torch.inference_mode():
                log_BV = self._step(cache, active)
                for index, row in enumerate(active):
                    if row is None or row.pending:
                        continue
                    self._draw(cache, index, row, log_BV[index], warp)
                    if row.done:
                        finished.append(_outcome(row))
                        cache.alive[index] = False
                        active[index] = next_row()
            yield from finished
            if tick is not None:
                tick()

    def _step(self, cache: SlotCache, active: list[Row | None]) -> NDArray[np.float32]:
        """Feed every row what it has pending, at most `chunk` tokens; logits (B, V) after each row's last token."""
        self.steps += 1
        width = min(max(row.pending for row in active if row is not None), self.chunk)
        if cache.make_room(width):
            for row in active:
                if row is not None:  # the order of living slots is kept
                    row.slots = list(range(len(row.slots)))
        count = len(active)
        ids = np.zeros((count, width), dtype=np.int64)
        positions = np.zeros((count, width), dtype=np.int64)
        fresh = np.zeros((count, width), dtype=bool)
        for index, row in enumerate(active):
            if row is None:
                continue
            seen = len(row.slots)
            part = row.tokens[seen : seen + min(row.pending, width)]
            ids[index, : len(part)] = part
            positions[index, : len(part)] = range(seen, seen + len(part))
            fresh[index, : len(part)] = True
            row.slots.extend(range(cache.used, cache.used + len(part)))
            row.pending -= len(part)
            row.steps += 1
        fresh_BK = torch.from_numpy(fresh).to(self.device)
        causal_KK = torch.ones((width, width), dtype=torch.bool, device=self.device).tril()
        # Padded queries see themselves, so that no softmax runs over nothing.
        own = (fresh_BK[:, None, :] & causal_KK) | torch.eye(width, dtype=torch.bool, device=self.device)
        past = cache.alive[:, None, : cache.used].expand(-1, width, -1)
        visible = torch.cat([past, own], dim=-1)[:, None]
        mask = torch.zeros(visible.shape, dtype=self.dtype, device=self.device)
        mask.masked_fill_(~visible, torch.finfo(self.dtype).min)
        with slots_attended(self.model.config):
            hidden = self.model.base_model(
                input_ids=torch.from_numpy(ids).to(self.device),
                position_ids=torch.from_numpy(positions).to(self.device),
                attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
        cache.alive[:, cache.used : cache.used + width] = fresh_BK
        cache.used += width
        last = torch.from_numpy(np.maximum(fresh.sum(1) - 1, 0)).to(self.device)
        picked = hidden[torch.arange(count, device=self.device), last]
        logits: torch.Tensor = self.model.get_output_embeddings()(picked).float()
        if not bool(torch.isfinite(logits).all()):
            raise CheckpointError(
                f"the model {self.model.name_or_path or ''} gives logits that are not finite; its weights are damaged"
            )
        result: NDArray[np.float32] = torch.log_softmax(logits, dim=-1).cpu().numpy()
        return result

    def _draw(self, cache: SlotCache, index: int, row: Row, log_V: NDArray[np.float32], warp: Warp) -> None:
        """Draw the row's next token and follow the forced ones; step back where a section is refused."""
        mark = Mark(len(row.tokens), len(row.log_probabilities), log_V)
        row.first = row.first or mark
        row.mark = row.mark or mark
        while True:
            token, score = _choose(row, log_V, warp)
            row.log_probabilities.append(score)
            _append(row, token)
            _follow(row)
            if len(row.tokens) > self.context:
                row.done = row.failed = True
            if (row.done and row.failed) or row.task.sections() == row.sections:
                return
            if row.task.acceptable(row.sections):
                row.sections, row.mark, row.tries = row.task.sections(), None, 0
                return
            row.redrawn += 1
            row.tries += 1
            target = row.mark
            if row.tries > self.tries:  # begin anew; not counted in `tries`, which accepted sections set back
                row.restarts += 1
                row.tries = 0
                target = row.first
            if row.restarts > self.restarts:
                row.done = row.failed = True
                return
            assert target is not None
            log_V = self._return_to(cache, index, row, target)

    def _return_to(self, cache: SlotCache, index: int, row: Row, mark: Mark) -> NDArray[np.float32]:
        """Bring a row back to a mark by replaying its automaton; its later slots die."""
        cache.alive[index, row.slots[mark.length :]] = False
        del row.slots[mark.length :], row.log_probabilities[mark.n_choices :]
        tokens = row.tokens[: mark.length]
        row.walk = row.task.start()
        row.choices = next(row.walk)
        for token in tokens:
            row.choices = row.walk.send(token)
        row.tokens, row.pending, row.done = tokens, 0, False
        row.sections, row.mark = row.task.sections(), mark
        return mark.logits


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
    row.pending += 1
    try:
        row.choices = row.walk.send(token)
    except StopIteration:
        row.done = True


def _outcome(row: Row) -> Outcome:
    return Outcome(row.task, row.tokens, row.log_probabilities, not row.failed, row.steps, row.redrawn)


def _choose(row: Row, log_V: NDArray[np.float32], warp: Warp) -> tuple[int, float]:
    """A token drawn among the allowed ones, and its log-probability under the unwarped model."""
    choices = np.asarray(row.choices)
    log_C = log_V[choices].astype(np.float64)
    token = choices[draw(log_C, row.random, warp)]
    return int(token), float(log_V[token])


def draw(log_C: NDArray[np.float64], random: np.random.Generator, warp: Warp) -> int:
    """Index drawn from log-probabilities (C,), in any normalisation, after temperature, top-k and top-p."""
    scaled = (log_C - log_C.max()) / warp.temperature
    weights = np.exp(scaled)
    if warp.top_k and warp.top_k < len(weights):
        weights[weights < np.partition(weights, -warp.top_k)[-warp.top_k]] = 0.0
    if warp.top_p < 1.0:
        order = np.argsort(-weights, kind="stable")
        share = np.cumsum(weights[order]) / weights.sum()
        weights[order[1:][share[:-1] >= warp.top_p]] = 0.0
    cumulative = np.cumsum(weights)
    return int(np.searchsorted(cumulative, random.random() * cumulative[-1], side="right"))
