"""The report of `python -m studies.bench.training`: a table, a figure, and where the time of a step goes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from crystallm.base import markdown
from crystallm.base.provenance import write_text
from crystallm.base.whole_file import save_figure

logger = logging.getLogger(__name__)

TOP = 8
"""Operators that a profile names."""

PROFILED = 2
"""Steps it looks at."""


def profile(step: Callable[[], object]) -> dict[str, Any]:
    """Return the operators of a step that take most of the processor's time, and what runs outside all of them.

    Outside lie Python and the making of the texts, but also what the profiler itself costs: more than in a real step.
    """
    from torch.profiler import ProfilerActivity, record_function
    from torch.profiler import profile as watch

    with watch(activities=[ProfilerActivity.CPU]) as watched:
        start = time.perf_counter()
        for _ in range(PROFILED):
            with record_function(STEP):
                step()
        seconds = time.perf_counter() - start
    own = {event.key: event.self_cpu_time_total / 1e6 for event in watched.key_averages()}
    outside = own.pop(STEP, 0.0)
    total = outside + sum(own.values())
    top = sorted(own.items(), key=lambda pair: -pair[1])[:TOP]
    return {
        "seconds": seconds,
        "operators": {name: spent / total for name, spent in top},
        "outside": outside / total,
    }


STEP = "step"


def write_report(result: Mapping[str, Any], folder: Path | None) -> str:
    """Return the table for people; with a folder, write `report.md` and `throughput.png` there."""
    text = table(result["timings"])
    if folder is not None:
        write_text(folder / "report.md", page(result))
        draw(result["timings"], folder / "throughput.png")
    return text


def table(timings: list[dict[str, Any]]) -> str:
    """Return one line a way, as Markdown."""
    head = ("way", "steps", "tokens", "seconds", "tokens/s", "useful crystals/s", "times windows (quartiles)")
    lines = []
    for line in timings:
        seconds = sum(line["seconds"])
        cells = [
            *(line["way"], len(line["seconds"]), f"{line['tokens_per_second'] * seconds:,.0f}", f"{seconds:.1f}"),
            *(f"{line['tokens_per_second']:,.0f}", f"{line['crystals_per_second']:.1f}"),
            f"{line['ratio']:.2f} ({line['ratio_low']:.2f}-{line['ratio_high']:.2f})",
            f"{line['ratio_cpu']:.2f}",
            *("" if line[name] is None else f"{line[name]:.0%}" for name in ("mfu", "mfu_cpu")),
        ]
        lines.append(cells)
    return markdown.table((*head, "by CPU time", "MFU", "by CPU time"), lines)


def page(result: Mapping[str, Any]) -> str:
    """Return the whole report."""
    origin = result["provenance"]
    config = origin["config"]
    model = config["model"]
    peak = "" if result["peak_flops"] is None else f" 100 % MFU is {result['peak_flops'] / 1e9:,.0f} GFLOP/s."
    parts = [
        "# Throughput of training",
        f"{model['model_type']}, {model['layers']} x {model['hidden']}, {result['parameters']:,} parameters; "
        f"{result['texts']:,} texts of {result['tokens_a_text']:.1f} tokens on average; steps of "
        f"{config['batch_tokens']:,} tokens in {config['accumulate']} passes; {config['precision']}, "
        f"compile {config['compile']}, {result['threads']} thread(s), seed {config['seed']}.{peak}",
        "All ways have the same initial weights and texts, and take their steps in turn. *windows*: a plain loop over "
        f"windows of {result['window']} tokens at random places of all texts end to end, causal attention over the "
        "whole window, AdamW. A crystal is useful if its text was seen whole, from its start, in one pass; "
        "how many there are for each token is counted over all texts. "
        "*buckets*, *packed*: the steps of `crystallm train`, with AdamW; *recipe*: with the recipe's own optimiser, "
        f"{config['optimizer']}, and packing, {config['packing']}.",
        *([f"**{result['note']}**"] if result["note"] else []),
        table(result["timings"]),
        "![crystals a second](throughput.png)",
        *(f"## Where a step goes: {way}\n\n{profile_table(found)}" for way, found in result["profiles"].items()),
        f"`{origin['command']}`, commit {origin['commit']}, torch {origin['packages']['torch']}, "
        f"transformers {origin['packages']['transformers']}.",
    ]
    return "\n\n".join(parts) + "\n"


def profile_table(found: Mapping[str, Any]) -> str:
    """Return a profile as Markdown."""
    rows = [(f"`{name}`", f"{share:.1%}") for name, share in found["operators"].items()]
    rows.append(("outside all operators: Python, data, the profiler", f"{found['outside']:.1%}"))
    return markdown.table(("operator", "share of the time"), rows)


def draw(timings: list[dict[str, Any]], path: Path) -> None:
    """Draw useful crystals a second as bars; without matplotlib, say so."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        logger.warning("no figure: install crystallm[train] for one")
        return
    figure = Figure(figsize=(6, 0.5 * len(timings) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh([line["way"] for line in timings], [line["crystals_per_second"] for line in timings])
    axes.bar_label(bars, [f"{line['ratio']:.2f} x" for line in timings], padding=3)
    axes.set(xlabel="useful crystals per second")
    axes.margins(x=0.12)
    axes.invert_yaxis()
    save_figure(figure, path, dpi=150)
