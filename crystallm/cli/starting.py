"""What makes a command start and end sooner: it lives for seconds and imports a million objects that stay."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

REGISTRATIONS = "torch._meta_registrations"
"""Tells torch the shapes that its operations give, for tensors without numbers; takes a third of importing torch."""

NEED_REGISTRATIONS = ("torch._dynamo", "torch._inductor", "torch._decomp", "torch._refs", "transformers", "accelerate")
"""What works with tensors without numbers, and is not part of importing torch."""

COLLECTED_AFTER = (50_000, 10, 10)
"""New objects after which Python looks for garbage, and how often it looks through older ones (CPython: 700, 10, 10).
What a command imports is no garbage; what it makes later is collected as usual (`sample.garbage`)."""


def start_fast() -> None:
    """Prepare the process of a command; a program that imports the package is left as it is.

    Garbage is looked for less often, and not at the end, when all memory goes back anyway. Torch is imported without
    its registrations until something needs them. pyarrow does not import pandas to see whether what it is given is
    of it.
    """
    gc.set_threshold(*COLLECTED_AFTER)
    atexit.register(gc.freeze)
    defer_registrations()
    if "pandas" not in sys.modules and not any(isinstance(finder, _NoPandas) for finder in sys.meta_path):
        sys.meta_path.insert(0, _NoPandas())


def defer_registrations() -> None:
    """Let torch, if it is not there yet, be imported without its registrations until something needs them."""
    if "torch" not in sys.modules and not any(isinstance(finder, _Deferral) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Deferral())


class _Deferral(MetaPathFinder, Loader):
    """Gives torch an empty module for its registrations, and takes it away before what needs them is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == REGISTRATIONS:
            return ModuleSpec(fullname, self)
        if fullname in NEED_REGISTRATIONS:
            self.end()
        return None

    def exec_module(self, module: ModuleType) -> None:
        def attribute(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            self.end()
            return getattr(sys.modules[REGISTRATIONS], name)

        module.__getattr__ = attribute  # type: ignore[method-assign]

    def end(self) -> None:
        """Import what was left out."""
        if self not in sys.meta_path:
            return
        sys.meta_path.remove(self)
        if sys.modules.pop(REGISTRATIONS, None) is not None:
            import_module(REGISTRATIONS)


HAVE_NO_PANDAS = ("crystallm", "pyarrow.compute")
"""This package makes and takes no objects of pandas."""


class _NoPandas(MetaPathFinder):
    """Says that there is no pandas when compiled code of pyarrow, called by this package, asks for it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "pandas":
            return None
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("importlib."):
            frame = frame.f_back
        name = frame.f_globals.get("__name__", "")
        if any(name == own or name.startswith(f"{own}.") for own in HAVE_NO_PANDAS):
            raise ModuleNotFoundError("not imported: nothing here is of pandas", name=fullname)
        return None
