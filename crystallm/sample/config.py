"""How crystals are sampled."""

from __future__ import annotations

from dataclasses import dataclass

from crystallm.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """How many crystals are drawn for a prompt, and from which distribution."""

    n: int = 10
    """Draws per prompt; each one counts in the denominator."""
    temperature: float = 0.8
    """Below 1 sharpens the distribution towards what the model finds most probable."""
    top_k: int = 0
    """Keep only the k most probable tokens at each choice; 0 keeps all."""
    top_p: float = 1.0
    """Keep only the most probable tokens that together hold this share."""
    seed: int = 0
    """Same seed, same crystals, whatever the batch size or the order of prompts."""
    batch_size: int = 32
    """Crystals drawn at the same time; memory grows with it."""
    max_atoms: int = 60
    """Largest number of atoms in the primitive cell."""

    def __post_init__(self) -> None:
        for name in ("n", "batch_size", "max_atoms"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.temperature > 0:
            raise ConfigError(f"temperature must be above 0, got {self.temperature}; for the most probable use top_k=1")
        if self.top_k < 0:
            raise ConfigError(f"top_k must not be negative, got {self.top_k}; 0 keeps all tokens")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if self.seed < 0:
            raise ConfigError(f"seed must not be negative, got {self.seed}")
