"""Making crystals: constrained decoding, the batched engine, and the generator that people call."""

from crystallm.sample.config import SampleConfig
from crystallm.sample.generator import Crystal, Generator

__all__ = ["Crystal", "Generator", "SampleConfig"]
