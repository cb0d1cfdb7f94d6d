"""`crystallm bench sample`: crystals per second, side by side in one run on the same weights and machine."""

from __future__ import annotations

import argparse
import logging
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystallm import markdown
from crystallm.errors import ConfigError
from crystallm.sample.config import SampleConfig

if TYPE_CHECKING:
    from crystallm.sample.generator import Generator
    from crystallm.sample.prompts import NamedPrompt

logger = logging.getLogger(__name__)

FORMULAS = (
    *("TiO2", "NaCl", "BaTiO3", "MgAl2O4", "CaF2", "ZnS", "Fe2O3", "LiCoO2", "SiO2", "GaAs", "Cu2O", "CsPbBr3"),
    *("YBa2Cu3O7", "Al2O3", "MoS2", "Bi2Te3", "SrTiO3", "LiFePO4", "Mg2Si", "Ni3Al", "CdTe", "In2O3", "K2PtCl6"),
    *("ZrO2", "NiTi", "La2CuO4", "CaCO3", "Nb3Sn", "MnO2", "KH2PO4", "Li3N", "Sb2S3"),
)
"""32 textbook compositions of many sizes."""

LONGEST_PLAIN = 512
"""Where `generate` is cut off; without constraint it need not end by itself."""

RECOMPUTE, GENERATE, CONSTRAINED, OURS = "recompute", "generate", "generate, constrained", "crystallm"


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
    """Of these in the model, where that is measured."""

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


def plain(generator: Generator, prompts: Sequence[NamedPrompt], *, temperature: float, rows: int, way: str) -> Timing:
    """`generate` of `transformers`, `rows` prompts a call.

    way: RECOMPUTE computes the whole text anew for every token, GENERATE keeps keys and values, CONSTRAINED also keeps
    to the constraint, token by token: the batched sampler that this project began with.
    """
    import torch

    from crystallm.crystal.cell import Rejection
    from crystallm.sample.constraint import Grammar
    from crystallm.sample.processor import CrystalConstraint

    grammar = Grammar(generator.layout)
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


def ours(
    generator: Generator,
    prompts: Sequence[NamedPrompt],
    *,
    temperature: float,
    rows: int,
    seed: int,
    contact: float,
) -> Timing:
    """The constrained engine, with everything that `crystallm sample` does up to the record of a draw."""
    from crystallm.sample.engine import Engine
    from crystallm.sample.records import record_of

    plain = SampleConfig(n=1, repeat=1.0, guide=0.0)  # as the other ways draw: independent, from the model alone
    config = replace(plain, temperature=temperature, batch_size=rows, seed=seed, contact=contact)
    engine = Engine(generator.decoder, rows=rows, context=generator.context)
    start = time.perf_counter()
    attempts = []
    for attempt in generator.attempts(prompts, config, engine=engine):
        record_of(attempt, config, "benchmark")
        attempts.append(attempt)
    seconds = time.perf_counter() - start
    finished = [attempt for attempt in attempts if attempt.description is not None]
    tokens = sum(attempt.n_tokens for attempt in attempts)
    steps = sum(attempt.steps for attempt in attempts)
    return Timing(OURS, rows, len(attempts), len(finished), tokens, steps, seconds, engine.model_seconds)


def main(argv: list[str]) -> None:
    """Time the constrained engine against plain `generate` on the same prompts."""
    if argv and argv[0] not in ("sample", "-h", "--help"):
        raise ConfigError(f"unknown benchmark {argv[0]!r}; choose from: sample, train")
    argv = argv[1:] if argv and argv[0] == "sample" else argv
    parser = argparse.ArgumentParser(prog="crystallm bench sample", description=main.__doc__)
    parser.add_argument("--model", type=Path, help="checkpoint folder (default: the model that ships)")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32, 128], help="batch sizes (%(default)s)")
    parser.add_argument("--draws", type=int, default=256, help="texts for each way and batch size (%(default)s)")
    parser.add_argument(
        "--recomputed", type=int, default=8, help="texts of the loop without cache, which is slow (%(default)s)"
    )
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE", help="prompts with formulas, JSONL (default: 32 textbook formulas)"
    )
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--contact",
        type=float,
        default=SampleConfig.contact,
        help="geometry of the engine, as in `crystallm sample`; 0: off (%(default)s)",
    )
    parser.add_argument(
        "--precision", choices=["fp32", "bf16"], help="of the model, for all ways (default: as `crystallm sample`)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures here")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="also draw crystals per second over batch size")
    options = parser.parse_args(argv)
    if min(options.draws, options.recomputed, *options.rows) < 1:
        raise ConfigError("--draws, --recomputed and --rows must be at least 1")
    # The library is imported only now: bad options and --help need not wait for it.
    import torch

    from crystallm.provenance import provenance, write_json
    from crystallm.sample.device import DTYPES
    from crystallm.sample.generator import Generator

    prompts = read_bench_prompts(options.prompts, options.draws)
    generator = Generator.from_pretrained(options.model, precision=options.precision)
    generator.model.to(DTYPES[generator.precision])  # for `generate`; the engine has weights of its own
    drawn = {"temperature": options.temperature, "seed": options.seed, "contact": options.contact}
    ours(generator, prompts[:4], rows=4, **drawn)  # tables, kernels
    plain(generator, prompts[:4], way=GENERATE, rows=4, temperature=options.temperature)
    torch.manual_seed(options.seed)
    few = prompts[: options.recomputed]
    timings = [plain(generator, few, temperature=options.temperature, rows=1, way=RECOMPUTE)]
    for rows in options.rows:
        for way in (GENERATE, CONSTRAINED):
            timings.append(plain(generator, prompts, temperature=options.temperature, rows=rows, way=way))
        timings.append(ours(generator, prompts, rows=rows, **drawn))
    print(table(timings))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (30 if sys.platform == "darwin" else 20))
    print(f"peak memory {peak:.2f} GiB, {torch.get_num_threads()} threads, {generator.precision}, seed {options.seed}")
    if options.json:
        result = {"timings": [timing.to_json() for timing in timings], "peak_gib": peak, "draws": options.draws}
        settings = {name: getattr(options, name) for name in ("temperature", "seed", "contact", "recomputed")}
        settings |= {"precision": generator.precision, "threads": torch.get_num_threads(), "rows": options.rows}
        write_json(options.json, result | settings | {"provenance": provenance(settings)})
    if options.figure:
        draw_figure(timings, options.figure)


def read_bench_prompts(file: Path | None, draws: int) -> list[NamedPrompt]:
    """The prompts of a file, or the textbook formulas, repeated until there are enough."""
    from crystallm.sample.prompts import make_prompt, read_prompts

    given = [item.prompt for item in read_prompts(file)] if file else [make_prompt(text).prompt for text in FORMULAS]
    amounts = [prompt.amounts for prompt in given if prompt.amounts is not None]
    if len(amounts) < len(given):
        raise ConfigError(
            f"{file}: every prompt of the benchmark needs a formula, or plain generate has nothing to go by"
        )
    from crystallm.crystal.composition import format_formula

    formulas = [format_formula(amounts[number % len(amounts)]) for number in range(draws)]
    return [make_prompt(formula, name=f"{formula}_{number}") for number, formula in enumerate(formulas)]


def table(timings: Sequence[Timing]) -> str:
    """The timings for people, as Markdown; ratios of crystals of the formula per second, first line = 1."""
    head = ("way", "rows", "texts", "crystals of the formula", "tokens a text", "steps a text", "ms a text")
    lines = []
    first = timings[0].crystals_per_second
    for t in timings:
        outside = "" if t.model_seconds is None else f"{100 * (1 - t.model_seconds / t.seconds):.0f} %"
        ratio = f"{t.crystals_per_second / first:.1f}" if first else f"{t.crystals_per_second:.2f} a second"
        per_text = [t.tokens / t.texts, t.model_steps / t.texts, 1e3 * t.seconds / t.texts]
        lines.append((t.way, t.rows, t.texts, t.crystals, *(f"{value:.1f}" for value in per_text), outside, ratio))
    return markdown.table((*head, "outside the model", "crystals/s, first = 1"), lines)


def draw_figure(timings: Sequence[Timing], path: Path) -> None:
    """Crystals of the formula per second over rows, both logarithmic; without matplotlib, say so."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        logger.warning("no figure: install crystallm[train] for one")
        return
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for way, marker in ((OURS, "o"), (CONSTRAINED, "d"), (GENERATE, "s"), (RECOMPUTE, "x")):
        chosen = [t for t in timings if t.way == way]
        axes.plot([t.rows for t in chosen], [t.crystals_per_second for t in chosen], marker=marker, label=way)
    axes.set(xscale="log", yscale="log", xlabel="rows (texts at once)", ylabel="crystals of the formula per second")
    ticks = sorted({t.rows for t in timings})
    axes.set_xticks(ticks, [str(rows) for rows in ticks], minor=False)
    axes.legend()
    figure.savefig(path, dpi=150)
