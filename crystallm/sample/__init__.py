"""Making crystals: constrained decoding, the batched engine, and the generator that people call."""

import sys
from types import ModuleType
from typing import Any

from crystallm.sample.config import SampleConfig

__all__ = ["Crystal", "Generator", "SampleConfig"]


class _Callable(ModuleType):
    # `crystallm.sample` is this package, and the public function `sample("TiO2")` (crystallm.sample.api): a package
    # takes its name in the one above, so it is the package that has to be callable.
    def __call__(self, formula: Any = None, **options: Any) -> Any:
        """Crystals of a formula: `crystallm.sample.api.sample`, where arguments and results are set out."""
        from crystallm.sample.api import sample

        return sample(formula, **options)


sys.modules[__name__].__class__ = _Callable


def __getattr__(name: str) -> Any:
    # The generator needs torch, which takes seconds to import: the command line must answer `--help` without it.
    if name in ("Crystal", "Generator"):
        from crystallm.sample import crystal, generator

        return getattr(crystal if name == "Crystal" else generator, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
