"""Draws of one prompt that are to be unlike each other, several at a time.

One after the other, each draw would know what all before it chose. Here the draws of a round know what earlier rounds
chose and not each other, so that they can be made side by side; one that chose as an accepted one of its round did is
discarded. What is accepted has the distribution of draws made one after the other: that is how rejection works.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from crystallm.sample.engine.engine import Job
from crystallm.sample.engine.rows import Outcome, Proposal, belief_after
from crystallm.sample.engine.without_replacement import UNFIT, Memory, Step, remember

WIDEST = 8
"""Most draws of a round; it has half as many as were drawn before. The first are made alone: the model is often so sure
that two of them would be the same, and the more has been drawn, the less two new draws have in common."""


class Rounds:
    """The n draws of a prompt; `make` gives the job of a trial by its number, from 0, and the memory it draws with.

    side_by_side: False makes every round one draw, for trials that are not all of one memory. Neither the number of
    draws asked for nor how the trials share a batch changes what the first ones are.
    """

    def __init__(self, make: Callable[[int], Job], n: int, *, side_by_side: bool = True) -> None:
        self.make, self.n, self.side_by_side = make, n, side_by_side
        self.accepted = 0
        self._left = 1
        """Trials of this round that have not been begun."""
        self._trials = 0
        self._streams: dict[int, np.random.Generator] = {}
        self._ended: dict[int, Outcome] = {}
        self._kept: list[Outcome] = []
        self._drawn: defaultdict[tuple[int, ...], list[Outcome]] = defaultdict(list)
        """What was accepted in this round, by its choices."""
        self._discarded_steps = 0
        self._settled: list[tuple[int, Outcome]] = []

    @property
    def finished(self) -> bool:
        """Whether all draws stand."""
        return self.accepted == self.n

    def begin(self) -> list[Job]:
        """The next trials, as many as are needed at least and as the round still has."""
        jobs = [self.make(self._trials + i) for i in range(min(self._left, self.n - self.accepted))]
        self._streams = {self._trials + i: stream for i, (_, stream) in enumerate(jobs)}
        self._trials += len(jobs)
        self._left -= len(jobs)
        return jobs

    def end(self, outcome: Outcome) -> list[Job]:
        """Take note that a trial has ended; the next ones, if it was the last that ran and more are needed."""
        self._ended[outcome.task.number] = outcome
        if len(self._ended) < len(self._streams):
            return []
        for number, ended in sorted(self._ended.items()):
            self._settle(ended, self._streams[number])
        self._ended = {}
        if not self._left:
            for kept in self._kept:
                note(kept)
            self._kept = []
            self._drawn.clear()
            self._left = min(WIDEST, max(1, self.accepted // 2)) if self.side_by_side else 1
        return self.begin() if self.accepted < self.n else []

    def settled(self) -> list[tuple[int, Outcome]]:
        """Draws that stand, each with its number, since this was last asked."""
        settled, self._settled = self._settled, []
        return settled

    def _settle(self, outcome: Outcome, stream: np.random.Generator) -> None:
        memory: Memory = outcome.task.memory
        if outcome.failure is None:
            alike = self._drawn[choices(outcome.path)]
            kept = memory.repeat ** sum(_repeats(outcome, earlier) for earlier in alike)
            if kept < 1 and memory.start.share > 0 and stream.random() >= kept:
                self._discarded_steps += outcome.steps
                return
            alike.append(outcome)
        self._kept.append(outcome)
        self._settled.append((self.accepted, replace(outcome, steps=outcome.steps + self._discarded_steps)))
        self.accepted += 1
        self._discarded_steps = 0


def _repeats(outcome: Outcome, earlier: Outcome) -> bool:
    """Whether a draw that made the choices of an earlier one is to be discarded for it: always, but that one which may
    make them again with another component has done so."""
    if not by_component(outcome):
        return True
    own, theirs = (set(components(one)) for one in (outcome, earlier))
    return not own or bool(own & theirs)


def by_component(outcome: Outcome) -> bool:
    """Whether a draw may make the choices of earlier ones if it follows another component."""
    proposal: Proposal | None = outcome.task.proposal
    return proposal is not None and proposal.goes_by_component


def components(outcome: Outcome) -> Sequence[int]:
    """Components that later draws are not to follow again after this one."""
    proposal: Proposal | None = outcome.task.proposal
    return () if proposal is None or outcome.belief is None else proposal.used_up(outcome.belief)


def choices(path: list[Step]) -> tuple[int, ...]:
    """The tokens of those choices of a text in which the draws of a prompt are to differ."""
    return tuple(int(node.tokens[place]) for node, place in path if node.memory is not None)


def note(outcome: Outcome) -> None:
    """Let later draws with the memory of this one know what it chose, and where it found nothing that fits."""
    memory: Memory = outcome.task.memory
    for path in outcome.unfit:
        remember(path, UNFIT)
        belief = belief_after(outcome.task, path)
        if belief is not None and by_component(outcome):
            left = 1.0 - (1.0 - UNFIT) * belief.shares[1:]
            memory.leave(partial(dict, zip(belief.alive.tolist(), left.tolist(), strict=True)))
    if outcome.failure is None:
        remember(outcome.path, memory.repeat)
        memory.leave(lambda: dict.fromkeys(components(outcome), memory.repeat))
