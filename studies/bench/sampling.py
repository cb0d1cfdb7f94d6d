"""`python -m studies.bench.sampling`: crystals per second, side by side in one run on the same weights and machine."""

from __future__ import annotations

import argparse
import logging
import resource
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from crystallm.base import markdown
from crystallm.base.errors import ConfigError
from crystallm.base.whole_file import save_figure
from crystallm.cli import run_program
from crystallm.sample.config import SampleConfig
from studies.bench.sampling_ways import (
    CONSTRAINED,
    GENERATE,
    OURS,
    PUBLISHED,
    RECOMPUTE,
    SHIPPED,
    Drawn,
    Processes,
    Timing,
    ours,
    plain,
    published,
    together,
)

if TYPE_CHECKING:
    from crystallm.sample.prompts import NamedPrompt

logger = logging.getLogger(__name__)

FORMULAS = (
    *("TiO2", "NaCl", "BaTiO3", "MgAl2O4", "CaF2", "ZnS", "Fe2O3", "LiCoO2", "SiO2", "GaAs", "Cu2O", "CsPbBr3"),
    *("YBa2Cu3O7", "Al2O3", "MoS2", "Bi2Te3", "SrTiO3", "LiFePO4", "Mg2Si", "Ni3Al", "CdTe", "In2O3", "K2PtCl6"),
    *("ZrO2", "NiTi", "La2CuO4", "CaCO3", "Nb3Sn", "MnO2", "KH2PO4", "Li3N", "Sb2S3"),
)
"""32 textbook compositions of many sizes."""

LONG_TEXTS = 8
"""Most texts that are written as CrystaLLM writes them: each takes the loop without cache many seconds."""


def main(argv: list[str]) -> None:
    """Time the constrained engine against plain `generate` on the same prompts."""
    parser = argparse.ArgumentParser(prog="python -m studies.bench.sampling", description=main.__doc__)
    parser.add_argument("--model", type=Path, help="checkpoint folder (default: the benchmark edition)")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32, 128], help="batch sizes (%(default)s)")
    parser.add_argument("--draws", type=int, default=256, help="texts for each way and batch size (%(default)s)")
    parser.add_argument(
        "--recomputed", type=int, default=256, help="texts of the loop without cache, which is slow (%(default)s)"
    )
    parser.add_argument(
        "--processes",
        type=int,
        nargs="+",
        default=[1],
        help="processes of the engine, which share prompts and cores, as in `crystallm sample` (%(default)s)",
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
    if min(options.draws, options.recomputed, *options.rows, *options.processes) < 1:
        raise ConfigError("--draws, --recomputed, --rows and --processes must be at least 1")
    # The library is imported only now: bad options and --help need not wait for it.
    import torch

    from crystallm.base.provenance import provenance, write_json
    from crystallm.model.checkpoint import chosen_folder
    from crystallm.sample.decoding.device import DTYPES
    from crystallm.sample.generator import Generator

    options.model = chosen_folder(options.model, None, otherwise="benchmark")
    prompts = read_bench_prompts(options.prompts, options.draws)
    generator = Generator.from_pretrained(options.model, precision=options.precision)
    generator.model.to(DTYPES[generator.precision])  # for `generate`; the engine has weights of its own
    drawn = Drawn(options.temperature, options.seed, options.contact)
    few = prompts[: options.recomputed]
    # Also warms up: tables, kernels.
    crystals = [attempt.description for attempt in generator.attempts(few, drawn.config(4)) if attempt.description]
    plain(generator, prompts[:4], way=GENERATE, rows=4, temperature=options.temperature)
    torch.manual_seed(options.seed)
    # Among the others, a part before each batch size: a machine is not equally fast all the time.
    recomputed: list[Timing] = []
    timings: list[Timing] = []
    longer = published(generator, crystals[:LONG_TEXTS])
    several = [number for number in options.processes if number > 1]
    with ExitStack() as stack:
        started = [Processes(number, model=options.model, precision=options.precision) for number in several]
        others = [stack.enter_context(processes) for processes in started]
        for number, rows in enumerate(options.rows):
            if part := few[number :: len(options.rows)]:
                recomputed.append(plain(generator, part, temperature=options.temperature, rows=1, way=RECOMPUTE))
            for way in (GENERATE, CONSTRAINED):
                timings.append(plain(generator, prompts, temperature=options.temperature, rows=rows, way=way))
            for asked, how in ((prompts, drawn), drawn.as_shipped(prompts)):
                if 1 in options.processes:
                    timings.append(ours(generator, asked, rows=rows, drawn=how))
                timings += [processes.ours(asked, rows=rows, drawn=how) for processes in others]
    timings = [together(recomputed), *([] if longer is None else [longer]), *timings]
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
    from crystallm.crystal.formulas.composition import format_formula

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
        way = t.way if t.processes == 1 else f"{t.way}, {t.processes} processes"
        lines.append((way, t.rows, t.texts, t.crystals, *(f"{value:.1f}" for value in per_text), outside, ratio))
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
    markers = {OURS: "o", SHIPPED: "^", CONSTRAINED: "d", GENERATE: "s", RECOMPUTE: "x", PUBLISHED: "+"}
    for way, processes in dict.fromkeys((t.way, t.processes) for t in timings):
        chosen = [t for t in timings if (t.way, t.processes) == (way, processes)]
        label, line = (way, "-") if processes == 1 else (f"{way}, {processes} processes", "--")
        numbers, rates = [t.rows for t in chosen], [t.crystals_per_second for t in chosen]
        axes.plot(numbers, rates, label=label, marker=markers[way], linestyle=line)
    axes.set(xscale="log", yscale="log", xlabel="rows (texts at once)", ylabel="crystals of the formula per second")
    ticks = sorted({t.rows for t in timings})
    axes.set_xticks(ticks, [str(rows) for rows in ticks], minor=False)
    axes.legend()
    save_figure(figure, path, dpi=150)


if __name__ == "__main__":
    run_program(main)
