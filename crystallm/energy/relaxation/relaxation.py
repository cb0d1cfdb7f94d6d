"""Relaxation that keeps the space group, over nothing but what it leaves free."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from crystallm.base.errors import ConfigError
from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.description import Description, describe, expand
from crystallm.crystal.symmetry import FIRST_CUBIC, space_group_number, standardize_number
from crystallm.energy.potentials import PotentialName
from crystallm.energy.potentials.derivatives import Derivatives, derivatives_of, energies_of
from crystallm.energy.potentials.judgement import LARGEST_VOLUME_RATIO, judge_relaxed
from crystallm.energy.potentials.orbits import with_symmetry, without_symmetry
from crystallm.energy.potentials.protocol import CHGNET, NoEnergy, Potential
from crystallm.energy.relaxation.descent import Descent
from crystallm.energy.relaxation.free_parameters import FreeParameters, described, free_parameters


@dataclass(frozen=True, kw_only=True)
class RelaxationSettings:
    """How structures are relaxed; part of the key under which energies are kept."""

    potential: PotentialName = CHGNET
    """`chgnet`, `sevenn`, or `package.module:callable` that returns an ASE calculator."""
    max_force: float = 0.05
    """Largest component-wise force in eV/angstrom, cell included, at which a relaxation has converged."""
    max_steps: int = 300
    """Steps of the optimiser; a structure not converged by then keeps its last energy, and is counted."""

    def __post_init__(self) -> None:
        if self.max_force <= 0:
            raise ConfigError(f"max_force must be > 0 eV/angstrom, got {self.max_force:g}")
        if self.max_steps < 1:
            raise ConfigError(f"max_steps must be >= 1, got {self.max_steps}")


class Stopped(StrEnum):
    """Why a relaxation ended."""

    CONVERGED = "converged"
    STEPS = "limit of steps"
    TIME = "limit of time"
    NO_DESCENT = "no lower point found"
    OUT_OF_REACH = "out of reach of the lowest"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Relaxed:
    """A crystal before and after relaxation by a potential; energies in eV/atom."""

    before: Description
    after: Description
    """In the same space group and on the same Wyckoff letters."""
    energy_as_given: float
    energy: float
    stopped: Stopped
    steps: int
    evaluations: int
    rmsd_angstrom: float
    """Root mean square displacement of the atoms, common drift and the change of the cell left out."""
    volume_ratio: float
    """Relaxed volume over the volume given."""
    largest_force: float
    """eV/angstrom, cell included."""
    gained_space_group: int | None = None
    """What the relaxed crystal has at the project's tolerance, where that is another group than the one kept."""

    @property
    def converged(self) -> bool:
        """Whether the forces fell below the limit."""
        return self.stopped is Stopped.CONVERGED

    @property
    def cell(self) -> Cell:
        """The relaxed conventional cell."""
        return expand(self.after)


@dataclass(frozen=True)
class RelaxedCell:
    """A cell before and after relaxation, all its atoms in the order given; see `Relaxed` for the other fields."""

    cell: Cell
    energy_as_given: float
    energy: float
    stopped: Stopped
    steps: int
    evaluations: int
    rmsd_angstrom: float
    volume_ratio: float
    largest_force: float


class Relaxing:
    """One crystal on its way down: what it was, and how far it has come."""

    def __init__(self, description: Description, parameters: FreeParameters, first: Derivatives) -> None:
        self.description = description
        self.parameters = parameters
        self.energy_as_given = first.energy / len(parameters.given.numbers)
        self.descent = Descent(parameters, first)
        self.seconds = 0.0

    def stopped(self, settings: RelaxationSettings, time_limit: float) -> Stopped | None:
        """Why it has ended, None while it goes on."""
        if self.descent.largest_force < settings.max_force:
            return Stopped.CONVERGED
        if self.descent.stuck is not None:
            return Stopped.NO_DESCENT
        if self.descent.steps >= settings.max_steps:
            return Stopped.STEPS
        return Stopped.TIME if self.seconds > time_limit else None

    @property
    def volume_ratio(self) -> float:
        """Volume now over the volume given."""
        return self.descent.crystal.cell.volume / self.parameters.given.cell.volume

    @property
    def lost(self) -> NoEnergy | None:
        """Why what was reached is no crystal any more."""
        if not 1 / LARGEST_VOLUME_RATIO < (ratio := self.volume_ratio) < LARGEST_VOLUME_RATIO:
            return NoEnergy("came apart while relaxing", f"volume ratio {ratio:.2g}")
        return None

    def result(self, stopped: Stopped) -> Relaxed | NoEnergy:
        """What is known when it stops for a reason."""
        descent, given = self.descent, self.parameters.given
        unfit = self.lost or judge_relaxed(descent.energy, descent.largest_force)
        if unfit is not None:
            return unfit
        after = described(self.description, self.parameters, descent.values)
        crystal = descent.crystal
        return Relaxed(
            before=self.description,
            after=after,
            energy_as_given=self.energy_as_given,
            energy=descent.energy,
            stopped=stopped,
            steps=descent.steps,
            evaluations=descent.evaluations,
            rmsd_angstrom=displacement_rms(given.positions, crystal.positions, crystal.lattice),
            volume_ratio=self.volume_ratio,
            largest_force=descent.largest_force,
            gained_space_group=_other_space_group(after),
        )


def energies_as_given(descriptions: Sequence[Description], potential: Potential) -> list[float | NoEnergy]:
    """Energies of crystals as they are, computed once for what symmetry makes equal.

    Args:
        descriptions: The crystals, of any formulas.
        potential: What `load_potential` gives.

    Returns:
        For each crystal its energy in eV/atom, or the reason why there is none; in order.

    Example:
        >>> energies_as_given([rutile, anatase], load_potential())
        [-9.389, -9.424]
    """
    return energies_of(potential, [with_symmetry(description) for description in descriptions])


def relax(
    description: Description,
    potential: Potential,
    settings: RelaxationSettings | None = None,
    *,
    time_limit: float = float("inf"),
) -> Relaxed | NoEnergy:
    """Relax cell and coordinates of a crystal, its space group and Wyckoff letters kept.

    Args:
        description: The crystal; its free cell parameters and free coordinates change.
        potential: What `load_potential` gives.
        settings: Largest force and number of steps; which potential they name does not matter here.
        time_limit: Seconds in the potential after which the relaxation stops where it is.

    Returns:
        The crystal before and after, or the reason why there is no energy.

    Example:
        >>> rutile = describe(read_cif(text))
        >>> relax(rutile, load_potential("chgnet")).volume_ratio
        1.02
    """
    (found,) = relax_all([description], potential, settings, time_limit=time_limit)
    return found


def relax_all(
    descriptions: Sequence[Description],
    potential: Potential,
    settings: RelaxationSettings | None = None,
    *,
    time_limit: float = float("inf"),
) -> list[Relaxed | NoEnergy]:
    """Relax several crystals side by side, which is faster than one after the other.

    Args:
        descriptions: The crystals, of any formulas.
        potential: What `load_potential` gives.
        settings: Largest force and number of steps.
        time_limit: Seconds for each; those that are evaluated together share the time of it.

    Returns:
        For each crystal what `relax` returns, in order.
    """
    settings = settings or RelaxationSettings()
    found: dict[int, Relaxed | NoEnergy] = {}
    active = begin(descriptions, potential, found)
    while active:
        for place, one in list(active.items()):
            if (stopped := one.stopped(settings, time_limit)) is not None:
                found[place] = one.result(stopped)
                del active[place]
        advance(active, potential, found)
    return [found[place] for place in range(len(descriptions))]


def begin(
    descriptions: Sequence[Description], potential: Potential, found: dict[int, Relaxed | NoEnergy]
) -> dict[int, Relaxing]:
    """Crystals at the start of their relaxation, by place; those without an energy go into `found`."""
    parameters = [free_parameters(with_symmetry(description)) for description in descriptions]
    active: dict[int, Relaxing] = {}
    for place, first in enumerate(derivatives_of(potential, [p.given for p in parameters])):
        if isinstance(first, NoEnergy):
            found[place] = first
        else:
            active[place] = Relaxing(descriptions[place], parameters[place], first)
    return active


def advance(active: dict[int, Relaxing], potential: Potential, found: dict[int, Relaxed | NoEnergy]) -> None:
    """One evaluation of every active crystal; those that come apart go into `found`."""
    began = time.monotonic()
    trials = [one.descent.trial for one in active.values()]
    told = derivatives_of(potential, trials)
    share = (time.monotonic() - began) / max(len(active), 1)
    for (place, one), answer in zip(list(active.items()), told, strict=True):
        one.seconds += share
        one.descent.tell(answer)
        if (lost := one.lost) is not None:
            found[place] = lost
            del active[place]


def relax_cell(
    cell: Cell,
    potential: Potential,
    settings: RelaxationSettings | None = None,
    *,
    time_limit: float = float("inf"),
) -> Relaxed | RelaxedCell | NoEnergy:
    """Relax a cell: in the space group that it has at the project's tolerance, else with every atom free.

    Args:
        cell: Any periodic cell; it need not be primitive or in a standard setting.
        potential: What `load_potential` gives.
        settings: Largest force and number of steps.
        time_limit: Seconds after which the relaxation stops where it is.

    Returns:
        `Relaxed` with descriptions where symmetry was found; `RelaxedCell` where none could be.
    """
    description = describe(cell)
    if not isinstance(description, Rejection):
        return relax(description, potential, settings, time_limit=time_limit)
    return relax_without_symmetry(cell, potential, settings, time_limit=time_limit)


def relax_without_symmetry(
    cell: Cell,
    potential: Potential,
    settings: RelaxationSettings | None = None,
    *,
    time_limit: float = float("inf"),
) -> RelaxedCell | NoEnergy:
    """Relax a cell with every atom and all six cell parameters free; arguments as for `relax_cell`."""
    settings = settings or RelaxationSettings()
    parameters = free_parameters(without_symmetry(cell))
    (first,) = derivatives_of(potential, [parameters.given])
    if isinstance(first, NoEnergy):
        return first
    one = Relaxing(_NOT_DESCRIBED, parameters, first)
    lost: dict[int, Relaxed | NoEnergy] = {}
    while (stopped := one.stopped(settings, time_limit)) is None:
        advance({0: one}, potential, lost)
        if isinstance(reason := lost.get(0), NoEnergy):
            return reason
    descent, crystal = one.descent, one.descent.crystal
    if (unfit := judge_relaxed(descent.energy, descent.largest_force)) is not None:
        return unfit
    return RelaxedCell(
        cell=crystal.cell,
        energy_as_given=one.energy_as_given,
        energy=descent.energy,
        stopped=stopped,
        steps=descent.steps,
        evaluations=descent.evaluations,
        rmsd_angstrom=displacement_rms(cell.positions, crystal.positions, crystal.lattice),
        volume_ratio=one.volume_ratio,
        largest_force=descent.largest_force,
    )


def displacement_rms(before: NDArray[np.float64], after: NDArray[np.float64], lattice: NDArray[np.float64]) -> float:
    """Root mean square displacement in angstrom between fractional positions (N, 3), taken in the cell `lattice`.

    Both list the same atoms in the same order, not wrapped; a drift of all atoms together does not count.
    """
    moved = after - before
    cartesian = (moved - moved.mean(axis=0)) @ lattice
    return float(np.sqrt((cartesian**2).sum(axis=1).mean()))


_NOT_DESCRIBED = Description((), 0, 1, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0), ())


def _other_space_group(description: Description) -> int | None:
    # As in `has_space_group`: spglib is slow for cubic groups, moyopy may hang for odd cells of the others.
    find = standardize_number if description.space_group >= FIRST_CUBIC else space_group_number
    found = find(expand(description))
    return None if found == description.space_group else found
