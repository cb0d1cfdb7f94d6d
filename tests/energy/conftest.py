"""Crystals that one can look up, and potentials that one can compute by hand."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from crystallm.crystal.cell import Cell
from crystallm.crystal.description import Description, Site
from crystallm.energy.potentials.protocol import Evaluation, NoEnergy

EMT = "ase.calculators.emt:EMT"


def copper(a: float, *, group: int = 225) -> Description:
    """Face-centred cubic copper with a lattice constant in angstrom."""
    return Description((("Cu", 1),), 1, group, (a, a, a, 90, 90, 90), (Site("Cu", "a", ()),))


def tetragonal_copper(a: float, c: float) -> Description:
    """Body-centred tetragonal copper: face-centred cubic where c = sqrt(2) a."""
    return Description((("Cu", 1),), 1, 139, (a, a, c, 90, 90, 90), (Site("Cu", "a", ()),))


def rutile(x: float = 0.31) -> Description:
    """Rutile, TiO2: two titanium at 2a, four oxygen at 4f (x, x, 0)."""
    sites = (Site("Ti", "a", ()), Site("O", "f", (x,)))
    return Description((("Ti", 1), ("O", 2)), 2, 136, (4.60, 4.60, 2.98, 90, 90, 90), sites)


class Broken:
    """A potential that goes wrong after some evaluations of a kind."""

    name = "broken 1"

    def __init__(self, after: int, how: str) -> None:
        self.left, self.how = after, how

    def energies(self, cells: Sequence[Cell]) -> list[float | NoEnergy]:
        """The energy of the lattice below."""
        return [self._energy(cell) for cell in cells]

    def evaluate(self, cell: Cell) -> Evaluation | NoEnergy:
        """A parabola of the volume, until it breaks."""
        self.left -= 1
        if self.left < 0 and self.how == "interrupt":
            raise KeyboardInterrupt
        if self.left < 0:
            return NoEnergy("energy is not finite")
        pull: NDArray[np.float64] = np.eye(3) * (cell.volume / len(cell) - 10) / len(cell)
        return Evaluation(self._energy(cell), np.zeros((len(cell), 3)), pull)

    def _energy(self, cell: Cell) -> float:
        return float(0.5 * (cell.volume / len(cell) - 10) ** 2 / len(cell))


@pytest.fixture(scope="session")
def emt():  # type: ignore[no-untyped-def]
    from crystallm.energy.potentials.by_name import load_potential

    return load_potential(EMT)
