"""What an evaluation of a run finds, and how the log and the exported models hold it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from crystallm.train.schedule import Position

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class EvaluationLoss:
    """Loss over a whole split, in nats."""

    per_token: float
    per_crystal: float
    """Sum over the tokens of a crystal, averaged over crystals: what the model pays to write one."""

    def __str__(self) -> str:
        return f"{self.per_token:.4f} a token, {self.per_crystal:.2f} a crystal"


def losses_of(line: Mapping[str, Any]) -> tuple[EvaluationLoss, EvaluationLoss | None]:
    """Return the loss of the weights and of their average, where there is one, from a line of metrics."""
    loss = EvaluationLoss(per_token=line["loss"], per_crystal=line["loss_per_crystal"])
    if "ema_loss" not in line:
        return loss, None
    return loss, EvaluationLoss(per_token=line["ema_loss"], per_crystal=line["ema_loss_per_crystal"])


Role = Literal["best", "final", "final_ema"]
"""Which of the models of a run is written: lowest loss so far, last weights, average of weights at the end."""

Export = Callable[["PreTrainedModel", Position, EvaluationLoss, Role], None]
"""Writes the weights a model has now, and what they were evaluated to, as one of the models of a run."""
