"""Trials of a search: relaxed side by side while they may become the lowest, within a budget of evaluations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from crystallm.crystal.description import Description, Site
from crystallm.energy.potentials.protocol import NoEnergy, Potential
from crystallm.energy.relaxation.race import GAIN_FACTOR
from crystallm.energy.relaxation.relaxation import RelaxationSettings, Relaxed, Relaxing, Stopped, advance, begin
from crystallm.sample.answers.search.kicks import volume_per_atom

FIRST_STEPS = 4
"""Steps that every trial makes."""

WINDOW_EV = 0.02
"""A trial goes on while its energy, less three times what a parabola promises, lies at most so far above the lowest."""

HOPELESS_EV = 0.5
"""The same after the first step already."""

NEARLY_DOWN_EV = 0.001
"""eV/atom that a trial may still gain when it is compared with the crystals known."""

MOST_STEPS = 80
"""Steps of one trial."""

TIME_LIMIT_S = 120.0
"""Seconds for one trial; a potential that hangs is not waited for."""

DOWN = {stopped.value: stopped for stopped in (Stopped.CONVERGED, Stopped.STEPS, Stopped.NO_DESCENT)}
"""Ends of trials whose crystal is kept."""

Known = Callable[[float, float], bool]
"""Whether a crystal of this energy (eV/atom) and volume (cubic angstrom per atom) is known."""


@dataclass(frozen=True)
class Proposal:
    """A crystal to be tried, and the move that made it."""

    number: int
    move: str
    description: Description


@dataclass(frozen=True)
class Trial:
    """How a proposal ended; energies in eV per atom."""

    number: int
    move: str
    ended: str
    """`converged`, or why it ended before."""
    evaluations: int
    cost: int
    """Evaluations times sites: what one takes grows with the sites that symmetry does not make equal."""
    energy: float | None = None
    as_given: float | None = None
    volume_ratio: float | None = None
    description: Description | None = None
    """Where it converged; None where it did not."""
    gained: int | None = None
    """The space group that it has at the project's tolerance, where that is another one."""

    def to_json(self) -> dict[str, Any]:
        """A line of the journal."""
        values = dict(vars(self))
        values["description"] = None if self.description is None else packed(self.description)
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Trial:
        """What `to_json` wrote."""
        described = values["description"]
        return cls(**{**values, "description": None if described is None else unpacked(described)})


def packed(description: Description) -> list[Any]:
    """A description as JSON holds it, without loss."""
    sites = [[site.element, site.letter, list(site.free)] for site in description.sites]
    amounts = [list(pair) for pair in description.amounts]
    return [amounts, description.formula_units, description.space_group, list(description.cell), sites]


def unpacked(values: Sequence[Any]) -> Description:
    """The description that `packed` gave."""
    amounts, units, number, cell, sites = values
    a, b, c, alpha, beta, gamma = cell
    return Description(
        tuple((symbol, amount) for symbol, amount in amounts),
        units,
        number,
        (a, b, c, alpha, beta, gamma),
        tuple(Site(element, letter, tuple(free)) for element, letter, free in sites),
    )


def race_trials(
    proposals: Sequence[Proposal], potential: Potential, *, lowest: float, room: int, known: Known
) -> list[Trial]:
    """Relax proposals side by side.

    Args:
        proposals: of one formula.
        potential: what `load_potential` gives.
        lowest: eV/atom that a trial has to come near.
        room: evaluations that may be spent; proposals beyond it are left out.
        known: tells crystals that were found before; a trial that comes to one ends.

    Returns:
        A trial for each proposal that was begun, in order.
    """
    proposals = proposals[:room]
    settings = RelaxationSettings(max_steps=MOST_STEPS)
    found: dict[int, Relaxed | NoEnergy] = {}
    ended: dict[int, Trial] = {}
    active = begin([one.description for one in proposals], potential, found)
    running = dict(active)
    spent = len(proposals)
    while True:
        for place, lost in found.items():
            assert isinstance(lost, NoEnergy)
            ended[place] = _lost(proposals[place], running.get(place), lost.reason)
        found.clear()
        for place, one in list(active.items()):
            if (reason := _ended(one, settings, lowest, known)) is not None:
                ended[place] = _trial(proposals[place], one, reason)
                del active[place]
        if not active:
            break
        if spent + len(active) > room:
            ended |= {place: _trial(proposals[place], one, "no evaluations left") for place, one in active.items()}
            break
        spent += len(active)
        advance(active, potential, found)
    return [ended[place] for place in range(len(proposals))]


def _ended(one: Relaxing, settings: RelaxationSettings, lowest: float, known: Known) -> str | None:
    if (stopped := one.stopped(settings, TIME_LIMIT_S)) is not None:
        return stopped.value
    if one.descent.evaluations < 2:
        return None
    gain = one.descent.expected_gain
    above = one.descent.energy - GAIN_FACTOR * gain - lowest
    if above > HOPELESS_EV or (above > WINDOW_EV and one.descent.evaluations > FIRST_STEPS):
        return "out of reach"
    if one.descent.evaluations <= FIRST_STEPS:
        return None
    if gain < NEARLY_DOWN_EV and known(one.descent.energy, _volume(one)):
        return "known"
    return None


def _volume(one: Relaxing) -> float:
    """Cubic angstrom per atom now."""
    return volume_per_atom(one.description) * one.volume_ratio


def _trial(proposal: Proposal, one: Relaxing, reason: str) -> Trial:
    evaluations = one.descent.evaluations
    cost = evaluations * len(proposal.description.sites)
    energy = float(one.descent.energy)
    trial = Trial(proposal.number, proposal.move, reason, evaluations, cost, energy, float(one.energy_as_given))
    if reason not in DOWN:
        return trial
    result = one.result(DOWN[reason])
    if isinstance(result, NoEnergy):
        return _lost(proposal, one, result.reason)
    return Trial(
        **{
            **vars(trial),
            "description": result.after,
            "volume_ratio": float(result.volume_ratio),
            "gained": result.gained_space_group,
        }
    )


def _lost(proposal: Proposal, one: Relaxing | None, reason: str) -> Trial:
    evaluations = 1 if one is None else one.descent.evaluations
    return Trial(proposal.number, proposal.move, reason, evaluations, evaluations * len(proposal.description.sites))
