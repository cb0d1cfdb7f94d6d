"""What a finished run shows: the loss curve, and the model card that travels with each checkpoint."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crystallm.train.config import TrainConfig

logger = logging.getLogger(__name__)


def draw_loss(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw training and validation loss over tokens into the figure file `path`; without matplotlib, say so."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        logger.info("no loss curve: install crystallm[train] for one")
        return
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for kind, style in (("train", {"color": "0.7", "linewidth": 0.8}), ("eval", {"color": "C0", "marker": "."})):
        chosen = [line for line in lines if line["kind"] == kind]
        label = {"train": "training", "eval": "validation"}[kind]
        axes.plot([line["tokens"] / 1e6 for line in chosen], [line["loss"] for line in chosen], label=label, **style)
    floor = min((line["loss"] for line in lines), default=0.0)
    axes.set(xlabel="tokens (millions)", ylabel="loss (nats per token)", ylim=(floor - 0.1, floor + 1.9))
    axes.legend()
    figure.savefig(path, dpi=150)


CONTENTS = {
    "wyckoff": """reduced formula, formula units in the primitive cell, space group, free cell
parameters, and the sites of the asymmetric unit"""
}
"""What texts of a layout hold."""


def model_card(config: TrainConfig, facts: Mapping[str, Any]) -> str:
    """Return the README.md of a checkpoint; `facts` is what the run measured."""
    shape = config.model
    contents = CONTENTS.get(config.layout, "a CIF of the conventional cell")
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
| validation loss | {facts["loss_per_token"]:.4f} nats a token, {facts["loss_per_crystal"]:.2f} nats a crystal |

`crystallm.json` holds the recipe, versions, commit and the hashes of the training files. A probability of this model
says how likely the model would write a crystal, not how stable the crystal is.
"""
