"""Relaxing crystals of files in a worker process, so that a time limit holds whatever a potential does."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crystallm.base.errors import ConfigError
from crystallm.base.workers import Lost, run_limited
from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.cif import read_cif, write_cif
from crystallm.crystal.description import Description, describe
from crystallm.crystal.symmetry import primitive, space_group_number, space_group_symbol
from crystallm.energy.analysis import CrystalEnergy, NamedCell, edition_hull, named, place
from crystallm.energy.hull.hull import HullTable, NoHull
from crystallm.energy.potentials.by_name import load_potential
from crystallm.energy.potentials.protocol import CHGNET, NoEnergy, Potential, require
from crystallm.energy.relaxation.relaxation import (
    RelaxationSettings,
    Relaxed,
    RelaxedCell,
    relax_all,
    relax_without_symmetry,
)
from crystallm.model.editions import Edition

TIGHT_ANGSTROM = 0.01
"""Tolerance of the space group that is kept: a real distortion of 0.05 angstrom is not relaxed away by symmetry."""

GAINED_ANGSTROM = 0.05
"""Tolerance of the space group after relaxing, which ends a little before the minimum."""

LOADING_S = 40.0
"""Seconds that a process may take to load a potential."""


@dataclass(frozen=True)
class RelaxedReference:
    """Energies of a reference in eV per atom before and after relaxing."""

    given: float
    energy: float
    steps: int
    converged: bool
    volume_ratio: float
    seconds: float
    """Of a processor core."""


class RelaxReferences:
    """Relaxes some CIF texts side by side; a class, so that it can be sent to a worker process."""

    def __init__(self, settings: RelaxationSettings, *, time_limit: float) -> None:
        """time_limit: seconds for one crystal; those that take longer keep the energy that they have reached."""
        self.settings = settings
        self.time_limit = time_limit

    def __call__(self, cifs: Sequence[str]) -> list[RelaxedReference | NoEnergy]:
        potential, start = _potential(self.settings.potential), time.process_time()
        found = relax_cells([read_cif(text) for text in cifs], potential, self.settings, time_limit=self.time_limit)
        each = (time.process_time() - start) / max(len(cifs), 1)
        return [
            one
            if isinstance(one, NoEnergy)
            else RelaxedReference(
                one.energy_as_given,
                one.energy,
                one.steps,
                one.stopped.value == "converged",
                round(one.volume_ratio, 4),
                round(each, 3),
            )
            for one in found
        ]


def relax_cells(
    cells: Sequence[Cell | Rejection],
    potential: Potential,
    settings: RelaxationSettings,
    *,
    time_limit: float,
    symprec_angstrom: float = TIGHT_ANGSTROM,
) -> list[Relaxed | RelaxedCell | NoEnergy]:
    """Relax cells side by side in the space groups that they have; those without a description with all atoms free.

    Args:
        cells: What was read; a refusal stays one.
        potential: What `load_potential` gives.
        settings: Largest force, number of steps.
        time_limit: Seconds from the start after which each stops where it is.
        symprec_angstrom: Tolerance of the space group that is kept.
    """
    found: dict[int, Relaxed | RelaxedCell | NoEnergy] = {}
    described: dict[int, Description] = {}
    free: dict[int, Cell] = {}
    for number, cell in enumerate(cells):
        if isinstance(cell, Rejection):
            found[number] = NoEnergy(str(cell.reason), cell.detail)
            continue
        description = describe(cell, symprec_angstrom=symprec_angstrom)
        if isinstance(description, Rejection):
            free[number] = primitive(cell)
        else:
            described[number] = description
    relaxed = relax_all(list(described.values()), potential, settings, time_limit=time_limit)
    found.update(zip(described, relaxed, strict=True))
    for number, cell in free.items():
        found[number] = relax_without_symmetry(cell, potential, settings, time_limit=time_limit)
    return [found[number] for number in range(len(cells))]


def _potential(name: str) -> Potential:
    # One thread in each of several worker processes; it must be set before a library of the potential is loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return load_potential(name)


@dataclass(frozen=True, eq=False)
class RelaxedCrystal:
    """A crystal before and after relaxing."""

    name: str
    after: CrystalEnergy
    """Of the relaxed crystal, with the reason where there is none."""
    energy_before: float | None = None
    """eV per atom, as given."""
    volume_ratio: float | None = None
    """Relaxed volume over the volume given."""
    space_group: int | None = None
    """International Tables number that was kept."""
    gained_space_group: int | None = None
    """The number at 0.05 angstrom where relaxing made it another one."""
    converged: bool = False
    steps: int = 0
    cell: Cell | None = None
    cif: str = ""

    @property
    def symmetry(self) -> str:
        """`P4_2/mnm kept`, `R-3m, now Fm-3m`."""
        if self.space_group is None:
            return "-"
        symbol = space_group_symbol(self.space_group)
        gained = self.gained_space_group
        return f"{symbol} kept" if gained is None else f"{symbol}, now {space_group_symbol(gained)}"

    def to_json(self) -> dict[str, Any]:
        """All fields but the crystal as a JSON object; energies in eV per atom."""
        rest = ("cell", "cif", "after", "name")
        return self.after.to_json() | {key: value for key, value in vars(self).items() if key not in rest}


def relax(
    crystals: Sequence[Cell | Path | str],
    *,
    potential: str = CHGNET,
    edition: Edition = "full",
    hull: HullTable | None = None,
    max_force: float = 0.05,
    max_steps: int = 300,
    time_limit: float = 120.0,
    symprec_angstrom: float = TIGHT_ANGSTROM,
) -> list[RelaxedCrystal]:
    """Relax crystals, cell and coordinates, keeping the space groups that they have.

    Args:
        crystals: Cells, CIF files, or folders of CIFs.
        potential: `chgnet`, `sevenn`, or `package.module:callable` that returns an ASE calculator.
        edition: Whose known crystals make the hull, `full` or `benchmark`.
        hull: Another table than the edition's.
        max_force: eV/angstrom, largest component at which a relaxation ends.
        max_steps: Steps of one relaxation at most.
        time_limit: Seconds for one crystal at most.
        symprec_angstrom: Tolerance of the space group that is kept.

    Returns:
        One for each crystal, in order: cell, CIF, energies in eV per atom before and after; a reason where there is
        none.

    Raises:
        ConfigError: The potential is not installed, or a limit is not above 0.
        InputError: A file does not exist.
        CheckpointError: The table is damaged.

    Example:
        >>> import numpy as np
        >>> from crystallm import Cell, relax
        >>> copper = Cell((1 - np.eye(3)) * 1.9, np.zeros((1, 3)), np.array([29]))  # a = 3.8 angstrom, too large
        >>> (found,) = relax([copper], potential="ase.calculators.emt:EMT")
        >>> found.symmetry, found.converged, round((4 * found.cell.volume / len(found.cell)) ** (1 / 3), 2)
        ('Fm-3m kept', True, 3.59)
    """
    require(potential)
    settings = RelaxationSettings(potential=potential, max_force=max_force, max_steps=max_steps)
    table = edition_hull(edition) if hull is None else hull
    return list(
        relax_crystals(named(crystals), table, settings, time_limit=time_limit, symprec_angstrom=symprec_angstrom)
    )


class _RelaxOne:
    """Relaxes one cell in a worker process."""

    def __init__(self, settings: RelaxationSettings, *, time_limit: float, symprec_angstrom: float) -> None:
        self.settings, self.time_limit, self.symprec_angstrom = settings, time_limit, symprec_angstrom

    def __call__(self, arrays: tuple[Any, Any, Any]) -> tuple[str, Relaxed | RelaxedCell | NoEnergy]:
        potential = _potential(self.settings.potential)
        (found,) = relax_cells(
            [Cell(*arrays)],
            potential,
            self.settings,
            time_limit=self.time_limit,
            symprec_angstrom=self.symprec_angstrom,
        )
        return potential.name, found


def relax_crystals(
    crystals: Sequence[NamedCell],
    hull: HullTable | NoHull,
    settings: RelaxationSettings,
    *,
    time_limit: float = 120.0,
    symprec_angstrom: float = TIGHT_ANGSTROM,
) -> Generator[RelaxedCrystal, None, None]:
    """Relax crystals one after the other in a process that is ended where a potential hangs; in order.

    Args:
        crystals: What `read_crystals` gives.
        hull: What the relaxed energies are compared with.
        settings: Potential, largest force, number of steps.
        time_limit: Seconds for one crystal; it then stays where it is, and is not converged.
        symprec_angstrom: Tolerance of the space group that is kept.
    """
    if time_limit <= 0 or symprec_angstrom <= 0:
        raise ConfigError(f"time_limit {time_limit:g} s and symprec {symprec_angstrom:g} angstrom must be above 0")
    readable = [one for one in crystals if isinstance(one.cell, Cell)]
    function = _RelaxOne(settings, time_limit=time_limit, symprec_angstrom=symprec_angstrom)
    arrays = (
        (one.cell.lattice, one.cell.positions, one.cell.numbers) for one in readable if isinstance(one.cell, Cell)
    )
    calls = run_limited(function, arrays, workers=1, time_limit_s=2 * time_limit + LOADING_S)
    for one in crystals:
        if isinstance(one.cell, Rejection):
            yield RelaxedCrystal(one.name, CrystalEnergy(one.name, "", 0, settings.potential, reason=str(one.cell)))
            continue
        _, outcome = next(calls)
        potential, found = outcome if isinstance(outcome, tuple) else (settings.potential, outcome)
        if isinstance(found, Lost):
            found = NoEnergy(str(found.fate), found.detail)
        yield _relaxed_crystal(one.name, one.cell, found, potential, hull)


def _relaxed_crystal(
    name: str, given: Cell, found: Relaxed | RelaxedCell | NoEnergy, potential: str, hull: HullTable | NoHull
) -> RelaxedCrystal:
    if isinstance(found, NoEnergy):
        return RelaxedCrystal(name, place(name, given, found, potential, hull))
    return RelaxedCrystal(
        name,
        place(name, given, found.energy, potential, hull),
        energy_before=found.energy_as_given,
        volume_ratio=found.volume_ratio,
        space_group=found.after.space_group if isinstance(found, Relaxed) else 1,
        gained_space_group=_gained(found),
        converged=found.stopped.value == "converged",
        steps=found.steps,
        cell=found.cell,
        cif=write_cif(found.after) if isinstance(found, Relaxed) else p1_cif(found.cell),
    )


def _gained(found: Relaxed | RelaxedCell) -> int | None:
    """The space group that relaxing has made of the one that was kept, None where it is still that one."""
    after = space_group_number(found.cell, symprec_angstrom=GAINED_ANGSTROM)
    kept = found.after.space_group if isinstance(found, Relaxed) else 1
    return None if after in (None, kept) else after


def p1_cif(cell: Cell) -> str:
    """A CIF that lists all atoms of a cell under P 1."""
    from pymatgen.io.cif import CifWriter

    return str(CifWriter(cell.to_structure()))
