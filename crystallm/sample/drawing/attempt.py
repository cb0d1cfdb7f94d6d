"""One draw of a prompt: what the model wrote, and how probable it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crystallm.crystal.description import Description
from crystallm.sample.drawing.given_symmetry import Plan
from crystallm.sample.drawing.template_guide import Followed
from crystallm.sample.engine.rows import Outcome
from crystallm.sample.grammar.symmetry_search import Searched
from crystallm.sample.prompts import NamedPrompt


@dataclass(frozen=True)
class Attempt:
    """One draw, finished or given up. Log-probabilities are natural logarithms under the unwarped model."""

    prompt: NamedPrompt
    number: int
    """Which draw of its prompt, from 0."""
    description: Description | None
    reason: str | None
    """Why there is no crystal; None if there is one."""
    text: str
    token_log_probabilities: tuple[float, ...]
    """One per free choice."""
    protostructure_log_probability: float
    """Sum over the free choices of formula, formula units, space group and Wyckoff letters."""
    ranking_log_probability: float
    """The same under what was drawn from: the mixture of model and templates, after temperature, among what the
    constraint allows."""
    n_tokens: int
    steps: int
    redrawn: Mapping[str, int]
    """How often sites were drawn again, by reason."""
    searched: Searched | None = None
    """The space group or formula units that the search gave this draw."""
    followed: Followed | None = None
    """The template that the draw most likely followed; None where the model alone is more likely."""

    @property
    def log_probability(self) -> float:
        """Sum over the free choices."""
        return float(sum(self.token_log_probabilities))

    @property
    def order(self) -> tuple[float, float, int]:
        """Sorts draws: those of the most probable protostructure first, then by all choices."""
        return -self.ranking_log_probability, -self.log_probability, self.number


def attempt_of(item: NamedPrompt, number: int, plan: Plan, outcome: Outcome) -> Attempt:
    """What is kept of a draw that stands."""
    task = outcome.task
    return Attempt(
        prompt=item,
        number=number,
        description=task.partial.description() if outcome.finished else None,
        reason=outcome.failure,
        text="".join(task.grammar.tokens[token] for token in outcome.tokens),
        token_log_probabilities=(*plan.scores, *outcome.log_probabilities),
        protostructure_log_probability=float(sum(plan.scores)) + outcome.unlike,
        ranking_log_probability=plan.ranking + outcome.unlike_drawn,
        n_tokens=len(outcome.tokens),
        steps=outcome.steps,
        redrawn=outcome.redrawn,
        searched=plan.searched,
        followed=None if task.guide is None or outcome.belief is None else task.guide.followed(outcome.belief),
    )
