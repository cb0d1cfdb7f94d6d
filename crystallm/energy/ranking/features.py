"""Evidence as numbers: one column for each feature, one row for each candidate of a formula.

Every feature is zero where its evidence is missing, so a candidate without it is judged by the rest; where missing says
something of its own, it is a feature, too. Differences are taken from the best candidate of the formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.wyckoff import space_group
from crystallm.energy.ranking.evidence import Evidence

Array = NDArray[np.float64]

TIE_EV = 0.003
"""Differences of energy that decide nothing: of DFT settings, of a potential, of zero-point motion."""

HIGHEST_EV = 0.2
"""Beyond it a candidate is as far from the best as one can be."""

OLD_ID = 5.0
"""Decimal logarithm of the number of a Materials Project id: entries made from ICSD came first."""


def feature_table(evidence: Sequence[Evidence]) -> dict[str, Array]:
    """All features of the candidates of one formula.

    Args:
        evidence: One for each of N candidates.

    Returns:
        Columns (N,) by name.

    Example:
        >>> one = Evidence(space_group=225, formula_units=1, n_sites=2, n_orbits=2, n_free=1, draws=3, draw=0)
        >>> feature_table([one])["first_draw"]
        array([1.])
    """
    return {name: np.array(column(evidence), dtype=np.float64) for name, column in FEATURES.items()}


def _each(value: Callable[[Evidence], float]) -> Callable[[Sequence[Evidence]], list[float]]:
    return lambda evidence: [float(value(one)) for one in evidence]


def _above_lowest(
    value: Callable[[Evidence], float | None], *, tie: float = 0.0, most: float = math.inf
) -> Callable[[Sequence[Evidence]], list[float]]:
    """How far a number lies above the lowest, beyond a tie and up to `most`; 0 where it is unknown."""

    def column(evidence: Sequence[Evidence]) -> list[float]:
        found = [value(one) for one in evidence]
        lowest = min((x for x in found if x is not None), default=0.0)
        return [0.0 if x is None else min(max(x - lowest - tie, 0.0), most) for x in found]

    return column


def _below_highest(
    value: Callable[[Evidence], float | None], *, most: float = math.inf
) -> Callable[[Sequence[Evidence]], list[float]]:
    """How far a number lies below the highest, up to `most`; 0 where it is unknown."""
    return _above_lowest(lambda one: None if (x := value(one)) is None else -x, most=most)


def point_operations(number: int) -> int:
    """Operations of a space group without translations: its general position's multiplicity in the primitive cell."""
    group = space_group(number)
    return max(position.multiplicity for position in group.positions.values()) // group.centring_order


def id_age(one: Evidence) -> float:
    """How much earlier than `OLD_ID` the first of its Materials Project ids came, in decades; 0 for none or later."""
    numbers = [int(name[3:]) for name in one.source_ids if name.startswith("mp-") and name[3:].isdigit()]
    return max(0.0, OLD_ID - math.log10(max(min(numbers), 1))) if numbers else 0.0


def _energy(one: Evidence) -> float | None:
    return one.relaxed_energy if one.relaxed_energy is not None else one.energy


FEATURES: Mapping[str, Callable[[Sequence[Evidence]], list[float]]] = {
    # drawn crystals
    "drawn": _each(lambda one: one.draw is not None),
    "ranking_below_best": _below_highest(lambda one: one.ranking_log_probability, most=20.0),
    "model_below_best": _below_highest(lambda one: one.protostructure_log_probability, most=20.0),
    "ranking": _each(lambda one: max(one.ranking_log_probability or 0.0, -20.0)),
    "first_draw": _each(lambda one: one.draw == 0),
    "log_draw": _each(lambda one: 0.0 if one.draw is None else math.log1p(one.draw)),
    "log_draws": _each(lambda one: math.log(one.draws) if one.draws else 0.0),
    "followed": _each(lambda one: one.share or 0.0),
    "distance": _each(lambda one: one.distance or 0.0),
    "votes": _each(lambda one: one.votes or 0.0),
    "observed_votes": _each(lambda one: one.observed_votes or 0.0),
    "template_observed": _each(lambda one: one.template_observed is True),
    "template_hypothetical": _each(lambda one: one.template_observed is False),
    # known crystals
    "known": _each(lambda one: one.known),
    "observed": _each(lambda one: one.observed is True),
    "hypothetical": _each(lambda one: one.known and one.observed is False),
    "measured": _each(lambda one: one.measured),
    "log_copies": _each(lambda one: math.log(max(len(one.source_ids), 1))),
    "id_age": _each(id_age),
    # the crystal itself
    "bonds_unreasonable": _each(lambda one: one.bonds_reasonable is False),
    "volume_off": _each(lambda one: 0.0 if not one.volume_ratio else abs(math.log(one.volume_ratio))),
    "log_operations": _each(lambda one: math.log(point_operations(one.space_group))),
    "log_sites": _each(lambda one: math.log(one.n_sites)),
    "log_orbits": _each(lambda one: math.log(one.n_orbits)),
    "log_free": _each(lambda one: math.log(max(one.n_free, 1))),
    # energies
    "energy_above_best": _above_lowest(_energy, tie=TIE_EV, most=HIGHEST_EV),
    "dft_above_best": _above_lowest(lambda one: one.dft_above_hull, tie=TIE_EV, most=HIGHEST_EV),
    "dft_known": _each(lambda one: one.dft_above_hull is not None),
}
"""Name -> numbers of the candidates of one formula."""
