"""The automaton that belongs to a layout."""

from __future__ import annotations

from crystallm.sample.grammar.limits import Limits
from crystallm.sample.grammar.protocol import Grammar
from crystallm.sample.grammar.published_grammar import PublishedGrammar
from crystallm.sample.grammar.wyckoff_grammar import WyckoffGrammar
from crystallm.tokenizer.published_texts import PublishedLayout
from crystallm.tokenizer.text_layout import TextLayout


def make_grammar(layout: TextLayout, limits: Limits, context: int) -> Grammar:
    """The automaton over the texts of a layout. context: tokens that the model can see."""
    if isinstance(layout, PublishedLayout):
        return PublishedGrammar(layout, limits, context)
    return WyckoffGrammar(layout, limits)
