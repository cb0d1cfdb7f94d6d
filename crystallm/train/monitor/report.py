"""What a finished run shows: the loss curve, and the model card that travels with each checkpoint."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crystallm.base.whole_file import save_figure
from crystallm.train.config import TrainConfig

logger = logging.getLogger(__name__)


def draw_loss(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw training and validation loss over tokens into the figure file `path`; without matplotlib, say so."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        logger.info("no loss curve: install crystallm[train] for one")
        return
    chosen = {kind: [line for line in lines if line["kind"] == kind] for kind in ("train", "eval", "probe")}
    panels = 2 if chosen["probe"] else 1
    figure = Figure(figsize=(6, 2 + 2.5 * panels), layout="constrained")
    axes = figure.subplots(panels, sharex=True, squeeze=False)[:, 0]
    _curve(axes[0], chosen["train"], "loss", "training", color="0.7", linewidth=0.8)
    _curve(axes[0], chosen["eval"], "loss", "validation", color="C0", marker=".")
    _curve(axes[0], chosen["eval"], "ema_loss", "validation, averaged weights", color="C3", marker=".")
    floor = min((line["loss"] for kind in ("train", "eval") for line in chosen[kind]), default=0.0)
    axes[0].set(ylabel="loss (nats per token)", ylim=(floor - 0.1, floor + 1.9))
    axes[0].legend()
    if chosen["probe"]:
        _curve(axes[1], chosen["probe"], "valid", "valid", color="C2", marker=".")
        _curve(axes[1], chosen["probe"], "matched", "matching the truth", color="C1", marker=".")
        most = max(line["attempted"] for line in chosen["probe"])
        axes[1].set(ylabel=f"of {most} draws", ylim=(-0.03 * most, 1.03 * most))
        axes[1].legend()
    axes[-1].set(xlabel="tokens (millions)")
    save_figure(figure, path, dpi=150)


def _curve(axes: Any, lines: Sequence[Mapping[str, Any]], value: str, label: str, **style: Any) -> None:
    points = [(line["tokens"] / 1e6, line[value]) for line in lines if value in line]
    if points:
        axes.plot(*zip(*points, strict=True), label=label, **style)


CONTENTS = {
    "wyckoff": """reduced formula, formula units in the primitive cell, space group, free cell
parameters, and the sites of the asymmetric unit"""
}
"""What texts of a layout hold."""


def model_card(config: TrainConfig, facts: Mapping[str, Any]) -> str:
    """Return the README.md of a checkpoint; `facts` is what the run measured."""
    shape = config.model
    contents = CONTENTS.get(config.layout, "a CIF of the conventional cell")
    averaged = f"average over steps (exponential, decay {config.ema_decay:g})"
    weights = averaged if facts.get("averaged") else "of the last of these steps"
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [crystallm, crystal-structure, materials-science]
---

# A crystallm checkpoint

A causal language model that writes one crystal structure as text, in the `{config.layout}` layout
({config.descriptions} descriptions): {contents}. Use it through `crystallm sample FORMULA --model FOLDER`, which
constrains the text to valid crystals; it also loads with plain `transformers`.

| | |
|---|---|
| architecture | {shape.model_type}, {shape.layers} layers, width {shape.hidden}, {shape.heads} heads, MLP {shape.ffn} |
| parameters | {facts["parameters"]:,} |
| context | {shape.context} tokens |
| training texts | {facts["train_texts"]:,} ({facts["train_tokens"]:,} tokens) |
| left out above {config.longest_text} tokens | {facts["train_left_out"]:,} training texts |
| left out of validation | {facts["val_left_out"]:,} |
| validation texts | {facts["val_texts"]:,} |
| steps | {facts["steps"]:,} of up to {config.batch_tokens:,} tokens, padding included |
| epochs | {facts["epochs"]:.2f} |
| tokens seen | {facts["tokens_seen"]:,} |
| training time | {facts["hours"]:.2f} hours |
| weights | {weights} |
| validation loss | {facts["loss_per_token"]:.4f} nats a token, {facts["loss_per_crystal"]:.2f} nats a crystal |

`crystallm.json` holds the recipe, versions, commit and the hashes of the training files. A probability of this model
says how likely the model would write a crystal, not how stable the crystal is.
"""
