"""The recipe of fine-tuning; what it leaves open is chosen by the number of crystals at hand."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from crystallm.base.errors import ConfigError
from crystallm.model.architecture import ModelConfig
from crystallm.sample.config import SampleConfig
from crystallm.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """How a model learns a folder of crystals. None: chosen by the number of training crystals, see `STRATEGIES`."""

    model: str = "benchmark"
    """Checkpoint folder to start from, or an edition that ships: `benchmark` has not seen what reports are made on,
    `full` has seen all there is."""
    replay: Path | None = None
    """Prepared folder whose training texts are replayed; None: the sample of the general corpus in the package."""

    epochs: float | None = None
    """Most passes over the training crystals; `patience` may end the run before."""
    patience: int | None = None
    """Epochs in a row without a lower validation loss after which training ends."""
    learning_rate: float | None = None
    """At the top of the cosine."""
    frozen_layers: int | None = None
    """Lowest layers that keep their weights, the embeddings with them."""
    layer_decay: float | None = None
    """Each layer learns at this part of the rate of the layer above it."""
    lora_rank: int | None = None
    """Train small matrices of this rank beside fixed weights, and merge them in the end; 0: the weights themselves."""
    lora_alpha: float = 16.0
    """With `lora_rank`: the product of the small matrices is scaled by lora_alpha / lora_rank."""
    replay_share: float | None = None
    """Share of general texts in each epoch, against forgetting."""
    augmented_share: float | None = None
    """Chance that a training text is drawn anew as an equivalent one; 0: always the canonical one."""
    dropout: float | None = None
    """Probability of dropping while training."""
    batch_tokens: int | None = None
    """Tokens of an optimiser step; None: about eight steps an epoch, 512 to 8192 tokens."""
    accumulate: int = 1
    """Forward passes a step is cut into; raise it when memory is short."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """`muon`: torch's Muon for the matrices inside the layers, AdamW for embeddings and norms."""
    weight_decay: float = 0.1
    """On matrices only, not on norms and biases."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Of matrix products; `bf16` by autocast, weights and optimiser in float32."""
    workers: int = 0
    """Processes that draw texts ahead of training."""
    save_minutes: float = 2.0
    """Minutes between two checkpoints to resume from."""
    seed: int = 0
    """Of the split, of training and of sampling."""

    max_sites: int = 200
    """Crystals with more atoms than this in the primitive cell are refused."""
    deduplicate: Literal["none", "text", "matcher"] = "matcher"
    """How equal crystals are found, see docs/explanation/data.md. (YAML would read `off` as false.)"""
    exclude_matching: tuple[Path, ...] = ()
    """Benchmark test files; what matches one of their structures is taken out."""
    split_column: str | None = None
    """Column of the source that says train, val or test (held out); None: split by formula."""
    val_share: float = 0.15
    """Share of the formulas whose loss says when to stop."""
    heldout_share: float = 0.15
    """Share of the formulas that are kept aside and sampled before and after."""
    most_val: int = 200
    """No more formulas than this go to validation."""
    most_heldout: int = 200
    """No more formulas than this are held out."""

    draws: int = 5
    """Crystals sampled for each held-out one; 0: none are sampled."""
    validity: bool = True
    """Make the reference checks of validity of the first draw of each held-out crystal."""
    temperature: float = 0.5
    """Of these draws; below 1 favours what is probable."""
    prompt: Literal["formula", "formula_units", "space_group"] = "formula_units"
    """What a prompt gives: the formula; Z of the primitive cell, too; the space group, too."""
    contact: float = SampleConfig.contact
    """Sites closer to another atom than this part of the expected bond length are drawn again."""
    bond_tries: int = SampleConfig.bond_tries
    """How often a crystal is drawn again because of its bonds, see docs/explanation/sample.md."""
    guide: float = SampleConfig.guide
    """Weight of templates in these draws, see docs/explanation/sample.md; 0: the model alone."""
    batch_size: int = 32
    """Crystals drawn at the same time."""

    def __post_init__(self) -> None:
        for name in ("val_share", "heldout_share"):
            if not 0 < getattr(self, name) < 0.5:
                raise ConfigError(f"{name} must be above 0 and below 0.5, got {getattr(self, name)}")
        for name in ("most_val", "most_heldout"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("draws", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.augmented_share is not None and not 0 <= self.augmented_share <= 1:
            raise ConfigError(f"augmented_share must be between 0 and 1, got {self.augmented_share}")


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """What the size of the data decides; docs/explanation/finetune.md shows the experiment behind the values."""

    learning_rate: float
    epochs: float
    patience: int
    frozen_layers: int = 0
    layer_decay: float = 1.0
    lora_rank: int = 0
    replay_share: float = 0.0
    augmented_share: float = 0.0
    dropout: float = 0.0


STRATEGIES = (
    (150, Strategy(learning_rate=2e-4, epochs=20, patience=4)),
    (1500, Strategy(learning_rate=4e-4, epochs=12, patience=3, replay_share=0.25)),
    (10**9, Strategy(learning_rate=5e-4, epochs=8, patience=2, replay_share=0.25, augmented_share=0.5)),
)
"""Most training crystals, and how so many are learned."""


def strategy_for(crystals: int) -> Strategy:
    """The strategy for so many training crystals."""
    return next(strategy for most, strategy in STRATEGIES if crystals <= most)


def settled(config: FinetuneConfig, *, crystals: int) -> FinetuneConfig:
    """The recipe with everything spelled out that the number of training crystals decides."""
    chosen = {
        name: value
        for name, value in dataclasses.asdict(strategy_for(crystals)).items()
        if getattr(config, name) is None
    }
    if config.lora_rank:
        chosen["frozen_layers"] = config.frozen_layers or 0
    return dataclasses.replace(config, **chosen)


def train_config(
    config: FinetuneConfig, *, shape: ModelConfig, layout: str, train_tokens: int, longest: int, epoch_steps: int = 1
) -> TrainConfig:
    """The training recipe of a settled fine-tuning recipe; `longest` text and `train_tokens` in tokens."""
    same: dict[str, Any] = {name: getattr(config, name) for name in SAME}
    assert config.augmented_share is not None
    assert config.dropout is not None
    return TrainConfig(
        model=dataclasses.replace(shape, dropout=config.dropout),
        layout=layout,
        start_from=config.model,
        descriptions="augmented" if config.augmented_share else "canonical",
        augmented_share=config.augmented_share or 1.0,
        max_tokens=longest,
        batch_tokens=max(config.batch_tokens or step_tokens(train_tokens), config.accumulate * longest),
        warmup_steps=max(2, epoch_steps),
        log_every=max(1, epoch_steps // 4),
        eval_every=epoch_steps,
        **same,
    )


SAME = (
    *("epochs", "patience", "learning_rate", "frozen_layers", "layer_decay", "lora_rank", "lora_alpha", "replay_share"),
    *("accumulate", "optimizer", "weight_decay", "precision", "workers", "seed", "save_minutes"),
)
"""Fields that mean the same in both recipes."""


def step_tokens(train_tokens: int) -> int:
    """Tokens of a step for a corpus of so many: a power of two, about eight steps an epoch."""
    wanted = max(train_tokens, 1) / 8
    return next(size for size in (512, 1024, 2048, 4096, 8192) if size >= min(wanted, 8192) / 1.5)
