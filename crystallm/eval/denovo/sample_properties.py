"""What de novo evaluation asks of one crystal: formula, density, space group, and the two validity rules of CDVAE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pymatgen.core import Lattice
from tqdm import tqdm

from crystallm.base.workers import Lost, run_limited
from crystallm.crystal.cell import Cell, Rejection, parameters_of
from crystallm.crystal.checks.fast_validity import density_of
from crystallm.crystal.checks.subject import refuse_cell
from crystallm.crystal.checks.validity import SHORTEST_DISTANCE_ANGSTROM, shortest_in_lattice
from crystallm.crystal.cif import read_cif
from crystallm.crystal.formulas.composition import Amounts, reduce_amounts, symbol_of
from crystallm.crystal.symmetry import space_group_number
from crystallm.eval.charge_neutrality import smact_valid


@dataclass(frozen=True)
class Facts:
    """A crystal in numbers."""

    amounts: Amounts
    """Reduced formula."""
    n_atoms: int
    """Of the cell given."""
    density: float
    """In g/cm3."""
    space_group: int | None
    """By spglib at 0.1 angstrom; None where it finds no symmetry."""
    structural: str
    """Empty if structurally valid (CDVAE: no two atoms within 0.5 angstrom, volume above 0.1 A3), else why not."""
    neutral: bool
    """Whether the composition passes the filter of SMACT in the form of CDVAE."""

    @property
    def n_elements(self) -> int:
        """Different elements."""
        return len(self.amounts)


def facts_of(cif: str) -> Facts | Rejection:
    """The facts of a CIF text, or why it holds no crystal. Run it under a time limit on texts nobody vouches for."""
    cell = read_cif(cif)
    return cell if isinstance(cell, Rejection) else facts_of_cell(cell)


def facts_of_cell(cell: Cell) -> Facts:
    """The facts of a cell; images of the same atom count as atoms that can be too close, where CDVAE skips them."""
    counts = {symbol_of(number): count for number, count in cell.amounts.items()}
    structural = _structural(cell)
    return Facts(
        amounts=reduce_amounts(counts),
        n_atoms=len(cell),
        density=density_of(cell),
        space_group=None if structural else space_group_number(cell),  # symmetry of atoms in one place has no meaning
        structural=structural,
        neutral=smact_valid(counts),
    )


def all_facts(
    texts: Sequence[str | Rejection], *, workers: int, time_limit_s: float, title: str
) -> Iterator[tuple[int, Facts | Rejection | Lost]]:
    """The facts of every text in a pool of processes, as they come; what is no text passes through."""
    todo = [index for index, text in enumerate(texts) if not isinstance(text, Rejection)]
    items = (str(texts[index]) for index in todo)
    with tqdm(total=len(texts), desc=title, unit="crystal", disable=None) as bar:
        for index, text in enumerate(texts):
            if isinstance(text, Rejection):
                yield index, text
                bar.update()
        for place, facts in run_limited(facts_of, items, workers=workers, time_limit_s=time_limit_s):
            yield todo[place], facts
            bar.update()


def _structural(cell: Cell) -> str:
    *lengths, alpha, beta, gamma = parameters_of(cell.lattice)
    refusal = refuse_cell(lengths, (alpha, beta, gamma), cell.volume)
    if refusal is not None:
        return refusal.reason
    close = shortest_in_lattice(Lattice(cell.lattice), cell.positions) <= SHORTEST_DISTANCE_ANGSTROM
    return "atoms too close" if close else ""
