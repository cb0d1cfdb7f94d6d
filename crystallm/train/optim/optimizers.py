"""Which weights a run trains, and at which rate: frozen layers, rates that fall with depth, Muon and AdamW."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from crystallm.train.config import TrainConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LAYER = re.compile(r"\.(?:layers|h)\.(\d+)\.")
"""The number of a layer in the name of a parameter, as llama and gpt2 write it."""

EMBEDDINGS = re.compile(r"\.(?:embed_tokens|wte|wpe)\.")


def depth_of(name: str, *, layers: int) -> int:
    """Return how deep a parameter lies: 0 for embeddings, 1 to `layers` for the layers, one more above them."""
    found = LAYER.search(name)
    if found is not None:
        return int(found[1]) + 1
    return 0 if EMBEDDINGS.search(name) else layers + 1


def freeze(model: PreTrainedModel, *, frozen_layers: int, layers: int) -> None:
    """Fix the embeddings and the lowest `frozen_layers` layers; nothing where that is 0."""
    if frozen_layers:
        for name, parameter in model.named_parameters():
            if depth_of(name, layers=layers) <= frozen_layers:
                parameter.requires_grad_(False)


def make_optimizers(config: TrainConfig, model: PreTrainedModel) -> list[torch.optim.Optimizer]:
    """Return AdamW for all parameters, or Muon for the matrices inside the layers and AdamW for the others.

    Only matrices decay. Muon's steps are scaled to the size of AdamW's (Moonshot's rule), so both follow one rate. A
    group's `rate_scale` is the part of the rate at which it learns.
    """
    tables = {id(table.weight) for table in (model.get_input_embeddings(), model.get_output_embeddings())}
    top = config.model.layers + 1
    hidden: dict[int, list[Any]] = {}
    others: dict[tuple[int, float], list[Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        depth = depth_of(name, layers=config.model.layers) if config.layer_decay < 1 else top
        matrix = parameter.dim() >= 2
        table = id(parameter) in tables or EMBEDDINGS.search(name) is not None
        if config.optimizer == "muon" and matrix and not table:
            hidden.setdefault(depth, []).append(parameter)
        else:
            others.setdefault((depth, config.weight_decay if matrix else 0.0), []).append(parameter)

    def scale(depth: int) -> float:
        return float(config.layer_decay ** (top - depth))

    optimizers: list[torch.optim.Optimizer] = []
    if hidden:
        groups = [{"params": found, "rate_scale": scale(depth)} for depth, found in hidden.items()]
        settings: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
        optimizers.append(torch.optim.Muon(groups, adjust_lr_fn="match_rms_adamw", **settings))
    if others:
        groups = [
            {"params": found, "weight_decay": decay, "rate_scale": scale(depth)}
            for (depth, decay), found in others.items()
        ]
        betas = (config.beta1, config.beta2)
        optimizers.append(torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=True))
    return optimizers
