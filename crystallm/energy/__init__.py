"""Energies of crystals: potentials, relaxation that keeps the space group, races, hulls."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crystallm.energy.analysis import energy_above_hull
    from crystallm.energy.relaxing import relax

__all__ = ["energy_above_hull", "relax"]


def __getattr__(name: str) -> Any:
    # Whoever imports a module of this package does not pay for the others.
    if name == "energy_above_hull":
        from crystallm.energy.analysis import energy_above_hull

        return energy_above_hull
    if name == "relax":
        from crystallm.energy.relaxing import relax

        return relax
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
