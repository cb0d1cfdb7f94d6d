"""The training recipe."""

from dataclasses import dataclass, field
from typing import Literal

from crystallm.base.errors import ConfigError
from crystallm.model.architecture import ModelConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained; one of `epochs`, `max_steps` and `max_minutes` says when it ends."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """Shape of the model."""
    layout: str = "wyckoff"
    """Name of the text layout; the tokenizer follows from it."""
    start_from: str | None = None
    """Checkpoint folder whose weights the run begins with, or the edition `benchmark` or `full`; None: random ones."""
    descriptions: Literal["canonical", "augmented"] = "canonical"
    """`canonical`: one text per crystal. `augmented`: an equivalent text drawn anew in each epoch."""
    augmented_share: float = 1.0
    """With `augmented`: chance that a text is drawn anew; the others stay canonical."""
    replay_share: float = 0.0
    """Share of other texts in each epoch, drawn from `replay.parquet` of the prepared folder: against forgetting."""
    frozen_layers: int = 0
    """Lowest layers that keep their weights; the embeddings keep theirs with them."""
    layer_decay: float = 1.0
    """Each layer learns at this part of the rate of the layer above it, the embeddings as one more layer below."""
    lora_rank: int = 0
    """Rank of the small matrices that are trained beside fixed weights (LoRA, needs `peft`); 0: the weights train."""
    lora_alpha: float = 16.0
    """With `lora_rank`: the product of the small matrices is scaled by lora_alpha / lora_rank."""
    max_tokens: int | None = None
    """Crystals with a longer text are left out and counted; None: the model's context."""

    epochs: float | None = None
    """Passes over the training texts after which the run ends; may be a fraction."""
    max_steps: int | None = None
    """Optimiser steps after which the run ends."""
    max_minutes: float | None = None
    """Time spent training, evaluation and saving included, over all resumed parts."""
    patience: int | None = None
    """Evaluations in a row without a new lowest loss after which the run ends before its budget; None: never."""

    batch_tokens: int = 8192
    """Tokens of one optimiser step, padding included, over all processes."""
    accumulate: int = 4
    """Forward passes a step is cut into; each holds texts of similar length and batch_tokens / accumulate tokens."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """`muon`: torch's Muon for the matrices inside the layers, AdamW for embeddings and norms."""
    schedule: Literal["cosine", "wsd"] = "cosine"
    """`wsd`: warm-up, a stable rate, and a decay in the last `decay_fraction` of the run."""
    decay_fraction: float = 0.2
    """With `wsd`: the part of the run in which the rate falls."""
    decay_shape: Literal["1-sqrt", "linear"] = "1-sqrt"
    """With `wsd`: how the rate falls; x being the part of the decay that is done, as 1 - sqrt(x) or 1 - x."""
    learning_rate: float = 1e-3
    """At the top of the schedule."""
    final_learning_rate_fraction: float = 0.05
    """The schedule ends at this part of the top."""
    warmup_steps: int = 300
    """Steps in which the learning rate rises from 0."""
    weight_decay: float = 0.1
    """On matrices only, not on norms and biases."""
    beta1: float = 0.9
    """Of AdamW: how long the mean of gradients remembers."""
    beta2: float = 0.95
    """Of AdamW: how long the mean of squared gradients remembers."""
    clip_norm: float = 1.0
    """Largest norm of the gradient."""
    ema_decay: float = 0.0
    """Weights are also averaged over steps, the average keeping this part of itself in each; 0: they are not."""

    precision: Literal["bf16", "fp32"] = "bf16"
    """`bf16`: matrix products in bfloat16 by autocast, weights and optimiser in float32."""
    attention: Literal["auto", "eager", "sdpa", "flex", "flash"] = "auto"
    """`auto`: eager on a CPU, where it is faster for texts this short; on a GPU flash or flex for packed rows, sdpa
    otherwise. `flash` needs the package flash-attn."""
    packing: Literal["auto", "buckets", "packed"] = "auto"
    """`buckets`: a pass holds texts of similar length side by side. `packed`: one row of texts end to end, none of
    which sees another. `auto`: packed on a GPU whose attention skips what is hidden, otherwise buckets."""
    compile: bool = False
    """Pass the model through torch.compile; needs a C++ compiler."""
    workers: int | None = None
    """Processes that draw and tokenise texts ahead of training; worth it for augmented descriptions. None: two where a
    GPU would wait for them, none on a CPU."""
    streaming: bool = False
    """Read the training texts from their files as they are needed, for data beyond memory; see docs: scale."""
    stream_buffer: int = 100_000
    """With `streaming`: texts in memory at a time, among which they are shuffled and sorted by length."""
    seed: int = 0
    """Of initial weights, the order of texts and how they are drawn anew."""

    log_every: int = 20
    """Steps between two lines of metrics."""
    eval_every: int = 500
    """Steps between two evaluations; the last step is always evaluated."""
    probe: int = 0
    """Validation crystals that are drawn during training, one draw each, to count valid ones and matches; 0: none."""
    probe_every: int = 1
    """Evaluations between two probes; the last evaluation is always followed by one."""
    templates: bool = True
    """Put the training crystals, and those of the checkpoint it starts from, beside the exported model, so that draws
    of a formula may follow them (docs/explanation/sample.md). Texts of layout `wyckoff` that are not streamed."""
    track: Literal["wandb", "trackio"] | None = None
    """Also log to Weights & Biases or trackio, which must be installed."""
    save_every: int | None = None
    """Steps between two checkpoints."""
    save_minutes: float = 10.0
    """Minutes between two checkpoints, used where `save_every` is not given."""
    checkpoints: Literal["whole", "sharded"] = "whole"
    """`whole`: the main process writes all of it. `sharded`: each process writes its part, for models that need it."""
    weights: Literal["bf16", "fp32"] = "bf16"
    """Number format of the exported model."""

    def __post_init__(self) -> None:
        budgets = [name for name in ("epochs", "max_steps", "max_minutes") if getattr(self, name) is not None]
        if len(budgets) != 1:
            raise ConfigError(f"give exactly one of epochs, max_steps and max_minutes, got {budgets or 'none'}")
        for name in (budgets[0], "batch_tokens", "accumulate", "learning_rate", "clip_norm", "log_every", "eval_every"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("warmup_steps", "weight_decay", "workers", "save_minutes", "final_learning_rate_fraction"):
            if (getattr(self, name) or 0) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        self._check_adaptation()
        self._check_schedule_and_watching()
        if not 0 < self.augmented_share <= 1:
            raise ConfigError(f"augmented_share must be above 0 and at most 1, got {self.augmented_share}")
        if self.stream_buffer < 1:
            raise ConfigError(f"stream_buffer must be at least 1, got {self.stream_buffer}")
        if self.streaming and self.replay_share:
            raise ConfigError(f"replay_share={self.replay_share} needs all texts in memory; set streaming to false")
        if self.save_every is not None and self.save_every < 1:
            raise ConfigError(f"save_every must be at least 1, got {self.save_every}")
        if self.longest_text > self.model.context:
            raise ConfigError(
                f"max_tokens={self.max_tokens} is beyond model.context={self.model.context}; raise model.context"
            )
        if self.batch_tokens // self.accumulate < self.longest_text:
            raise ConfigError(
                f"batch_tokens / accumulate = {self.batch_tokens // self.accumulate} cannot hold one text of "
                f"{self.longest_text} tokens; lower accumulate or max_tokens"
            )

    def _check_adaptation(self) -> None:
        if self.patience is not None and self.patience < 1:
            raise ConfigError(f"patience must be at least 1, got {self.patience}; null never stops early")
        if not 0 <= self.replay_share < 1:
            raise ConfigError(f"replay_share must be at least 0 and below 1, got {self.replay_share}")
        if not 0 <= self.frozen_layers < self.model.layers:
            raise ConfigError(
                f"frozen_layers must be at least 0 and below model.layers={self.model.layers}, got {self.frozen_layers}"
            )
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(f"layer_decay must be above 0 and at most 1, got {self.layer_decay}")
        if self.lora_rank < 0 or self.lora_alpha <= 0:
            raise ConfigError(f"lora_rank and lora_alpha must not be negative, got {self.lora_rank}, {self.lora_alpha}")
        if self.lora_rank and self.frozen_layers:
            raise ConfigError("with lora_rank no weight of the model is trained: leave frozen_layers at 0")

    def _check_schedule_and_watching(self) -> None:
        if not 0 < self.decay_fraction <= 1:
            raise ConfigError(f"decay_fraction must be above 0 and at most 1, got {self.decay_fraction}")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"ema_decay must be at least 0 and below 1, got {self.ema_decay}; 0 keeps no average")
        if self.probe < 0:
            raise ConfigError(f"probe must not be negative, got {self.probe}; 0 draws nothing")
        if self.probe_every < 1:
            raise ConfigError(f"probe_every must be at least 1, got {self.probe_every}")

    @property
    def longest_text(self) -> int:
        """Longest text trained on, in tokens."""
        return self.model.context if self.max_tokens is None else self.max_tokens


CHANGEABLE = frozenset(
    {"epochs", "max_steps", "max_minutes", "patience", "log_every", "eval_every", "save_every", "save_minutes"}
    | {"weights", "workers", "compile", "attention", "probe", "probe_every", "track", "checkpoints", "templates"}
)
"""Fields that may differ when a run is resumed; the others would make it another run."""
