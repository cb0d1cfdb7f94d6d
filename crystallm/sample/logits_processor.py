"""The constraint as a logits processor: `model.generate` of `transformers` then writes only what a prompt allows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor

from crystallm.base.errors import ConfigError
from crystallm.sample.engine.token_sets import Walk
from crystallm.sample.grammar.protocol import Grammar
from crystallm.sample.grammar.wyckoff_grammar import Partial, Prompt


class CrystalConstraint(LogitsProcessor):  # type: ignore[misc]
    """Leaves only tokens that the layout and the prompts allow; forced tokens get all the probability.

    prompts: one for each row of the batch, or one for all. The ids given to `generate` must begin the texts, without
    padding; `[[grammar.begin]]` is enough. Where a text ends is left to `generate`: set `eos_token_id` and
    `max_new_tokens`. Sites that come too close are not drawn again, as `Generator` does; check crystals afterwards.
    """

    def __init__(self, grammar: Grammar, prompts: Sequence[Prompt]) -> None:
        for prompt in prompts:
            grammar.check(prompt)
        self.grammar, self.prompts = grammar, list(prompts)
        self._rows: dict[int, _Follower] = {}

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (B, V) with minus infinity for what is not allowed after the ids (B, T)."""
        if len(self.prompts) not in (1, len(input_ids)):
            raise ConfigError(
                f"{len(self.prompts)} prompts for {len(input_ids)} texts; give one prompt, or one for each text "
                "(also counting num_return_sequences)"
            )
        masked = torch.full_like(scores, float("-inf"))
        for row, tokens in enumerate(input_ids.tolist()):
            follower = self._rows.setdefault(row, _Follower(self.grammar, self.prompts[row % len(self.prompts)]))
            allowed = follower.choices_after(tokens)
            masked[row, allowed] = scores[row, allowed]
        return masked


class _Follower:
    """The automaton of one row, kept in step with the row's tokens."""

    def __init__(self, grammar: Grammar, prompt: Prompt) -> None:
        self.grammar, self.prompt = grammar, prompt
        self.taken: list[int] = []
        self.steps: Walk | None = None
        self.choices: tuple[int, ...] = ()

    def choices_after(self, tokens: list[int]) -> list[int]:
        """What may follow; after the end only the end again, which `generate` replaces by padding."""
        if self.steps is None or tokens[: len(self.taken)] != self.taken:  # another text: rows may be reordered
            self.taken, self.steps = [], self.grammar.walk(self.prompt, Partial())
            self.choices = next(self.steps)
        for token in tokens[len(self.taken) :]:
            if not self.choices:
                break
            if token not in self.choices:
                raise ConfigError(
                    f"the text so far does not follow its prompt: {self.grammar.tokens[token]!r} cannot stand after "
                    f"{len(self.taken)} tokens; begin with {self.grammar.tokens[self.grammar.begin]!r}"
                )
            self.taken.append(token)
            try:
                self.choices = self.steps.send(token)
            except StopIteration:
                self.choices = ()
        return list(self.choices) or [self.grammar.end]
