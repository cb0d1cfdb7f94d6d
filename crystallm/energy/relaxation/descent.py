"""Quasi-Newton descent over the free parameters of one crystal, one evaluation at a time.

It proposes a crystal and is told what a potential says of it, so that several crystals can be evaluated together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crystallm.energy.potentials.derivatives import Derivatives
from crystallm.energy.potentials.orbits import SymmetricCrystal
from crystallm.energy.potentials.protocol import NoEnergy
from crystallm.energy.relaxation.free_parameters import FreeParameters
from crystallm.energy.relaxation.springs import spring_hessian

LONGEST_MOVE = 0.25
"""Angstrom that an atom moves in one step at most."""

LARGEST_STRAIN = 0.08
"""Strain of one step at most."""

SHARE_OF_DESCENT = 1e-4
"""A step is taken when the energy falls by this share of what its slope promises (Armijo)."""

NOISE = 2e-6
"""eV/atom; single precision does not tell energies apart that are closer."""

SHORTEST_STEP = 1e-3
"""A step cut to less of what was proposed is given up."""

DAMPING = 0.2
"""Least curvature along a step as a share of what was expected (Powell), so that the Hessian stays positive."""


class Descent:
    """The state of one relaxation. `trial` is evaluated by whoever holds the potential, then `tell` is called."""

    def __init__(self, parameters: FreeParameters, first: Derivatives) -> None:
        self.parameters = parameters
        self.values = np.zeros(len(parameters))
        self.derivatives = first
        self.steps = 0
        self.evaluations = 1
        self.stuck: NoEnergy | None = None
        self._atoms = len(parameters.given.numbers)
        self._slope = parameters.slope(first, self.values)
        self._hessian = spring_hessian(parameters)
        self._step = self._newton()
        self._cut = 1.0

    @property
    def energy(self) -> float:
        """eV/atom at the last accepted point."""
        return self.derivatives.energy / self._atoms

    @property
    def crystal(self) -> SymmetricCrystal:
        """The crystal at the last accepted point."""
        return self.parameters.crystal(self.values)

    @property
    def largest_force(self) -> float:
        """Largest component in eV/angstrom of the forces on atoms, and of the force on the cell.

        The latter as ASE's FrechetCellFilter has it: volume times stress over the number of atoms.
        """
        forces = self.derivatives.forces(self.crystal)
        return float(max(np.abs(forces).max(), np.abs(self.derivatives.strain).max() / self._atoms))

    @property
    def expected_gain(self) -> float:
        """eV/atom that the rest of the descent gains if the energy is a parabola."""
        return float(0.5 * self._slope @ np.linalg.solve(self._hessian, self._slope)) / self._atoms

    @property
    def trial(self) -> SymmetricCrystal:
        """The crystal whose derivatives are wanted next."""
        return self.parameters.crystal(self.values + self._cut * self._step)

    def tell(self, found: Derivatives | NoEnergy) -> None:
        """What the potential says of the trial: go there, or try a shorter step."""
        self.evaluations += 1
        if isinstance(found, NoEnergy):
            self._shorten(0.25, found)
            return
        step = self._cut * self._step
        slope = self.parameters.slope(found, self.values + step)
        promised = float(self._slope @ step)
        change = found.energy - self.derivatives.energy
        self._learn(step, slope - self._slope)
        if change <= SHARE_OF_DESCENT * promised + NOISE * self._atoms:
            self.values, self.derivatives, self._slope = self.values + step, found, slope
            self.steps += 1
            self._step, self._cut = self._newton(), 1.0
            return
        # The lowest point of the parabola through what is known along the step.
        self._shorten(float(np.clip(-promised / (2 * (change - promised)), 0.1, 0.5)), None)

    def _shorten(self, share: float, reason: NoEnergy | None) -> None:
        self._cut *= share
        if self._cut < SHORTEST_STEP:
            self.stuck = reason or NoEnergy("no lower point found")

    def _newton(self) -> NDArray[np.float64]:
        step = np.asarray(-np.linalg.solve(self._hessian, self._slope), dtype=np.float64)
        strains = len(self.parameters.strains)
        strain = np.abs(self.parameters.strain(step)).max(initial=0.0)
        move = np.zeros((len(self.parameters.given.first), 3))
        moves = step[strains:, None] * (self.parameters.directions @ self.parameters.given.lattice)
        np.add.at(move, self.parameters.orbit, moves)
        longest = np.linalg.norm(move, axis=1).max(initial=0.0)
        return np.asarray(step / max(1.0, strain / LARGEST_STRAIN, longest / LONGEST_MOVE))

    def _learn(self, step: NDArray[np.float64], change: NDArray[np.float64]) -> None:
        """Damped BFGS update of the Hessian (Nocedal and Wright, Numerical Optimization, procedure 18.2)."""
        expected = self._hessian @ step
        curvature, along = float(step @ expected), float(step @ change)
        if curvature <= 0:
            return
        if along < DAMPING * curvature:
            share = (1 - DAMPING) * curvature / (curvature - along)
            change = share * change + (1 - share) * expected
            along = float(step @ change)
        self._hessian = self._hessian - np.outer(expected, expected) / curvature + np.outer(change, change) / along
