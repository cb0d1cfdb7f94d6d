"""A race of several crystals of one formula to the lowest energy: only those in reach of it are relaxed to the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from crystallm.base.errors import ConfigError
from crystallm.crystal.description import Description
from crystallm.energy.potentials.protocol import NoEnergy, Potential
from crystallm.energy.relaxation.relaxation import RelaxationSettings, Relaxed, Relaxing, Stopped, advance, begin

GAIN_FACTOR = 3.0
"""What is left of a way down is taken to gain so many times what a parabola promises. Of 36 draws of `bench relax` that
had not converged after 6 evaluations, 34 gained at most 0.05 eV/atom more than that."""


@dataclass(frozen=True, kw_only=True)
class RaceSettings:
    """When a crystal drops out of a race."""

    relaxation: RelaxationSettings = field(default_factory=RelaxationSettings)
    first_steps: int = 5
    """Steps that every crystal makes. After them the order is that of relaxed energies (Spearman 0.98)."""
    window: float = 0.05
    """eV/atom. A crystal goes on while its energy, less what the rest of its way is expected to gain, lies at most so
    far above the lowest."""
    time_limit: float = 60.0
    """Seconds for one crystal; those that are evaluated together share the time of it."""

    def __post_init__(self) -> None:
        if self.first_steps < 0:
            raise ConfigError(f"first_steps must be >= 0, got {self.first_steps}")
        if self.window < 0:
            raise ConfigError(f"the window of a race must be >= 0 eV/atom, got {self.window:g}")
        if self.time_limit <= 0:
            raise ConfigError(f"the time limit of a relaxation must be > 0 seconds, got {self.time_limit:g}")


def race(
    descriptions: Sequence[Description],
    potential: Potential,
    settings: RaceSettings | None = None,
    *,
    lowest: float = float("inf"),
    on_result: Callable[[int, Relaxed | NoEnergy], None] | None = None,
) -> list[Relaxed | NoEnergy]:
    """Relax crystals of one formula, to the end only where one may be the lowest.

    The same crystals, settings and machine give the same result, unless a limit of time was met.

    Args:
        descriptions: The crystals, all of one formula.
        potential: What `load_potential` gives.
        settings: When a crystal drops out.
        lowest: Energy in eV/atom of the lowest known crystal of the formula, which takes part without being relaxed.
        on_result: Called with place and result as soon as a crystal has ended. After Ctrl-C it is called for all that
            were under way, with what they had reached, before KeyboardInterrupt is raised.

    Returns:
        For each crystal where it ended, in order; `stopped` says whether it converged or dropped out. Energies as given
        are those of all.

    Example:
        >>> lowest = min(race(candidates, load_potential()), key=lambda found: found.energy)
    """
    found: dict[int, Relaxed | NoEnergy] = {}
    for place, result in race_results(descriptions, potential, settings, lowest=lowest):
        found[place] = result
        if on_result is not None:
            on_result(place, result)
    return [found[place] for place in range(len(descriptions))]


def race_results(
    descriptions: Sequence[Description],
    potential: Potential,
    settings: RaceSettings | None = None,
    *,
    lowest: float = float("inf"),
) -> Iterator[tuple[int, Relaxed | NoEnergy]]:
    """What `race` finds, place and result as crystals end; after Ctrl-C what all had reached, then the interrupt."""
    settings = settings or RaceSettings()
    lost: dict[int, Relaxed | NoEnergy] = {}
    active = begin(descriptions, potential, lost)
    best = lowest
    try:
        while True:
            yield from lost.items()
            lost.clear()
            best = min([best, *(one.descent.energy for one in active.values())])
            for place, one in list(active.items()):
                if (stopped := _ended(one, settings, best)) is not None:
                    del active[place]
                    yield place, one.result(stopped)
            if not active:
                return
            advance(active, potential, lost)
    except KeyboardInterrupt:
        for place, one in active.items():
            yield place, one.result(Stopped.INTERRUPTED)
        raise


def _ended(one: Relaxing, settings: RaceSettings, best: float) -> Stopped | None:
    """Why a crystal ends now, None if it goes on; best is the lowest energy of all in eV/atom."""
    if (stopped := one.stopped(settings.relaxation, settings.time_limit)) is not None:
        return stopped
    if one.descent.evaluations <= settings.first_steps:
        return None
    reach = one.descent.energy - GAIN_FACTOR * one.descent.expected_gain
    return Stopped.OUT_OF_REACH if reach > best + settings.window else None
