"""One draw of a prompt: what the model wrote, and how probable it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crystallm.crystal.description import Description
from crystallm.sample.drawing.template_guide import Followed
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
