"""What training costs in floating-point operations, so that runs of different texts and models can be given as much."""

from __future__ import annotations

from crystallm.model.architecture import ModelConfig
from crystallm.train.config import TrainConfig
from crystallm.train.monitor.throughput import flops_per_token
from crystallm.train.texts.batches import Ints, plan_epoch, widths


def matrix_parameters(shape: ModelConfig, *, vocabulary: int) -> int:
    """Weights that every token is multiplied with, those of the last product (the tied embedding) included."""
    heads = shape.kv_heads or shape.heads
    projections = 2 * shape.hidden * (shape.hidden + heads * (shape.hidden // shape.heads))
    mlp = (3 if shape.model_type == "llama" else 2) * shape.hidden * shape.ffn
    return shape.layers * (projections + mlp) + shape.hidden * vocabulary


def training_flop(shape: ModelConfig, *, vocabulary: int, width: int) -> float:
    """Operations of forward and backward pass for a token of a pass that is `width` tokens wide.

    Six for each weight, and the whole square of the attention, which plain attention computes (Chowdhery et al. 2022,
    appendix B). Optimiser, norms and softmax are left out.
    """
    weights = matrix_parameters(shape, vocabulary=vocabulary)
    return flops_per_token(shape, parameters=weights, length=width)


def flop_per_step(config: TrainConfig, lengths: Ints, *, vocabulary: int) -> float:
    """Mean over the steps of the first epoch, padding included: passes are filled up to their whole shape."""
    steps = plan_epoch(
        lengths, seed=config.seed, epoch=0, batch_tokens=config.batch_tokens, accumulate=config.accumulate
    )
    budget, wide = config.batch_tokens // config.accumulate, widths(lengths)
    total = 0.0
    for rows in (rows for step in steps for rows in step):
        width = min(int(wide[rows].max()), config.longest_text)
        tokens = max(budget // width, len(rows)) * width
        total += tokens * training_flop(config.model, vocabulary=vocabulary, width=width)
    return total / len(steps)


def steps_for(flop: float, config: TrainConfig, lengths: Ints, *, vocabulary: int) -> int:
    """Steps that a budget of operations buys, at least one."""
    return max(1, round(flop / flop_per_step(config, lengths, vocabulary=vocabulary)))
