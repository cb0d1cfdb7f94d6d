"""What every arm of the comparison of layouts is given, and how it is measured."""

from __future__ import annotations

from dataclasses import dataclass

from crystallm.base.errors import ConfigError
from crystallm.sample.config import SampleConfig


@dataclass(frozen=True, kw_only=True)
class LayoutsConfig:
    """Settings of a comparison; those of training stand in the recipes."""

    teraflop: float = 60.0
    """Operations of training, 1e12, see `crystallm.train.monitor.compute`."""
    reference: str = "wyckoff"
    """The arm that the others are compared with."""
    targets: int = 200
    """Validation crystals for which crystals are drawn, formula and formula units given."""
    draws: int = 20
    temperature: float = 0.5
    contact: float = SampleConfig.contact
    """Sites closer to another atom than this part of the expected bond length are drawn again; 0: geometry off."""
    batch_size: int = 32
    """Crystals drawn at the same time."""
    timed: int = 128
    """Draws, one for each target, with which the speed of sampling is measured."""
    seed: int = 0
    """Of the choice of targets and of the draws; training has its own."""

    def __post_init__(self) -> None:
        for name in ("teraflop", "targets", "draws", "temperature", "batch_size", "timed"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}")
        SampleConfig(contact=self.contact)  # knows its range
