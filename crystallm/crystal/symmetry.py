"""The one door to symmetry finders: moyopy standardises data, spglib judges samples; one tolerance everywhere."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from typing import Any

import moyopy
import numpy as np
import spglib
from numpy.typing import NDArray

from crystallm.crystal.cell import Cell, Reason, Rejection, parameters_of
from crystallm.crystal.space_group_symbols import number_of

# moyopy logs a warning for every input that is not a primitive cell; whoever wants it can add a handler.
logging.getLogger("moyo").addHandler(logging.NullHandler())

SYMPREC_ANGSTROM = 0.1
"""Distance tolerance of every symmetry search in the project."""

FIRST_CUBIC = 195
"""Number of the first cubic space group; those after it are cubic, too."""


@dataclass(frozen=True, eq=False)
class StandardCrystal:
    """A crystal in the standard setting: its conventional cell and one atom of every orbit.

    parameters: a, b, c in angstrom and alpha, beta, gamma in degrees. orbits: (atomic number, Wyckoff letter,
    fractional coordinates (3,) in the conventional cell).
    """

    space_group: int
    parameters: tuple[float, float, float, float, float, float]
    orbits: tuple[tuple[int, str, NDArray[np.float64]], ...]


def standardize(cell: Cell, *, symprec_angstrom: float = SYMPREC_ANGSTROM) -> StandardCrystal | Rejection:
    """Space group, standard cell and orbits of a crystal by moyopy."""
    try:
        dataset = _dataset(cell, symprec_angstrom)
    except ValueError as error:  # how moyopy reports that no consistent symmetry was found
        return Rejection(Reason.SYMMETRY_FAILED, str(error))
    basis = np.array(dataset.std_cell.basis)
    primitive = dataset.prim_std_cell
    to_conventional = np.array(primitive.basis) @ np.linalg.inv(basis)
    points = np.array(primitive.positions) @ to_conventional
    orbits, seen = [], set()
    for atom, orbit in enumerate(dataset.orbits):
        if orbit not in seen:
            seen.add(orbit)
            place = dataset.mapping_std_prim[atom]
            orbits.append((int(cell.numbers[atom]), dataset.wyckoffs[atom], points[place]))
    return StandardCrystal(dataset.number, parameters_of(basis), tuple(orbits))


@dataclass(frozen=True, eq=False)
class StandardSetting:
    """The atoms of a crystal as they are, not moved by symmetry, in the standard setting of its space group.

    lattice: (3, 3) rows in angstrom of the conventional cell. positions: (N, 3) fractional, of the atoms as given.
    """

    space_group: int
    lattice: NDArray[np.float64]
    positions: NDArray[np.float64]


def standard_setting(cell: Cell, *, symprec_angstrom: float = SYMPREC_ANGSTROM) -> StandardSetting | None:
    """A crystal in the axes and origin of `standardize`, not refined; None without consistent symmetry."""
    try:
        found = _dataset(cell, symprec_angstrom)
    except ValueError:
        return None
    linear = np.array(found.std_linear)
    positions = (cell.positions - np.array(found.std_origin_shift)) @ np.linalg.inv(linear).T
    return StandardSetting(int(found.number), linear.T @ cell.lattice, positions)


def primitive(cell: Cell, *, symprec_angstrom: float = 1e-3) -> Cell:
    """A primitive cell of a crystal, its translations found at a tight tolerance so that nothing else moves.

    The cell itself where moyopy finds no consistent symmetry.
    """
    try:
        found = _dataset(cell, symprec_angstrom).prim_std_cell
    except ValueError:
        return cell
    return Cell(np.array(found.basis), np.array(found.positions), np.array(found.numbers, dtype=np.int64))


def standardize_number(cell: Cell, *, symprec_angstrom: float = SYMPREC_ANGSTROM) -> int | None:
    """International Tables number found by moyopy; None if it finds no consistent symmetry."""
    try:
        return int(_dataset(cell, symprec_angstrom).number)
    except ValueError:
        return None


def _dataset(cell: Cell, symprec_angstrom: float) -> moyopy.MoyoDataset:
    return moyopy.MoyoDataset(
        moyopy.Cell(cell.lattice.tolist(), cell.positions.tolist(), cell.numbers.tolist()),
        symprec=symprec_angstrom,
        setting=moyopy.Setting.standard(),
    )


def space_group_number(cell: Cell, *, symprec_angstrom: float = SYMPREC_ANGSTROM) -> int | None:
    """International Tables number found by spglib; None if spglib finds no symmetry at all."""
    try:
        dataset = spglib.get_symmetry_dataset((cell.lattice, cell.positions, cell.numbers), symprec=symprec_angstrom)
    except spglib.SpglibError:
        return None
    return None if dataset is None else int(dataset.number)


def has_space_group(cell: Cell, number: int) -> bool:
    """Whether a crystal written in a space group has that one and none of higher symmetry.

    By spglib; for cubic groups by moyopy, because spglib takes some ten times as long for them as for the others.
    Verdicts were equal for 1200 of 1200 cubic samples, half of them with coordinates moved towards special values.
    moyopy 0.21 is not asked about all: it does not come back from some of the odd cells that an untrained model draws.
    """
    find = standardize_number if number >= FIRST_CUBIC else space_group_number
    return find(cell) == number


def refine(cell: Cell, *, symprec_angstrom: float = SYMPREC_ANGSTROM) -> tuple[int, Cell] | Rejection:
    """Number of the space group by spglib, and its standard conventional cell with atoms moved onto their positions.

    Where a group has two origins, spglib's is the first of the tables, ours (`standardize`) the second.
    """
    found = _spglib_dataset(cell, symprec_angstrom)
    if isinstance(found, Rejection):
        return found
    return int(found.number), Cell(
        np.array(found.std_lattice), np.array(found.std_positions), np.array(found.std_types, dtype=np.int64)
    )


@dataclass(frozen=True, eq=False)
class Idealized:
    """A crystal moved onto the symmetry that was found within a tolerance, in the cell that it was given in.

    cell: the same atoms in the same order; its basis is that of the crystal but for a pure strain. n_operations: of the
    cell, centring translations included, so that those of one cell at several tolerances can be compared.
    """

    space_group: int
    n_operations: int
    cell: Cell


def idealize(cell: Cell, *, symprec_angstrom: float = SYMPREC_ANGSTROM) -> Idealized | Rejection:
    """The crystal with the symmetry that spglib finds within a tolerance, every atom beside the one it was made from.

    Args:
        cell: Any cell of a crystal.
        symprec_angstrom: Tolerance of the search. What is moved may be moved further (`crystallm.crystal.copies`).

    Returns:
        The idealized crystal, or why spglib finds no symmetry.

    Example:
        >>> sheared = Cell(np.diag([4.0, 4.0, 4.02]), np.zeros((1, 3)), np.array([84]))
        >>> idealize(sheared, symprec_angstrom=0.1).space_group
        221
    """
    found = _spglib_dataset(cell, symprec_angstrom)
    if isinstance(found, Rejection):
        return found
    to_standard = np.array(found.transformation_matrix)
    places = cell.positions @ to_standard.T + found.origin_shift
    positions, types = np.array(found.std_positions), np.array(found.std_types)
    moves = np.zeros_like(places)
    for atom, (place, number) in enumerate(zip(places, cell.numbers, strict=True)):
        ways = positions[types == number] - place
        ways -= np.round(ways)
        moves[atom] = ways[((ways @ found.std_lattice) ** 2).sum(axis=1).argmin()]
    basis = to_standard.T @ np.array(found.std_lattice)
    # The standard lattice is rotated against the given one; what is left beside the rotation is the strain.
    left, stretch, _ = np.linalg.svd(np.linalg.solve(cell.lattice, basis))
    strained = cell.lattice @ (left * stretch) @ left.T
    moved = cell.positions + moves @ np.linalg.inv(to_standard).T
    return Idealized(int(found.number), len(found.rotations), Cell(strained, moved, cell.numbers))


def equivalent_atoms(cell: Cell, *, symprec_angstrom: float = SYMPREC_ANGSTROM) -> NDArray[np.int64] | Rejection:
    """For each atom (N,) the first one that symmetry makes equal to it, by spglib."""
    found = _spglib_dataset(cell, symprec_angstrom)
    return found if isinstance(found, Rejection) else np.asarray(found.equivalent_atoms, dtype=np.int64)


PYMATGEN_ANGLE_DEGREES = 5.0
"""Tolerance of angles that pymatgen's SpacegroupAnalyzer gives spglib."""


def _spglib_dataset(cell: Cell, symprec_angstrom: float) -> Any | Rejection:
    try:
        found = spglib.get_symmetry_dataset(
            (cell.lattice, cell.positions, cell.numbers),
            symprec=symprec_angstrom,
            angle_tolerance=PYMATGEN_ANGLE_DEGREES,
        )
    except spglib.SpglibError as error:
        return Rejection(Reason.SYMMETRY_FAILED, str(error))
    return Rejection(Reason.SYMMETRY_FAILED, "spglib finds no symmetry") if found is None else found


@cache
def space_group_symbol(number: int) -> str:
    """Short Hermann-Mauguin symbol without spaces, 'P4_2/mnm' for 136."""
    return str(moyopy.SpaceGroupType(number).hm_short).replace(" ", "")


@cache
def hermann_mauguin(number: int) -> str:
    """Hermann-Mauguin symbol with spaces in the standard setting of this project, 'P 4_2/m n m' for 136."""
    return str(moyopy.SpaceGroupType(number).hm_short)


def space_group_from_name(name: str | int) -> int:
    """Number of a space group given as number or symbol in any spelling ('136', 'P4_2/mnm', 'Cmca', 'F d -3 m :2').

    Raises SymmetryError for anything else.
    """
    return number_of(str(name))
