"""Crystal structures from a language model: a formula in, ranked and checked crystals out.

The names below are the public API (docs/reference/api.md). Each is loaded when it is first asked for, so that importing
`crystallm` alone costs nothing.
"""

TYPE_CHECKING = False  # as of `typing`, whose import would be most of the time of ours
if TYPE_CHECKING:
    from crystallm.base.errors import CrystallmError
    from crystallm.crystal.api import check, match
    from crystallm.crystal.cell import Cell, Rejection
    from crystallm.crystal.cif.reading import read_cif
    from crystallm.crystal.cif.writing import write_cif
    from crystallm.crystal.description import Description, describe
    from crystallm.energy.analysis import energy_above_hull
    from crystallm.energy.relaxing import relax
    from crystallm.sample.api import known, sample
    from crystallm.sample.config import AnswerConfig, SampleConfig
    from crystallm.sample.crystal import Crystal, Crystals
    from crystallm.sample.generator import Generator

__version__ = "0.2.0"
__all__ = [
    "AnswerConfig",
    "Cell",
    "Crystal",
    "CrystallmError",
    "Crystals",
    "Description",
    "Generator",
    "Rejection",
    "SampleConfig",
    "__version__",
    "check",
    "describe",
    "energy_above_hull",
    "known",
    "match",
    "read_cif",
    "relax",
    "sample",
    "write_cif",
]

_MODULES = {
    "AnswerConfig": "sample.config",
    "Cell": "crystal.cell",
    "Crystal": "sample.crystal",
    "CrystallmError": "base.errors",
    "Crystals": "sample.crystal",
    "Description": "crystal.description",
    "Generator": "sample.generator",
    "Rejection": "crystal.cell",
    "SampleConfig": "sample.config",
    "check": "crystal.api",
    "describe": "crystal.description",
    "energy_above_hull": "energy.analysis",
    "known": "sample.api",
    "match": "crystal.api",
    "read_cif": "crystal.cif.reading",
    "relax": "energy.relaxing",
    "write_cif": "crystal.cif.writing",
}
"""Where each name is defined. `sample` is missing: it is the package `crystallm.sample`, which can be called."""

if not TYPE_CHECKING:

    def __getattr__(name):
        from importlib import import_module

        if name == "sample":
            return import_module("crystallm.sample")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(f"crystallm.{_MODULES[name]}"), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
