"""`crystallm bench sample`: crystals per second, side by side in one run on the same weights and machine."""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from crystallm.crystal.cell import Rejection
from crystallm.errors import ConfigError
from crystallm.provenance import provenance, write_json
from crystallm.sample.config import SampleConfig
from crystallm.sample.constraint import Grammar
from crystallm.sample.generator import Generator
from crystallm.sample.prompts import NamedPrompt, make_prompt

FORMULAS = (
    *("TiO2", "NaCl", "BaTiO3", "MgAl2O4", "CaF2", "ZnS", "Fe2O3", "LiCoO2", "SiO2", "GaAs", "Cu2O", "CsPbBr3"),
    *("YBa2Cu3O7", "Al2O3", "MoS2", "Bi2Te3", "SrTiO3", "LiFePO4", "Mg2Si", "Ni3Al", "CdTe", "In2O3", "K2PtCl6"),
    *("ZrO2", "NiTi", "La2CuO4", "CaCO3", "Nb3Sn", "MnO2", "KH2PO4", "Li3N", "Sb2S3"),
)
"""32 textbook compositions of many sizes."""


@dataclass(frozen=True)
class Timing:
    """One way of sampling: how many texts in how many seconds, and how many of them hold a crystal of the formula."""

    name: str
    texts: int
    crystals: int
    tokens: int
    model_steps: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """All counts and the rates."""
        return vars(self) | {
            "texts_per_second": self.texts / self.seconds,
            "ms_per_text": 1e3 * self.seconds / self.texts,
        }


def plain(generator: Generator, prompts: list[NamedPrompt], *, temperature: float, batched: bool) -> Timing:
    """`transformers` generate with its KV cache and no constraint; one prompt a call unless batched."""
    grammar = Grammar(generator.layout)
    tokenizer = generator.checkpoint.tokenizer
    texts: list[str] = []
    tokens = steps = 0
    heads = []
    for item in prompts:
        assert item.prompt.amounts is not None
        heads.append(grammar.formula_head(item.prompt.amounts))
    start = time.perf_counter()
    # Padding goes to the left, where generate expects it.
    for group in [heads] if batched else [[head] for head in heads]:
        width = max(map(len, group))
        ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(head)) + head for head in group])
        output = generator.model.generate(
            ids,
            attention_mask=ids != tokenizer.pad_token_id,
            do_sample=True,
            temperature=temperature,
            top_k=0,
            max_length=512,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        steps += output.shape[1] - width
        for row in output.tolist():
            kept = [token for token in row if token != tokenizer.pad_token_id]
            tokens += len(kept)
            texts.append("".join(grammar.tokens[token] for token in kept))
    seconds = time.perf_counter() - start
    found = [generator.layout.read(text) for text in texts]
    good = sum(
        not isinstance(crystal, Rejection) and crystal.amounts == item.prompt.amounts
        for crystal, item in zip(found, prompts, strict=True)
    )
    return Timing(f"generate, {len(prompts) if batched else 1} at once", len(texts), good, tokens, steps, seconds)


def ours(generator: Generator, prompts: list[NamedPrompt], *, temperature: float, rows: int, seed: int) -> Timing:
    """The constrained engine."""
    start = time.perf_counter()
    attempts = list(generator.attempts(prompts, SampleConfig(n=1, temperature=temperature, batch_size=rows, seed=seed)))
    seconds = time.perf_counter() - start
    finished = [attempt for attempt in attempts if attempt.description is not None]
    tokens = sum(attempt.n_tokens for attempt in attempts)
    steps = sum(attempt.steps for attempt in attempts)
    return Timing(f"crystallm, {rows} at once", len(attempts), len(finished), tokens, steps, seconds)


def main(argv: list[str]) -> None:
    """Time the constrained engine against plain `generate` on the same prompts."""
    if argv and argv[0] not in ("sample", "-h", "--help"):
        raise ConfigError(f"unknown benchmark {argv[0]!r}; choose from: sample")
    argv = argv[1:] if argv and argv[0] == "sample" else argv
    parser = argparse.ArgumentParser(prog="crystallm bench sample", description=main.__doc__)
    parser.add_argument("--model", type=Path, help="checkpoint folder (default: the model that ships)")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32], help="batch sizes (%(default)s)")
    parser.add_argument("--prompts", type=int, default=32, help="prompts, textbook formulas repeated (%(default)s)")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures here")
    options = parser.parse_args(argv)
    if options.prompts < 1 or min(options.rows) < 1:
        raise ConfigError("--prompts and --rows must be at least 1")
    generator = Generator.from_pretrained(options.model, device="cpu" if not torch.cuda.is_available() else None)
    formulas = [FORMULAS[number % len(FORMULAS)] for number in range(options.prompts)]
    prompts = [make_prompt(formula, name=f"{formula}_{number}") for number, formula in enumerate(formulas)]
    ours(generator, prompts[:4], temperature=options.temperature, rows=4, seed=options.seed)  # tables, kernels
    torch.manual_seed(options.seed)
    runs: list[Callable[[], Timing]] = [
        lambda: plain(generator, prompts, temperature=options.temperature, batched=False),
        lambda: plain(generator, prompts, temperature=options.temperature, batched=True),
        *(
            lambda rows=rows: ours(generator, prompts, temperature=options.temperature, rows=rows, seed=options.seed)
            for rows in options.rows
        ),
    ]
    timings = [run() for run in runs]
    print(table(timings))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (30 if sys.platform == "darwin" else 20))
    print(f"peak memory {peak:.2f} GiB, {torch.get_num_threads()} threads, seed {options.seed}")
    if options.json:
        result = {"timings": [timing.to_json() for timing in timings], "peak_gib": peak, "prompts": options.prompts}
        settings = {"temperature": options.temperature, "seed": options.seed, "threads": torch.get_num_threads()}
        write_json(options.json, result | settings | {"provenance": provenance(settings)})


def table(timings: list[Timing]) -> str:
    """The timings for people, as Markdown; the ratio is against the first line."""
    lines = [
        "| way | texts | crystals of the formula | tokens a text | steps a text | ms a text | speed, first = 1 |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    first = timings[0].texts / timings[0].seconds
    for t in timings:
        lines.append(
            f"| {t.name} | {t.texts} | {t.crystals} | {t.tokens / t.texts:.1f} | {t.model_steps / t.texts:.1f} "
            f"| {1e3 * t.seconds / t.texts:.1f} | {t.texts / t.seconds / first:.1f} |"
        )
    return "\n".join(lines)
