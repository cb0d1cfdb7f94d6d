"""Energies and relaxed structures by any potential with ASE's Calculator interface; chgnet is the default.

Nothing here imports torch; chgnet does, when it is asked for, in the worker processes.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import math
import os
import warnings
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.cif import read_cif
from crystallm.errors import ConfigError

CHGNET = "chgnet"
"""Deng et al., Nature Machine Intelligence 5, 1031 (2023); weights (0.3.0) travel in its wheel; BSD-3 licence."""

LARGEST_VOLUME_RATIO = 4.0
"""A crystal that swells by more has come apart; a smaller or larger cell is outside what a potential was fitted to."""


@dataclass(frozen=True, kw_only=True)
class RelaxationSettings:
    """How structures are relaxed; part of the key under which energies are kept."""

    potential: str = CHGNET
    """`chgnet`, or `package.module:callable` that returns an ASE calculator with energy, forces and stress."""
    max_force: float = 0.05
    """Largest component-wise force in eV/angstrom, cell included, at which a relaxation has converged."""
    max_steps: int = 300
    """Steps of the optimiser (FIRE); a structure not converged by then keeps its last energy, and is counted."""

    def __post_init__(self) -> None:
        if self.max_force <= 0:
            raise ConfigError(f"max_force must be > 0 eV/angstrom, got {self.max_force:g}")
        if self.max_steps < 1:
            raise ConfigError(f"max_steps must be >= 1, got {self.max_steps}")


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


@dataclass(frozen=True)
class NoEnergy:
    """Why the potential gave no energy; `reason` is short and countable."""

    reason: str
    detail: str = ""


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


def energy_per_atom(cell: Cell, potential: Any) -> float | NoEnergy:
    """Energy of a cell in eV per atom by an ASE calculator."""
    atoms = _atoms(cell)
    atoms.calc = potential
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            energy = float(atoms.get_potential_energy()) / len(atoms)
    except _REFUSALS as error:
        return _refused(potential, error)
    return energy if math.isfinite(energy) else NoEnergy("energy is not finite")


def relax(cell: Cell, potential: Any, settings: RelaxationSettings) -> Relaxation | NoEnergy:
    """Relax atoms and cell by FIRE in an ASE calculator (Bitzek et al. 2006; ASE's Frechet cell filter).

    The time is not limited here: run it in a worker process.
    """
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE

    given = energy_per_atom(cell, potential)
    if isinstance(given, NoEnergy):
        return given
    atoms = _atoms(cell)
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
    except _REFUSALS as error:
        return _refused(potential, error)
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


def displacement_rms(before: NDArray[np.float64], after: NDArray[np.float64], lattice: NDArray[np.float64]) -> float:
    """Root mean square displacement in angstrom between fractional positions (N, 3), taken in the cell `lattice`.

    Both list the same atoms in the same order, not wrapped; a drift of all atoms together does not count.
    """
    moved = after - before
    cartesian = (moved - moved.mean(axis=0)) @ lattice
    return float(np.sqrt((cartesian**2).sum(axis=1).mean()))


@cache
def calculator(name: str) -> Any:
    """The ASE calculator of a potential's name; ConfigError where it is not installed or unknown."""
    if name == CHGNET:
        require(name)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # it greets on stdout
            warnings.simplefilter("ignore")
            dynamics = importlib.import_module("chgnet.model.dynamics")
            return _without_needless_work(dynamics.CHGNetCalculator)(on_isolated_atoms="error")
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)()


def _without_needless_work(chgnet_calculator: Any) -> Any:
    """chgnet's calculator, which otherwise differentiates for forces and magnetic moments when asked for an energy.

    A single point takes a third of the time.
    """

    def calculate(self: Any, atoms: Any = None, properties: Any = None, system_changes: Any = None) -> None:
        energy_alone = properties is not None and set(properties) <= {"energy", "free_energy"}
        chgnet_calculator.calculate(self, atoms, properties, system_changes, task="e" if energy_alone else "efs")

    return type("CHGNetCalculator", (chgnet_calculator,), {"calculate": calculate})


def require(name: str) -> None:
    """Raise ConfigError, naming the remedy, unless the potential `name` is installed."""
    if name == CHGNET:
        if importlib.util.find_spec("chgnet") is None:
            raise ConfigError("the potential chgnet is not installed; run `pip install crystallm[energy]`")
        return
    module, colon, attribute = name.partition(":")
    if not colon or not attribute:
        raise ConfigError(f"unknown potential {name!r}; give chgnet or package.module:callable")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise ConfigError(f"cannot import the potential {name!r}: {error}; install its package") from error
    if not callable(found):
        raise ConfigError(f"{module} has no callable {attribute!r}; give package.module:callable")


def identity(name: str) -> str:
    """Name and version of the package a potential comes from: energies of different versions are not mixed."""
    package = CHGNET if name == CHGNET else name.partition(".")[0].partition(":")[0]
    try:
        return f"{name} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return name


_REFUSALS = (
    NotImplementedError,  # an element or property that the potential does not know
    KeyError,  # likewise, where parameters are looked up
    ValueError,  # isolated atoms, arrays of another shape once a cell has blown up
    ArithmeticError,  # distances of zero
    RuntimeError,  # what torch and compiled neighbour lists raise
    np.linalg.LinAlgError,  # a cell that has collapsed
)
"""How potentials and ASE refuse a structure; found with EMT, Lennard-Jones and chgnet on damaged crystals."""


def _refused(potential: Any, error: Exception) -> NoEnergy:
    potential.reset()  # what it kept of this structure must not reach the next one
    return NoEnergy("the potential refuses the structure", f"{type(error).__name__}: {error}"[:200])


def _prepared(cif: str) -> Cell | NoEnergy:
    # One thread in each of several worker processes; it must be set before a library of the potential is loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    cell = read_cif(cif)
    return NoEnergy(str(cell.reason), cell.detail) if isinstance(cell, Rejection) else cell


def _atoms(cell: Cell) -> Any:
    from ase import Atoms

    return Atoms(numbers=cell.numbers, cell=cell.lattice, scaled_positions=cell.positions, pbc=True)
