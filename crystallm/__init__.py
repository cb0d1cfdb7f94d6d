"""Crystal structures from a language model: a formula in, ranked and checked crystals out."""

from typing import Any

__version__ = "0.2.0"
__all__ = ["Generator", "__version__"]


def __getattr__(name: str) -> Any:
    # The generator needs torch, which takes seconds to import: only who asks for it pays.
    if name == "Generator":
        from crystallm.sample import Generator

        return Generator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
