"""What a sampled crystal may be: limits of its size, and what they leave of each cell parameter."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import acos, cos, degrees, radians, sin, sqrt

from crystallm.crystal.formulas.composition import Amounts, element_order
from crystallm.crystal.formulas.element_similarity import load_similarity
from crystallm.crystal.wyckoff import SpaceGroup
from crystallm.tokenizer.layout import FREE_PARAMETERS

MIN_VOLUME_FACTOR = 0.15
"""Smallest volume of a cell over a * b * c that sampled angles may give."""

LARGEST_SEEN = 60
"""Atoms in the primitive cell of the largest training crystals."""

VOLUMES_BEYOND = (0.9, 2.4)
"""Volume of a larger cell over the sum of its elements' volumes. Of 6,000 crystals of 40 to 60 atoms 1 % lie below 0.98
and 1 % above 2.34; garnets (80 atoms) lie at 0.97 to 0.99."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a sampled crystal may be."""

    max_atoms: int = 80
    """Atoms in the primitive cell."""
    max_elements: int = 8
    min_length_angstrom: float = 1.5
    max_length_angstrom: float = 120.0
    min_angle_degrees: float = 25.0
    max_angle_degrees: float = 155.0
    min_volume_per_atom: float = 2.0
    """Cubic angstrom."""
    max_volume_per_atom: float = 150.0


def limits_for(amounts: Amounts, formula_units: int, limits: Limits) -> Limits:
    """The limits of a crystal's volume: narrower than those of all crystals where its cell is larger than any in
    training, since a model then writes a cell as small as those it has seen, and no atom finds a place.

    Args:
        amounts: the formula. formula_units: of the primitive cell.
        limits: of all crystals.

    Example:
        >>> round(limits_for((("Y", 3), ("Al", 5), ("O", 12)), 4, Limits()).min_volume_per_atom, 1)
        9.8
    """
    atoms = sum(amount for _, amount in amounts)
    if atoms * formula_units <= LARGEST_SEEN:
        return limits
    volumes = load_similarity().volumes
    volume = float(sum(volumes[element_order(symbol)[1]] * amount for symbol, amount in amounts)) / atoms
    least, most = (part * volume for part in VOLUMES_BEYOND)
    return replace(
        limits,
        min_volume_per_atom=max(limits.min_volume_per_atom, least),
        max_volume_per_atom=max(limits.min_volume_per_atom, min(limits.max_volume_per_atom, most)),
    )


def parameter_bounds(
    place: int, free: dict[int, float], group: SpaceGroup, atoms: int, limits: Limits
) -> tuple[float, float]:
    """Between what a cell parameter may lie, in angstrom or degrees, given the free ones before it (place -> value).

    atoms: in the primitive cell.
    """
    if place >= 3:
        return _angle_bounds(place, free, limits)
    atoms *= group.centring_order
    hexagonal = sin(radians(120)) if group.crystal_system in ("trigonal", "hexagonal") else 1.0
    least, most = (atoms * v / hexagonal for v in (limits.min_volume_per_atom, limits.max_volume_per_atom))
    lengths = [place for place in FREE_PARAMETERS[group.crystal_system] if place < 3]
    powers = {1: (3,), 2: (2, 1), 3: (1, 1, 1)}[len(lengths)]  # how often each length enters the volume
    product = 1.0
    for length, power in zip(free.values(), powers, strict=False):
        product *= length**power
    power, later = powers[len(free)], sum(powers[len(free) + 1 :])
    low = (least / product / limits.max_length_angstrom**later) ** (1 / power)
    high = (most / product / limits.min_length_angstrom**later) ** (1 / power)
    low = min(max(low, limits.min_length_angstrom), limits.max_length_angstrom)
    return low, max(min(high, limits.max_length_angstrom), low)


def _angle_bounds(place: int, free: dict[int, float], limits: Limits) -> tuple[float, float]:
    low, high = limits.min_angle_degrees, limits.max_angle_degrees
    if place == 5:  # gamma after alpha and beta: cos(gamma) lies around cos(alpha) cos(beta)
        alpha, beta = radians(free[3]), radians(free[4])
        middle = cos(alpha) * cos(beta)
        reach = sqrt(max((sin(alpha) * sin(beta)) ** 2 - MIN_VOLUME_FACTOR**2, 1e-6))
        low = max(low, degrees(acos(min(middle + reach, 1.0))))
        high = min(high, degrees(acos(max(middle - reach, -1.0))))
    return low + 0.01, high - 0.01
