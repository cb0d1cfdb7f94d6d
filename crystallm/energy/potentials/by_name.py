"""Potentials by name.

Importing this loads no potential; `load_potential` does.
"""

from __future__ import annotations

from functools import cache

from crystallm.energy.potentials.protocol import CHGNET, Potential, require


def load_potential(name: str = CHGNET) -> Potential:
    """The potential of a name.

    Args:
        name: `chgnet`, `sevenn`, or `package.module:callable` that returns an ASE calculator.

    Returns:
        The potential, ready for use; the same object when asked again.

    Raises:
        ConfigError: The potential is not installed, or there is none of this name.

    Example:
        >>> load_potential("ase.calculators.emt:EMT").name[:28]
        'ase.calculators.emt:EMT 3.29'
    """
    require(name)
    return _loaded(name)


@cache
def _loaded(name: str) -> Potential:
    if name == CHGNET:
        from crystallm.energy.potentials.chgnet import ChgnetPotential

        return ChgnetPotential()
    from crystallm.energy.potentials.ase_potential import AsePotential

    return AsePotential(name)
