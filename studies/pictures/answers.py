"""The picture of the README: the first crystals of some formulas, as `crystallm sample` writes them.

`python -m studies.pictures.answers docs/images/answers.png` looks crystals of the full edition up; ASE draws.
"""

from __future__ import annotations

import sys
from pathlib import Path

import ase
import numpy as np
from ase.build import make_supercell
from ase.data import covalent_radii
from ase.visualize.plot import plot_atoms

from crystallm import Generator
from crystallm.crystal.cell import Cell

SHOWN = {"TiO2": 1, "SrTiO3": 1, "GaN": 1, "MgAl2O4": 1}
"""Formula -> repetitions of the conventional cell along each axis."""

RADIUS = 0.45
"""Of an atom, as a part of its covalent radius."""


def atoms_of(cell: Cell, repeats: int) -> ase.Atoms:
    """The atoms in a block of cells, those on its faces repeated on the faces across."""
    atoms = ase.Atoms(numbers=cell.numbers, scaled_positions=cell.positions % 1.0, cell=cell.lattice, pbc=True)
    block = make_supercell(atoms, np.eye(3) * repeats)
    scaled, numbers = block.get_scaled_positions(), block.numbers
    places, kinds = [], []
    for shift in np.ndindex(2, 2, 2):
        moved = scaled + shift
        inside = (moved < 1.001).all(axis=1)
        places.append(moved[inside])
        kinds.append(numbers[inside])
    return ase.Atoms(numbers=np.concatenate(kinds), scaled_positions=np.concatenate(places), cell=block.cell, pbc=False)


def main() -> None:
    """Draw the picture."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    generator = Generator.from_pretrained()
    figure, axes = plt.subplots(1, len(SHOWN), figsize=(3.0 * len(SHOWN), 3.2))
    for (formula, repeats), axis in zip(SHOWN.items(), axes, strict=True):
        crystal = next(iter(generator.generate(formula, known="only", energies=False)))
        atoms = atoms_of(crystal.cell, repeats)
        radii = [RADIUS * covalent_radii[number] for number in atoms.numbers]
        plot_atoms(atoms, axis, radii=radii, rotation="-78x,18y,4z")
        axis.set_title(f"{formula}, {crystal.space_group}\n{crystal.origin}", fontsize=10)
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(Path(sys.argv[1]), dpi=110)


if __name__ == "__main__":
    main()
