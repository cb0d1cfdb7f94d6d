"""Making crystals: constrained decoding, the batched engine, and the generator that people call."""

from typing import Any

from crystallm.sample.config import SampleConfig

__all__ = ["Crystal", "Generator", "SampleConfig"]


def __getattr__(name: str) -> Any:
    # The generator needs torch, which takes seconds to import: the command line must answer `--help` without it.
    if name in ("Crystal", "Generator"):
        from crystallm.sample import crystal, generator

        return getattr(crystal if name == "Crystal" else generator, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
