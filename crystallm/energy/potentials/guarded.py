"""A potential in a process of its own, which is ended when it hangs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crystallm.base.errors import ConfigError
from crystallm.base.workers import Lost, Worker
from crystallm.crystal.cell import Cell
from crystallm.energy.potentials.by_name import load_potential
from crystallm.energy.potentials.protocol import Evaluation, NoEnergy, identity, require


@dataclass(frozen=True)
class _Asked:
    """What the process does: cells go in, an energy or an evaluation comes out."""

    name: str

    def __call__(self, question: tuple[Cell, bool]) -> float | Evaluation | NoEnergy:
        cell, slopes = question
        potential = load_potential(self.name)
        return potential.evaluate(cell) if slopes else potential.energies([cell])[0]


class GuardedPotential:
    """A potential that answers in time or not at all.

    Args:
        name: What `load_potential` takes.
        time_limit: Seconds for one cell, the first one's loading of the potential included.

    Raises:
        ConfigError: The potential is not installed or unknown, or the limit is not positive.

    Example:
        >>> GuardedPotential("my_package:Calculator", time_limit=60).evaluate(cell)
        NoEnergy(reason='timed out', detail='after 60 s')
    """

    def __init__(self, name: str, *, time_limit: float) -> None:
        if not time_limit > 0:
            raise ConfigError(f"the time limit of a potential must be > 0 seconds, got {time_limit:g}")
        require(name)
        self.name = identity(name)
        self._time_limit = time_limit
        self._worker = Worker(_Asked(name))

    def energies(self, cells: Sequence[Cell]) -> list[float | NoEnergy]:
        """Energies in eV/atom of cells as they are, in order."""
        found = [self._ask(cell, slopes=False) for cell in cells]
        return [one.energy if isinstance(one, Evaluation) else one for one in found]

    def evaluate(self, cell: Cell) -> Evaluation | NoEnergy:
        """Energy, forces and stress of a cell as it is."""
        found = self._ask(cell, slopes=True)
        assert not isinstance(found, float)
        return found

    def close(self) -> None:
        """End the process."""
        self._worker.kill()

    def _ask(self, cell: Cell, *, slopes: bool) -> float | Evaluation | NoEnergy:
        found = self._worker.call((cell, slopes), time_limit_s=self._time_limit)
        return NoEnergy(str(found.fate), found.detail) if isinstance(found, Lost) else found
