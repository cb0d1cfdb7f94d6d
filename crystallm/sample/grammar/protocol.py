"""What sampling asks of the automaton of a layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from crystallm.crystal.description import Description
from crystallm.sample.engine.token_sets import Choices, Walk
from crystallm.sample.grammar.limits import Limits
from crystallm.sample.grammar.possible import Prompt
from crystallm.sample.grammar.symmetry_search import Symmetries
from crystallm.sample.grammar.wyckoff_grammar import Partial, TemplateIds


class Grammar(Protocol):
    """The texts of a layout that prompts allow, as an automaton."""

    @property
    def limits(self) -> Limits:
        """What a crystal may be."""

    @property
    def tokens(self) -> list[str]:
        """The text of each id."""

    @property
    def begin(self) -> int:
        """Id of the first token of a text."""

    @property
    def end(self) -> int:
        """Id of the last token of a text."""

    @property
    def group_ids(self) -> Mapping[int, int]:
        """Ids of space groups by their numbers."""

    @property
    def coordinate_starts(self) -> dict[int, float]:
        """Ids of the tokens that can start a coordinate, with the values from which on they stand for an interval."""

    def check(self, prompt: Prompt) -> None:
        """Raise CompositionError if no text fulfils a prompt."""

    def walk(self, prompt: Prompt, partial: Partial) -> Walk:
        """All allowed texts of a prompt that has been checked; what is decided is noted in `partial`."""

    def resume(
        self, prompt: Prompt, partial: Partial, n_sites: int, stage: int, tokens: Sequence[int]
    ) -> tuple[Walk, Choices]:
        """The automaton at the first choice of a stage of the site after the first ones, and what is allowed there."""

    def symmetries(self, model: Any, prompt: Prompt) -> Symmetries:
        """What a model of `transformers` says of formula units and space group of a prompt with a formula."""

    def chooses_formula(self, prompt: Prompt) -> bool:
        """Whether the formula of a prompt is chosen to fit its space group; if so, `walk_head` gives formulas."""

    def walk_head(self, prompt: Prompt, partial: Partial) -> Walk:
        """Texts up to and with the formula units."""

    def template_ids(self, crystal: Description) -> TemplateIds | None:
        """The choices in the text of a known crystal; None where texts cannot follow one."""
