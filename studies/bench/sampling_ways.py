"""Ways of sampling that `python -m studies.bench.sampling` times: plain loops around the model, and the engine."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from threading import BrokenBarrierError
from typing import TYPE_CHECKING, Any, Self

from crystallm.base.errors import ProcessError
from crystallm.sample.config import SampleConfig
from crystallm.sample.output.shares import shares, work_of

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

    from crystallm.crystal.description import Description
    from crystallm.sample.decoding.device import Precision
    from crystallm.sample.generator import Generator
    from crystallm.sample.grammar.wyckoff_grammar import Prompt
    from crystallm.sample.prompts import NamedPrompt

LONGEST_PLAIN = 512
"""Where `generate` is cut off; without constraint it need not end by itself."""

RECOMPUTE, GENERATE, CONSTRAINED, OURS = "recompute", "generate", "generate, constrained", "crystallm"
SHIPPED = "crystallm, defaults"
PUBLISHED = "recompute, text of CrystaLLM"

LONGEST_PUBLISHED = 1024
"""Tokens that the small published model holds."""


@dataclass(frozen=True)
class Timing:
    """One way of sampling: how many texts in how many seconds, and how many of them hold a crystal of the formula."""

    way: str
    rows: int
    texts: int
    crystals: int
    tokens: int
    model_steps: int
    """Steps that a text took part in, summed over texts."""
    seconds: float
    model_seconds: float | None = None
    """Of these in the model, where that is measured; of several processes the share of what all of them worked."""
    processes: int = 1

    @property
    def crystals_per_second(self) -> float:
        """Of the formula asked for."""
        return self.crystals / self.seconds

    def to_json(self) -> dict[str, Any]:
        """All counts and the rates."""
        share = None if self.model_seconds is None else 1 - self.model_seconds / self.seconds
        return vars(self) | {
            "texts_per_second": self.texts / self.seconds,
            "crystals_per_second": self.crystals_per_second,
            "ms_per_text": 1e3 * self.seconds / self.texts,
            "share_outside_model": share,
        }


def together(parts: Sequence[Timing]) -> Timing:
    """Counts and seconds of all parts of one way; IndexError if there are none. What is in the model is not summed."""
    counts = ("texts", "crystals", "tokens", "model_steps", "seconds")
    return replace(parts[0], **{name: sum(getattr(part, name) for part in parts) for name in counts})


def plain(generator: Generator, prompts: Sequence[NamedPrompt], *, temperature: float, rows: int, way: str) -> Timing:
    """`generate` of `transformers`, `rows` prompts a call.

    way: RECOMPUTE computes the whole text anew for every token, GENERATE keeps keys and values, CONSTRAINED also keeps
    to the constraint, token by token: the batched sampler that this project began with.
    """
    import torch

    from crystallm.crystal.cell import Rejection
    from crystallm.sample.grammar.wyckoff_grammar import WyckoffGrammar
    from crystallm.sample.logits_processor import CrystalConstraint

    grammar = WyckoffGrammar(generator.layout)
    pad, end = generator.checkpoint.tokenizer.pad_token_id, grammar.end
    texts: list[str] = []
    tokens = steps = 0
    heads = []
    for item in prompts:
        assert item.prompt.amounts is not None
        heads.append([grammar.begin] if way == CONSTRAINED else grammar.formula_head(item.prompt.amounts))
    start = time.perf_counter()
    for first in range(0, len(heads), rows):
        group = heads[first : first + rows]
        width = max(map(len, group))
        # Padding goes to the left, where generate expects it.
        ids = torch.tensor([[pad] * (width - len(head)) + head for head in group], device=generator.model.device)
        settings: dict[str, Any] = {
            "do_sample": True,
            "temperature": temperature,
            "top_k": 0,
            "use_cache": way != RECOMPUTE,
        }
        limits = {"max_length": LONGEST_PLAIN, "pad_token_id": pad, "eos_token_id": end}
        if way == CONSTRAINED:
            constraint = CrystalConstraint(grammar, [item.prompt for item in prompts[first : first + rows]])
            settings["logits_processor"] = [constraint]
        output = generator.model.generate(ids, attention_mask=ids != pad, **settings, **limits)
        for row, head in zip(output.tolist(), group, strict=True):
            kept = [token for token in row if token != pad]
            tokens += len(kept)
            steps += len(kept) - len(head)
            texts.append("".join(grammar.tokens[token] for token in kept))
    seconds = time.perf_counter() - start
    found = [generator.layout.read(text) for text in texts]
    good = sum(
        not isinstance(crystal, Rejection) and crystal.amounts == item.prompt.amounts
        for crystal, item in zip(found, prompts, strict=True)
    )
    return Timing(way, rows, len(texts), good, tokens, steps, seconds)


def published(generator: Generator, crystals: Sequence[Description]) -> Timing | None:
    """What the text of CrystaLLM costs the loop that recomputes it for every token, in a model of the same shape.

    Nothing is drawn: its weights have another vocabulary, so they are random here and the texts are those of crystals
    at hand. All of them count as crystals of the formula. Crystals that this layout cannot hold, or its model for their
    length, are left out; None if no other is there.
    """
    import torch

    from crystallm.crystal.cell import Rejection
    from crystallm.model.architecture import build_model, shape_of
    from crystallm.tokenizer.layout import get_layout

    layout = get_layout("crystallm")
    ids = {token: number for number, token in enumerate(layout.vocabulary())}
    written = [layout.checked_tokens(crystal) for crystal in crystals]
    texts = [[ids[token] for token in tokens] for tokens in written if not isinstance(tokens, Rejection)]
    texts = [text for text in texts if len(text) <= LONGEST_PUBLISHED]
    if not texts:
        return None
    alike = generator.model
    shape = replace(shape_of(alike.config), context=LONGEST_PUBLISHED)
    model = build_model(shape, vocab_size=len(ids), bos=0, eos=None, pad=0).to(alike.device, alike.dtype).eval()
    start = time.perf_counter()
    with torch.inference_mode():
        for text in texts:
            whole = torch.tensor([text], device=alike.device)
            for length in range(1, len(text)):
                model(input_ids=whole[:, :length], use_cache=False, logits_to_keep=1).logits.argmax()
    seconds = time.perf_counter() - start
    tokens = sum(map(len, texts))
    return Timing(PUBLISHED, 1, len(texts), len(texts), tokens, tokens - len(texts), seconds)


@dataclass(frozen=True)
class Drawn:
    """How the engine draws: independent texts, from the model alone, as the other ways do."""

    temperature: float
    seed: int
    contact: float
    shipped: int = 0
    """Instead, so many draws of each prompt with the defaults of `crystallm sample`: unlike each other, after known
    crystals, with a look at bonds."""

    def config(self, rows: int) -> SampleConfig:
        """The same as the settings of `crystallm sample`."""
        if self.shipped:
            return SampleConfig(n=self.shipped, seed=self.seed, batch_size=rows)
        alone = SampleConfig(n=1, repeat=1.0, guide=0.0, bond_tries=0)
        return replace(alone, temperature=self.temperature, seed=self.seed, contact=self.contact, batch_size=rows)

    def as_shipped(self, prompts: Sequence[NamedPrompt]) -> tuple[list[NamedPrompt], Drawn]:
        """The same number of draws with the defaults: the different prompts, each once, and how they are drawn."""
        different: dict[Prompt, NamedPrompt] = {}
        for item in prompts:
            different.setdefault(item.prompt, item)
        return list(different.values()), replace(self, shipped=len(prompts) // len(different))


def ours(generator: Generator, prompts: Sequence[NamedPrompt], *, rows: int, drawn: Drawn) -> Timing:
    """The constrained engine, with everything that `crystallm sample` does up to the record of a draw."""
    from crystallm.sample.engine.engine import Engine
    from crystallm.sample.garbage import old_objects_left_alone
    from crystallm.sample.output.records import record_of

    config = drawn.config(rows)
    engine = Engine(generator.decoder, rows=rows, context=generator.context)
    texts = crystals = tokens = steps = 0
    with old_objects_left_alone():
        start = time.perf_counter()
        for attempt in generator.attempts(prompts, config, engine=engine):
            record_of(attempt, config, "benchmark")
            texts += 1
            crystals += attempt.description is not None
            tokens += attempt.n_tokens
            steps += attempt.steps
        seconds = time.perf_counter() - start
    way = SHIPPED if drawn.shipped else OURS
    return Timing(way, rows, texts, crystals, tokens, steps, seconds, engine.model_seconds)


class Processes:
    """Processes that share cores and prompts as those of `crystallm sample --processes` do, each with the model."""

    def __init__(self, number: int, *, model: Path | None, precision: Precision | None) -> None:
        self.number = number
        context = multiprocessing.get_context("spawn")
        begin = (context.Barrier(number), number, model, precision)
        self._pool = ProcessPoolExecutor(number, context, _begin, begin)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def ours(self, prompts: Sequence[NamedPrompt], *, rows: int, drawn: Drawn) -> Timing:
        """The constrained engine in all of them: the clock starts when all are ready and stops with the last one."""
        dealt = shares([work_of(item.prompt) for item in prompts], self.number)
        futures = [self._pool.submit(_share, [prompts[place] for place in own], rows, drawn) for own in dealt]
        errors = [error for error in (future.exception() for future in futures) if error is not None]
        if any(isinstance(error, BrokenProcessPool) for error in errors):
            raise ProcessError(
                f"one of {self.number} processes ended early, perhaps for want of memory; use fewer --processes"
            ) from errors[0]
        if errors:  # of those that waited for one that failed, the errors only say that they waited
            raise min(errors, key=lambda error: isinstance(error, BrokenBarrierError))
        parts = [future.result() for future in futures]
        summed, seconds = together(parts), max(part.seconds for part in parts)
        inside = seconds * sum(part.model_seconds or 0.0 for part in parts) / summed.seconds
        return replace(summed, seconds=seconds, model_seconds=inside, processes=self.number)


_ready: Barrier
_generator: Generator


def _begin(ready: Barrier, processes: int, model: Path | None, precision: Precision | None) -> None:
    """What each process does before it is given prompts."""
    global _ready, _generator
    import torch

    from crystallm.sample.generator import Generator

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
    _ready, _generator = ready, Generator.from_pretrained(model, precision=precision)


def _share(prompts: Sequence[NamedPrompt], rows: int, drawn: Drawn) -> Timing:
    """What one process does with its part of the prompts."""
    try:
        ours(_generator, prompts[:4], rows=4, drawn=drawn)  # tables, kernels
    except BaseException:
        _ready.abort()  # or the others would wait for ever
        raise
    _ready.wait()
    return ours(_generator, prompts, rows=rows, drawn=drawn)
