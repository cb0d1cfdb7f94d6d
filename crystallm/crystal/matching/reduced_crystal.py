"""Structure matching when one crystal meets many: each is reduced once, and comparisons that cannot match are not made.

The algorithm and the verdicts are those of pymatgen's StructureMatcher (primitive cells, scaled to equal volume,
species kept; Ong et al., Comput. Mater. Sci. 68, 314 (2013)); what is saved are repeated reductions, objects and
invariants of loops (`displacement.py`). Nothing limits the time of a comparison: make it in a `Worker`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice

from crystallm.crystal.cell import Cell, parameters_of
from crystallm.crystal.formulas.composition import Amounts, element_order, reduce_amounts, symbol_of
from crystallm.crystal.matching.reduced_cells import niggli, primitive

Array = NDArray[np.float64]

PARAMETER_DECIMALS = 9
"""Of lengths in angstrom and angles in degrees; CIFs hold fewer."""


@dataclass(frozen=True, eq=False)
class Symmetry:
    """Operations of a crystal in its reduced cell: rotations (G, 3, 3), whole numbers, that turn rows of fractional
    coordinates, and the site (G, N) on which each site comes to stand."""

    rotations: NDArray[np.int64]
    images: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A crystal in the reduced primitive cell in which the matcher compares it.

    lattice: Niggli-reduced. positions: (N, 3) fractional. numbers: (N,) atomic numbers. symmetry: what is known of it.
    """

    amounts: Amounts
    lattice: Lattice
    positions: Array
    numbers: NDArray[np.int64]
    symmetry: Symmetry | None = None

    def __len__(self) -> int:
        return len(self.numbers)


def amounts_of(cell: Cell) -> Amounts:
    """Reduced formula of a cell."""
    return reduce_amounts({symbol_of(number): count for number, count in cell.amounts.items()})


def cannot_match(cell: Cell, truth: Prepared) -> str | None:
    """Why a crystal cannot match another, whatever its geometry; None if it must be compared.

    The matcher compares cells of equal composition and equal number of atoms; it only ever makes a cell smaller by a
    whole number, so a cell of another number of atoms than a multiple is not compared either.
    """
    if amounts_of(cell) != truth.amounts:
        return "another formula"
    return None if len(cell) % len(truth) == 0 else "no match"


def as_pymatgen_reads(cell: Cell) -> Cell:
    """The cell with its basis made from its parameters and its sites in order of electronegativity.

    So pymatgen's CIF reader presents a crystal. Where two images of an atom are equally near, the matcher's verdict
    depends on rounding errors and on the order of sites; presented alike, crystals get the verdict of the plain loop.
    """
    parameters = (round(value, PARAMETER_DECIMALS) for value in parameters_of(cell.lattice))
    order = sorted(range(len(cell)), key=lambda i: element_order(symbol_of(int(cell.numbers[i]))))
    return Cell(np.array(Lattice.from_parameters(*parameters).matrix), cell.positions[order], cell.numbers[order])


def prepare(cell: Cell) -> Prepared:
    """Reduce a crystal as the matcher does: Niggli cell, smaller cell at 0.25 angstrom, Niggli cell again."""
    cell = as_pymatgen_reads(cell)
    lattice, positions = niggli(cell.lattice, cell.positions)
    lattice, positions, numbers = primitive(lattice, positions, cell.numbers)
    return Prepared(amounts_of(cell), Lattice(lattice), positions, numbers)
