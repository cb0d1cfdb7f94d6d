"""An average of the weights over the steps of a run, kept beside the weights that are trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator

from crystallm.base.errors import ConfigError
from crystallm.train.config import TrainConfig
from crystallm.train.optim.sharding import is_sharded


class WeightAverage:
    """Exponential moving average of the trainable weights of a model, in float32, updated once per optimiser step.

    The average keeps the part min(decay, (1 + n) / (10 + n)) of itself in update n, so that the random weights a run
    begins with are soon forgotten (as TensorFlow's ExponentialMovingAverage with `num_updates`).
    """

    def __init__(self, model: torch.nn.Module, *, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.is_worn = False
        """Whether the model has the averaged weights now."""
        self._weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.averages = {name: weight.detach().float().clone() for name, weight in self._weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights as they are now."""
        kept = min(self.decay, (1 + self.updates) / (10 + self.updates))
        weights = [weight.detach().float() for weight in self._weights.values()]
        torch._foreach_lerp_(list(self.averages.values()), weights, 1 - kept)
        self.updates += 1

    @contextmanager
    def worn(self) -> Iterator[None]:
        """Give the model the averaged weights within a `with`; its own are back afterwards, to the last bit."""
        own = {name: weight.detach().clone() for name, weight in self._weights.items()}
        self._write(self.averages)
        self.is_worn = True
        try:
            yield
        finally:
            self._write(own)
            self.is_worn = False

    @torch.no_grad()
    def _write(self, values: dict[str, torch.Tensor]) -> None:
        for name, weight in self._weights.items():
            weight.copy_(values[name])

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds of the average."""
        return {"updates": self.updates, "averages": self.averages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the average from a checkpoint."""
        self.updates = state["updates"]
        for name, average in self.averages.items():
            average.copy_(state["averages"][name])


def make_average(config: TrainConfig, accelerator: Accelerator, model: torch.nn.Module) -> WeightAverage | None:
    """Return the average the recipe asks for, saved and loaded with the checkpoints of the accelerator.

    ConfigError where the weights are divided among processes.
    """
    if not config.ema_decay:
        return None
    if is_sharded(accelerator):
        raise ConfigError("ema_decay needs whole weights in every process: set it to 0 with FSDP, or use DDP")
    average = WeightAverage(model, decay=config.ema_decay)
    accelerator.register_for_checkpointing(average)
    return average
