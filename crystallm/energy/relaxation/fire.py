"""Relaxation by FIRE in an ASE calculator: the conventional cell, all atoms free, whatever the symmetry.

Slow and simple; the relaxation that everything else is compared with. Nothing here imports torch.
"""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.cif import read_cif
from crystallm.energy.potentials.ase_potential import REFUSALS, atoms_of, calculator, energy_per_atom, refused
from crystallm.energy.potentials.judgement import LARGEST_VOLUME_RATIO
from crystallm.energy.potentials.protocol import NoEnergy
from crystallm.energy.relaxation.relaxation import RelaxationSettings, displacement_rms


@dataclass(frozen=True)
class Relaxation:
    """A structure before and after relaxation by a potential; energies in eV per atom."""

    energy_as_given: float
    energy: float
    converged: bool
    steps: int
    rmsd_angstrom: float
    """Root mean square displacement of the atoms, common drift and the change of the cell left out."""
    volume_ratio: float
    """Relaxed volume over the volume given."""
    lattice: list[list[float]]
    positions: list[list[float]]
    numbers: list[int]

    @property
    def cell(self) -> Cell:
        """The relaxed cell."""
        return Cell(np.array(self.lattice), np.array(self.positions), np.array(self.numbers, dtype=np.int64))

    def to_json(self) -> dict[str, Any]:
        """All fields as a JSON object."""
        return asdict(self)


class Relax:
    """Relaxes CIF texts; a class, so that it can be sent to a spawned process."""

    def __init__(self, settings: RelaxationSettings) -> None:
        self.settings = settings

    def __call__(self, cif: str) -> Relaxation | NoEnergy:
        cell = _prepared(cif)
        return cell if isinstance(cell, NoEnergy) else relax(cell, calculator(self.settings.potential), self.settings)


class SinglePoint:
    """Energies in eV per atom of CIF texts as they are."""

    def __init__(self, potential: str) -> None:
        self.potential = potential

    def __call__(self, cif: str) -> float | NoEnergy:
        cell = _prepared(cif)
        return cell if isinstance(cell, NoEnergy) else energy_per_atom(cell, calculator(self.potential))


def relax(cell: Cell, potential: Any, settings: RelaxationSettings) -> Relaxation | NoEnergy:
    """Relax atoms and cell by FIRE in an ASE calculator (Bitzek et al. 2006; ASE's Frechet cell filter).

    The time is not limited here: run it in a worker process.
    """
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE

    given = energy_per_atom(cell, potential)
    if isinstance(given, NoEnergy):
        return given
    atoms = atoms_of(cell)
    atoms.calc = potential
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimizer = FIRE(FrechetCellFilter(atoms), logfile=None)
            converged = False
            for reached in optimizer.irun(fmax=settings.max_force, steps=settings.max_steps):
                converged = bool(reached)
                if not 1 / LARGEST_VOLUME_RATIO < atoms.get_volume() / cell.volume < LARGEST_VOLUME_RATIO:
                    return NoEnergy("came apart while relaxing", f"volume ratio {atoms.get_volume() / cell.volume:.2g}")
            energy = float(atoms.get_potential_energy()) / len(atoms)
    except REFUSALS as error:
        return refused(potential, error)
    if not math.isfinite(energy):
        return NoEnergy("energy is not finite")
    lattice, positions = np.array(atoms.cell), np.array(atoms.get_scaled_positions(wrap=False))
    return Relaxation(
        energy_as_given=given,
        energy=energy,
        converged=converged,
        steps=int(optimizer.nsteps),
        rmsd_angstrom=displacement_rms(cell.positions, positions, lattice),
        volume_ratio=float(atoms.get_volume() / cell.volume),
        lattice=lattice.tolist(),
        positions=positions.tolist(),
        numbers=cell.numbers.tolist(),
    )


def _prepared(cif: str) -> Cell | NoEnergy:
    # One thread in each of several worker processes; it must be set before a library of the potential is loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    cell = read_cif(cif)
    return NoEnergy(str(cell.reason), cell.detail) if isinstance(cell, Rejection) else cell
