"""The accelerator of a run: device, precision, processes, and weights that are divided among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crystallm.train.config import TrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator


def make_accelerator(config: TrainConfig) -> Accelerator:
    """Return the accelerator of a run, on the CPU where there is nothing better."""
    import torch
    from accelerate import Accelerator

    from crystallm.train.optim.sharding import set_up_sharding

    # Without being told, Accelerate takes processes started together on CPUs for runs of their own.
    accelerator = Accelerator(
        mixed_precision="bf16" if config.precision == "bf16" else "no", cpu=not torch.accelerator.is_available()
    )
    set_up_sharding(accelerator, config)
    return accelerator
