"""What crystals cost a model, in bits: the whole text, what the constraint leaves open, the last digit of a number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import log, sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pyarrow.parquet as pq
import torch

from crystallm.base.errors import CompositionError
from crystallm.crystal.cell import Rejection
from crystallm.eval.rate import Z_95
from crystallm.model.checkpoint import Checkpoint, load_checkpoint
from crystallm.sample.engine.token_sets import Choices
from crystallm.sample.grammar.limits import Limits
from crystallm.sample.grammar.making import make_grammar
from crystallm.sample.grammar.protocol import Grammar
from crystallm.sample.grammar.wyckoff_grammar import Partial, Prompt, Stage
from crystallm.tokenizer.layout import Layout, get_layout
from crystallm.tokenizer.number_format import DIGITS, PAIRS, WRITTEN
from crystallm.train.optim.losses import logits
from crystallm.train.texts.batches import pad, plan_evaluation, widths
from crystallm.train.texts.corpus import load_corpus

STAGES = {Stage.HEAD: "space_group", Stage.CELL: "cell", Stage.LETTER: "letters", Stage.COORDINATES: "coordinates"}
"""What a free choice is about, formula and formula units given. `letters`: multiplicities in the published layouts."""

PASS_TOKENS = 2048


@dataclass
class CrystalBits:
    """What one validation crystal costs."""

    whole: float
    """Of all tokens after the first, nothing given, no constraint."""
    free: dict[str, float] | None = None
    """Of the free choices by what they are about, formula and formula units given, the model's probabilities shared
    among what the constraint allows; None where the automaton does not write this text."""
    last_digits: list[float] = field(default_factory=list)
    """Of the last digit of each length and coordinate, the digits before it given."""


def crystal_bits(model: Path, texts: Path) -> dict[str, CrystalBits]:
    """The bits of every text of a prepared file, by the id of its crystal."""
    checkpoint = load_checkpoint(model, attention="eager")
    checkpoint.model.eval()
    layout = get_layout(checkpoint.layout_name)
    context = int(checkpoint.model.config.max_position_embeddings)
    grammar = make_grammar(layout, Limits(), context)
    table = pq.read_table(texts, columns=["id", "text"])
    corpus = load_corpus(texts, checkpoint.tokenizer, max_tokens=context)
    assert not corpus.left_out  # the tables hold what fits
    names, written = table["id"].to_pylist(), table["text"].to_pylist()
    found = {}
    for row, log_TV in _log2_probabilities(checkpoint, corpus, context):
        ids = corpus.tokens(row).tolist()
        bits = CrystalBits(-float(log_TV[torch.arange(len(ids) - 1), ids[1:]].sum()))
        description = layout.read(written[row])
        assert not isinstance(description, Rejection)  # read back when it was prepared
        prompt = Prompt(description.amounts, description.formula_units)
        bits.free = free_bits(log_TV, ids, allowed_choices(grammar, prompt, ids))
        if isinstance(layout, Layout):
            bits.last_digits = [
                digit_bits(log_TV[place - 1], grammar.tokens, ids[place])
                for place in last_digits([grammar.tokens[token] for token in ids])
            ]
        found[names[row]] = bits
    return {name: found[name] for name in names}


def _log2_probabilities(checkpoint: Checkpoint, corpus: Any, context: int) -> Iterator[tuple[int, torch.Tensor]]:
    """Row and base-2 log-probabilities (T, V) of what follows each token, text by text."""
    wide = widths(corpus.lengths)
    for rows in plan_evaluation(corpus.lengths, budget=PASS_TOKENS):
        width = int(wide[rows].max())
        texts = [corpus.tokens(row) for row in rows]
        ids_BT, _ = pad(texts, wide=width, budget=0, longest=context, pad_id=checkpoint.tokenizer.pad_token_id)
        with torch.inference_mode():
            log_BTV = torch.log_softmax(logits(checkpoint.model, torch.from_numpy(ids_BT)).float(), dim=-1) / log(2)
        for row, text, log_TV in zip(rows.tolist(), texts, log_BTV, strict=True):
            yield row, log_TV[: len(text)]


def allowed_choices(grammar: Grammar, prompt: Prompt, ids: Sequence[int]) -> list[tuple[Stage, Choices]] | None:
    """At each token of a text what the automaton would allow; None where it would not write this text.

    Digits that the automaton computes may differ: the published layouts take volume and dependent coordinates from more
    decimals than they write (docs/decisions/0006).
    """
    try:
        grammar.check(prompt)
    except CompositionError:
        return None
    partial = Partial()
    steps = grammar.walk(prompt, partial)
    choices = next(steps)
    found = []
    for token in ids:
        if token not in choices:
            if len(choices) != 1 or not (grammar.tokens[token] in DIGITS and grammar.tokens[choices[0]] in DIGITS):
                return None
            token = choices[0]
        found.append((partial.stage, choices))
        choices = next_choices(steps.send, token)
    return found


def next_choices(send: Any, token: int) -> Choices:
    """What may follow a token; nothing after the last one."""
    try:
        choices: Choices = send(token)
    except StopIteration:
        return ()
    return choices


def free_bits(
    log_TV: torch.Tensor, ids: Sequence[int], allowed: Sequence[tuple[Stage, Choices]] | None
) -> dict[str, float] | None:
    """Bits of the free choices of a text by stage; forced tokens cost nothing. log_TV: base 2."""
    if allowed is None:
        return None
    bits = dict.fromkeys(STAGES.values(), 0.0)
    for place, (stage, choices) in enumerate(allowed):
        if len(choices) > 1:
            before = log_TV[place - 1]
            open_to = torch.logsumexp(before[list(choices)] * log(2), dim=0) / log(2)
            bits[STAGES[stage]] += float(open_to - before[ids[place]])
    return bits


def last_digits(tokens: Sequence[str]) -> list[int]:
    """Places of the tokens that end a length or a coordinate."""
    digits = {*PAIRS, *DIGITS}
    places = []
    start, tag = "", ""
    for place, token in enumerate(tokens):
        if token not in digits:
            tag, start = start, token
        elif "." in start and "_angle_" not in tag and (place + 1 == len(tokens) or tokens[place + 1] not in digits):
            places.append(place)
    return places


def digit_bits(log_V: torch.Tensor, tokens: Sequence[str], token: int) -> float:
    """Bits of the last digit of a token, that it is a digit and the one before it in the token given. log_V: base 2."""
    text = tokens[token]
    ten = [place for place, other in enumerate(tokens) if other in WRITTEN[len(text)] and other[:-1] == text[:-1]]
    return float(torch.logsumexp(log_V[ten] * log(2), dim=0) / log(2) - log_V[token])


def mean_of(values: Sequence[float]) -> dict[str, float]:
    """Mean over crystals and its normal interval at 95 %; that of a single value is the value."""
    middle = mean(values)
    spread = Z_95 * stdev(values) / sqrt(len(values)) if len(values) > 1 else 0.0
    return {"value": middle, "low": middle - spread, "high": middle + spread, "crystals": len(values)}


def summary(bits: Mapping[str, CrystalBits]) -> dict[str, Any]:
    """Means over crystals: the whole text, the free choices, and the last digits."""
    walked = [found.free for found in bits.values() if found.free is not None]
    digits = [digit for found in bits.values() for digit in found.last_digits]
    result: dict[str, Any] = {"whole": mean_of([found.whole for found in bits.values()])}
    if walked:
        result["free"] = mean_of([sum(found.values()) for found in walked])
        result["free_by_stage"] = {name: mean(found[name] for found in walked) for name in STAGES.values()}
    if digits:
        result["last_digit"] = mean_of(digits)
        result["last_digits_a_crystal"] = len(digits) / len(bits)
    return result
