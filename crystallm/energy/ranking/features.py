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
Column = Callable[[Sequence[Evidence]], list[float]]
"""Makes a feature of the candidates of a formula."""

TIE_EV = 0.003
"""Differences of energy that decide nothing: of DFT settings, of a potential, of zero-point motion."""

HIGHEST_EV = 0.2
"""Beyond it a candidate is as far from the best as one can be."""

STEPS_EV = {"to_5": (0.0, 0.005), "to_30": (0.005, 0.03), "to_130": (0.03, 0.13)}
"""End of a feature's name -> range of an energy over which it rises from 0 to 1: `hull_to_5` of that above the lowest
observed crystal, `energy_to_5` of that of the potential above the lowest candidate."""

NEAR_HULL_EV = 0.1
"""A template so near the hull counts as stable."""

OBSERVED_EV, POTENTIAL_SHARE = 0.005, 0.25
"""Where DFT energies of some candidates are known, that of another observed one is taken for so much above the hull,
and the potential's estimate counts only so much beside it: what nature makes is mostly near the hull, and the error of
the potential is larger than the differences of polymorphs (chosen by the likelihood of 245 formulas with a measured
crystal, cross-validated; decision 21)."""

UNKNOWN_EV = 0.05
"""Energy above the lowest one of a candidate of which no energy is known."""

LATEST = 3.0
"""Decades of ids beyond which it does not matter how much later an entry came."""

LEAST_VOTES = 0.01
"""Added to shares of votes before their logarithm is taken."""


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


def _each(value: Callable[[Evidence], float]) -> Column:
    return lambda evidence: [float(value(one)) for one in evidence]


def _above_lowest(value: Callable[[Evidence], float | None], *, tie: float = 0.0, most: float = math.inf) -> Column:
    """How far a number lies above the lowest, beyond a tie and up to `most`; 0 where it is unknown."""

    def column(evidence: Sequence[Evidence]) -> list[float]:
        found = [value(one) for one in evidence]
        lowest = min((x for x in found if x is not None), default=0.0)
        return [0.0 if x is None else min(max(x - lowest - tie, 0.0), most) for x in found]

    return column


def _below_highest(value: Callable[[Evidence], float | None], *, most: float = math.inf) -> Column:
    """How far a number lies below the highest, up to `most`; 0 where it is unknown."""
    return _above_lowest(lambda one: None if (x := value(one)) is None else -x, most=most)


def _new(column: Column) -> Column:
    """A feature of candidates that are no known crystals; 0 for those that are."""
    return lambda evidence: [0.0 if one.known else value for one, value in zip(evidence, column(evidence), strict=True)]


def _is_below(value: float | None, limit: float) -> bool:
    return value is not None and value <= limit


def log_probability_of_numbers(one: Evidence) -> float:
    """Mean log-probability of its cell lengths, angles and coordinates under the model alone, at least -10; a crystal
    whose numbers the model finds improbable does not fit its protostructure. 0 for what was not drawn."""
    if one.log_probability is None or one.protostructure_log_probability is None:
        return 0.0
    return max(min(one.log_probability - one.protostructure_log_probability, 0.0) / max(one.n_free, 1), -10.0)


def _beside_observed(evidence: Sequence[Evidence]) -> list[float]:
    """Whether an observed crystal of the formula is known."""
    return [float(any(one.observed for one in evidence))] * len(evidence)


def _log_votes(share: float | None) -> float:
    return math.log((share or 0.0) + LEAST_VOTES)


def point_operations(number: int) -> int:
    """Operations of a space group without translations: its general position's multiplicity in the primitive cell."""
    group = space_group(number)
    return max(position.multiplicity for position in group.positions.values()) // group.centring_order


def hull_estimates(evidence: Sequence[Evidence]) -> Array:
    """Energies (N,) above the hull in eV/atom: by DFT where that is known, else by the potential, shifted by the
    median difference of those of which both are known; of observed ones mostly what observed ones have."""
    dft = np.array([np.nan if one.dft_above_hull is None else one.dft_above_hull for one in evidence], dtype=float)
    own = np.array([np.nan if (x := _energy(one)) is None else x for one in evidence], dtype=float)
    both = np.isfinite(dft) & np.isfinite(own)
    if both.any():
        own += np.median(dft[both] - own[both])
    elif np.isfinite(own).any():
        own -= np.nanmin(own)
    if np.isfinite(dft).any():
        observed = np.array([one.observed is True for one in evidence], dtype=bool)
        own = np.where(observed, POTENTIAL_SHARE * own + (1 - POTENTIAL_SHARE) * OBSERVED_EV, own)
    found = np.where(np.isfinite(dft), dft, own)
    lowest = np.min(found[np.isfinite(found)], initial=np.inf)
    return np.where(np.isfinite(found), found, UNKNOWN_EV + (lowest if np.isfinite(lowest) else 0.0))


def above_observed(evidence: Sequence[Evidence]) -> Array:
    """Energies (N,) above that of the lowest observed candidate, of all candidates where none was observed."""
    found = hull_estimates(evidence)
    observed = np.array([one.observed is True for one in evidence], dtype=bool)
    return np.asarray(found - (found[observed] if observed.any() else found).min()) if len(found) else found


def above_lowest_energy(evidence: Sequence[Evidence]) -> Array:
    """Energies (N,) of the potential above the lowest one; 0 where there is none."""
    found = np.array([np.nan if (x := _energy(one)) is None else x for one in evidence], dtype=float)
    lowest = np.min(found[np.isfinite(found)], initial=np.inf)
    return np.asarray(np.nan_to_num(found - lowest, nan=0.0, neginf=0.0))


def _step(energies: Callable[[Sequence[Evidence]], Array], low: float, high: float) -> Column:
    return lambda evidence: ((np.clip(energies(evidence), low, high) - low) / (high - low)).tolist()


def _below_observed(evidence: Sequence[Evidence]) -> list[float]:
    return [min(max(-x, 0.0), 0.1) / 0.1 for x in above_observed(evidence).tolist()]


def first_id(one: Evidence) -> int | None:
    """The smallest number of its Materials Project ids; None where it has none."""
    return min(
        (int(name[3:]) for name in one.source_ids if name.startswith("mp-") and name[3:].isdigit()), default=None
    )


def later_ids(evidence: Sequence[Evidence]) -> list[float]:
    """How many decades later its entry came than the first of an observed candidate, up to LATEST; 0 for no id.

    Ids of the Materials Project rise with time; entries made from ICSD came first, and the best-known phase of a
    compound early among them.
    """
    numbers = [first_id(one) for one in evidence]
    seen = [number for one, number in zip(evidence, numbers, strict=True) if number and one.observed is True]
    oldest = min(seen or [number for number in numbers if number], default=1)
    return [min(max(math.log10(number / oldest), 0.0), LATEST) if number else 0.0 for number in numbers]


def _energy(one: Evidence) -> float | None:
    """Of known crystals as given, which is as DFT relaxed them; of drawn ones relaxed, where they were."""
    if one.known and one.energy is not None:
        return one.energy
    return one.energy if one.relaxed_energy is None else one.relaxed_energy


FEATURES: Mapping[str, Column] = {
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
    "log_votes": _each(lambda one: _log_votes(one.votes)),
    "log_observed_votes": _each(lambda one: _log_votes(one.observed_votes)),
    "like_own": _each(lambda one: bool(one.like_own)),
    "template_observed": _each(lambda one: one.template_observed is True),
    "template_near_hull": _each(lambda one: _is_below(one.template_above_hull, NEAR_HULL_EV)),
    "numbers": _each(log_probability_of_numbers),
    "template_hypothetical": _each(lambda one: one.template_observed is False),
    # drawn crystals that are not known ones
    "new": _each(lambda one: not one.known),
    "new_ranking_below_best": _new(_below_highest(lambda one: one.ranking_log_probability, most=20.0)),
    "new_first_draw": _new(_each(lambda one: one.draw == 0)),
    "new_log_votes": _new(_each(lambda one: _log_votes(one.votes))),
    "new_log_observed_votes": _new(_each(lambda one: _log_votes(one.observed_votes))),
    "new_numbers": _new(_each(log_probability_of_numbers)),
    "new_beside_observed": _new(_beside_observed),
    "new_hull_to_30": _new(_step(above_observed, *STEPS_EV["to_30"])),
    "new_bonds_unreasonable": _new(_each(lambda one: one.bonds_reasonable is False)),
    # known crystals
    "known": _each(lambda one: one.known),
    "observed": _each(lambda one: one.observed is True),
    "observed_unknown": _each(lambda one: one.known and one.observed is None),
    "hypothetical": _each(lambda one: one.known and one.observed is False),
    "measured": _each(lambda one: one.measured),
    "log_copies": _each(lambda one: math.log(max(len(one.source_ids), 1))),
    "later_id": later_ids,
    # the crystal itself
    "bonds_unreasonable": _each(lambda one: one.bonds_reasonable is False),
    "volume_off": _each(lambda one: 0.0 if not one.volume_ratio else abs(math.log(one.volume_ratio))),
    "log_operations": _each(lambda one: math.log(point_operations(one.space_group))),
    "log_sites": _each(lambda one: math.log(one.n_sites)),
    "log_orbits": _each(lambda one: math.log(one.n_orbits)),
    "log_free": _each(lambda one: math.log(max(one.n_free, 1))),
    # energies
    **{f"hull_{end}": _step(above_observed, *ends) for end, ends in STEPS_EV.items()},
    **{f"energy_{end}": _step(above_lowest_energy, *ends) for end, ends in STEPS_EV.items()},
    "energy_unknown": _each(lambda one: _energy(one) is None),
    "below_observed": _below_observed,
    "energy_above_best": _above_lowest(_energy, tie=TIE_EV, most=HIGHEST_EV),
    "dft_above_best": _above_lowest(lambda one: one.dft_above_hull, tie=TIE_EV, most=HIGHEST_EV),
    "dft_known": _each(lambda one: one.dft_above_hull is not None),
}
"""Name -> numbers of the candidates of one formula."""
