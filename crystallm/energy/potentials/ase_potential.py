"""Any potential with ASE's Calculator interface."""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from crystallm.crystal.cell import Cell
from crystallm.energy.potentials.judgement import judge_cell, judge_evaluation
from crystallm.energy.potentials.protocol import CHGNET, SEVENN, Evaluation, NoEnergy, identity, require

REFUSALS = (
    NotImplementedError,  # an element or property that the potential does not know
    KeyError,  # likewise, where parameters are looked up
    ValueError,  # isolated atoms, arrays of another shape once a cell has blown up
    ArithmeticError,  # distances of zero
    RuntimeError,  # what torch and compiled neighbour lists raise
    np.linalg.LinAlgError,  # a cell that has collapsed
)
"""How potentials and ASE refuse a structure; found with EMT, Lennard-Jones and chgnet on damaged crystals."""


class AsePotential:
    """A potential that is an ASE calculator.

    Args:
        name: What `load_potential` takes.

    Raises:
        ConfigError: The calculator is not installed or unknown.
    """

    def __init__(self, name: str) -> None:
        self.name = identity(name)
        self._calculator = calculator(name)

    def energies(self, cells: Sequence[Cell]) -> list[float | NoEnergy]:
        """Energies in eV/atom of cells as they are, in order."""
        return [self._energy(cell) for cell in cells]

    def evaluate(self, cell: Cell) -> Evaluation | NoEnergy:
        """Energy, forces and stress of a cell as it is."""
        if (unfit := judge_cell(cell)) is not None:
            return unfit
        atoms = atoms_of(cell)
        atoms.calc = self._calculator
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                energy = float(atoms.get_potential_energy()) / len(atoms)
                forces, stress = np.array(atoms.get_forces()), np.array(atoms.get_stress(voigt=False))
        except REFUSALS as error:
            return refused(self._calculator, error)
        return judge_evaluation(Evaluation(energy, forces, stress))

    def _energy(self, cell: Cell) -> float | NoEnergy:
        unfit = judge_cell(cell)
        return energy_per_atom(cell, self._calculator) if unfit is None else unfit


def energy_per_atom(cell: Cell, potential: Any) -> float | NoEnergy:
    """Energy of a cell in eV/atom by an ASE calculator."""
    atoms = atoms_of(cell)
    atoms.calc = potential
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            energy = float(atoms.get_potential_energy()) / len(atoms)
    except REFUSALS as error:
        return refused(potential, error)
    return energy if math.isfinite(energy) else NoEnergy("energy is not finite")


def refused(potential: Any, error: Exception) -> NoEnergy:
    """The reason that stands for an error of an ASE calculator."""
    potential.reset()  # what it kept of this structure must not reach the next one
    return NoEnergy("the potential refuses the structure", f"{type(error).__name__}: {error}"[:200])


@cache
def calculator(name: str) -> Any:
    """The ASE calculator of a potential's name; ConfigError where it is not installed or unknown."""
    require(name)
    if name == SEVENN:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return importlib.import_module("sevenn.calculator").SevenNetCalculator("7net-0", device="cpu")
    if name == CHGNET:
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


def atoms_of(cell: Cell) -> Any:
    """The ASE Atoms of a cell."""
    from ase import Atoms

    return Atoms(numbers=cell.numbers, cell=cell.lattice, scaled_positions=cell.positions, pbc=True)
