"""One text being made: the row of the batch that works on it, its choices and the places it can go back to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import compress
from math import log
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crystallm.sample.engine.mixture import TRUST, Belief, mix
from crystallm.sample.engine.token_sets import Choices, Walk, as_array
from crystallm.sample.engine.warp import Warp, chances_again, chances_of
from crystallm.sample.engine.without_replacement import Branching, Memory, Step, memory_after


class Judge(Protocol):
    """What is refused of a text while it is made."""

    def refusal(self, since: int) -> str | None:
        """Why the sections completed after the first `since` ones cannot stay; None if they can."""

    def objection(self, belief: Belief | None, before: int) -> str | None:
        """Why a text that is complete had better be drawn again, as long as that can be done; None if it is good.
        `belief` is that after the last choice, `before` how often there was an objection."""

    def hopeless(self, since: int) -> Collection[int]:
        """After a refusal: tokens with which the deepest level of that section cannot begin, whatever follows."""


class Proposal(Protocol):
    """Components that are mixed with the model."""

    @property
    def belief(self) -> Belief:
        """The components, with their shares at the start."""

    def factors(self, tokens: NDArray[np.int64], alive: NDArray[np.int64]) -> NDArray[np.float64]:
        """By what each component of `alive` multiplies the model's probabilities of the tokens allowed next, (L, C)."""

    @property
    def goes_by_component(self) -> bool:
        """Whether the text may make the choices of earlier texts of its memory if it follows another component."""

    def used_up(self, belief: Belief) -> Sequence[int]:
        """The components that such texts are not to follow again after a text that ended with this belief."""


class Task(Protocol):
    """One text to be made: an automaton over what is allowed, and up to three things that have a say in it."""

    def start(self) -> Walk:
        """A fresh automaton; called again when the text is begun anew."""

    def resume(self, level: int, since: int, tokens: Sequence[int]) -> tuple[Walk, Choices]:
        """The automaton as it stood at the first choice of a level, SECTION or deeper, of the section after the first
        `since` ones, and what is allowed there; `tokens` is the text up to that place."""

    def level(self) -> int:
        """How deep in the text the next choice lies, from 0; levels from SECTION on belong to one section."""

    def sections(self) -> int:
        """How many sections (sites) of the text are complete."""

    def differs(self) -> bool:
        """Whether the next choice is one of those in which texts of one memory are to differ."""

    @property
    def judge(self) -> Judge | None:
        """What refuses sections; None for texts without."""

    @property
    def proposal(self) -> Proposal | None:
        """What is mixed with the model; None for the model alone."""

    @property
    def memory(self) -> Memory | None:
        """What this text is to differ from; None if it is drawn by itself."""


SECTION = 2
"""Levels from this one on belong to one section, those before it to the text as a whole."""


@dataclass(slots=True)
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


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a text that can be returned to: what stands before it, and the log-probabilities (V,) there."""

    length: int
    n_choices: int
    scores: NDArray[np.float32]
    branching: Branching


@dataclass(slots=True)
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
    objections: int = 0
    """How often the text was complete and was drawn again."""
    steps: int = 0
    redrawn: Counter[str] = field(default_factory=Counter)
    unfit: list[list[Step]] = field(default_factory=list)
    done: bool = False
    failure: str | None = None


def forget(row: Row, level: int) -> None:
    """Leave a level and those below it: the next ones are others."""
    for deeper in [known for known in row.marks if known >= level]:
        del row.marks[deeper], row.tries[deeper]


def return_to(row: Row, level: int) -> NDArray[np.float32]:
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


def begin(task: Task, random: np.random.Generator) -> Row:
    walk = task.start()
    row = Row(task, random, walk, next(walk))
    if len(row.choices) == 1:
        append(row, row.choices[0])
    return row


def append(row: Row, token: int) -> None:
    """Append a token and those that follow by force, until there is a choice or the text is done."""
    tokens, send = row.tokens, row.walk.send
    try:
        while True:
            tokens.append(token)
            choices = send(token)
            if len(choices) > 1:
                break
            (token,) = choices
    except StopIteration:
        row.done = True
    else:
        row.choices = choices


def outcome_of(row: Row) -> Outcome:
    unlike = float(sum(compress(row.log_probabilities, row.differing)))
    drawn = sum((log(node.chances.item(place)) for node, place in row.path if node.differs), 0.0)
    made = (row.task, row.tokens, row.log_probabilities, unlike, row.failure, row.steps, dict(row.redrawn))
    return Outcome(*made, path=row.path, unlike_drawn=drawn, belief=belief_after(row.task, row.path), unfit=row.unfit)


def belief_after(task: Task, path: Sequence[Step]) -> Belief | None:
    """The shares of the components that are mixed after the choices made; None for the model alone."""
    node, place = path[-1] if path else (None, 0)
    if node is not None and node.mixture is not None:
        return node.mixture.after(place)
    return None if task.proposal is None else task.proposal.belief


def branching_of(row: Row, log_V: NDArray[np.float32], warp: Warp) -> Branching:
    """The choice that a row stands at, as it is known or for the first time."""
    before, place = row.path[-1] if row.path else (None, 0)
    known = row.start if before is None else before.after.get(place)
    if known is None:
        task, tokens = row.task, as_array(row.choices)
        differs, memory, proposal = task.differs(), task.memory, task.proposal
        by_component = memory is not None and proposal is not None and proposal.goes_by_component
        used_up = memory.components if memory is not None and by_component else None
        belief = belief_after(task, row.path)
        if belief is None or proposal is None:
            known = Branching(tokens, chances_of(tokens, log_V, warp), differs=differs)
        else:
            factors = proposal.factors(tokens, belief.alive)
            # Where texts are to differ, it is `left_unlike` that leaves out what is used up.
            trust, left = (TRUST, None) if differs else (0.0, used_up)
            mixture = mix(belief, log_V[tokens], factors, trust=trust, left=left)
            known = Branching(tokens, chances_again(mixture.together, warp), mixture=mixture, differs=differs)
        if before is None:
            row.start = known
        else:
            before.after[place] = known
        if memory is not None and differs:
            known.memory, known.used_up = memory_after(row.path, memory.start), used_up
    return known
