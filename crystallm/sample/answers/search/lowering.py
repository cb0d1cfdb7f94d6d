"""New trials in a subgroup: a crystal displaced along coordinates that its symmetry had fixed, its cell doubled or not.

No table of subgroups is asked: some operations of the crystal generate a subgroup, a random displacement is averaged
over it, and the finder of symmetry names what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.description import Description, describe
from crystallm.energy.potentials.orbits import SymmetricCrystal, with_symmetry
from crystallm.sample.answers.search.kicks import fits

DISPLACEMENT_ANGSTROM = (0.15, 0.6)
"""Root mean square displacement of the atoms."""

STRAIN = 0.02
"""Standard deviation of the strains."""

GENERATORS = (0, 1, 1, 1, 2, 2, 2)
"""Numbers of operations that generate a subgroup, the identity and lattice translations aside."""

SYMPREC_ANGSTROM = 0.02
"""At which the symmetry of a displaced crystal is found: well below the displacement."""

MOST_ORBITS = 24
"""Crystals with more sites of their own cost more than they promise."""

DOUBLINGS = tuple(
    np.array(rows)
    for rows in (
        [[2, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[1, 0, 0], [0, 2, 0], [0, 0, 1]],
        [[1, 0, 0], [0, 1, 0], [0, 0, 2]],
        [[1, 1, 0], [1, -1, 0], [0, 0, 1]],
        [[1, 0, 1], [0, 1, 0], [1, 0, -1]],
        [[1, 0, 0], [0, 1, 1], [0, 1, -1]],
        [[0, 1, 1], [1, 0, 1], [1, 1, 0]],
    )
)
"""Rows span the seven lattices of index 2 in a lattice."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Operations:
    """Operations of a crystal in the basis of a cell of it: rotations (G, 3, 3), translations (G, 3)."""

    rotations: Array
    translations: Array

    def pick(self, which: Sequence[int]) -> Operations:
        """Some of them."""
        return Operations(self.rotations[list(which)], self.translations[list(which)])


def lower(
    parent: Description, rng: np.random.Generator, *, contact: float, doubled: bool, max_atoms: int
) -> Description | None:
    """A crystal displaced in a random subgroup of its space group.

    Args:
        parent: the crystal.
        rng: what decides.
        contact: atoms closer than this part of the expected bond length are refused.
        doubled: whether the primitive cell is doubled first (a klassengleiche subgroup).
        max_atoms: of the new primitive cell.

    Returns:
        A crystal with lower symmetry; None where none was found.

    Example:
        >>> lower(fluorite, rng, contact=0.68, doubled=False, max_atoms=20).space_group  # doctest: +SKIP
        12
    """
    if parent.n_sites * (2 if doubled else 1) > max_atoms:
        return None
    crystal = with_symmetry(parent)
    widths = DOUBLINGS[int(rng.integers(len(DOUBLINGS)))] if doubled else np.eye(3, dtype=np.int64)
    cell, operations = _in_cell(crystal, widths)
    for _ in range(4):
        kept = _subgroup(operations, rng, doubled=doubled)
        if kept is None:
            continue
        found = describe(_displaced(cell, kept, rng), symprec_angstrom=SYMPREC_ANGSTROM)
        if isinstance(found, Rejection) or len(found.sites) > MOST_ORBITS:
            continue
        lowered = found.space_group != parent.space_group or found.formula_units != parent.formula_units
        if lowered and found.n_sites <= max_atoms and fits(found, contact):
            return found
    return None


def _in_cell(crystal: SymmetricCrystal, widths: NDArray[np.int64]) -> tuple[Cell, Operations]:
    """The atoms and operations of a crystal in a cell whose rows are `widths` (3, 3) times its primitive cell."""
    primitive, _ = crystal.primitive
    basis = widths @ primitive.lattice @ np.linalg.inv(crystal.lattice)
    to_cell = np.linalg.inv(basis.T)
    steps = np.linalg.inv(widths.T)
    corners = np.stack(np.meshgrid(*[[0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    shifts = _distinct(corners @ steps.T)
    positions = (primitive.positions @ steps.T)[None] + shifts[:, None]
    cell = Cell(widths @ primitive.lattice, positions.reshape(-1, 3), np.tile(primitive.numbers, len(shifts)))
    rotations = to_cell @ crystal.group_rotations @ basis.T
    whole = np.abs(rotations - np.rint(rotations)).max(axis=(1, 2)) < 1e-6
    _, first = np.unique(np.rint(rotations[whole]).reshape(-1, 9), axis=0, return_index=True)
    which = np.flatnonzero(whole)[np.sort(first)]
    translations = (crystal.group_translations[which] @ to_cell.T)[:, None] + shifts
    return cell, Operations(
        np.repeat(np.rint(rotations[which]), len(shifts), axis=0), translations.reshape(-1, 3) % 1.0
    )


def _distinct(points: Array) -> Array:
    """Points (N, 3) without those that differ by whole numbers from an earlier one; the origin comes first."""
    steps = np.rint((points % 1.0) * 24) % 24
    _, first = np.unique(steps, axis=0, return_index=True)
    return np.asarray(steps[np.sort(first)] / 24)


def _subgroup(operations: Operations, rng: np.random.Generator, *, doubled: bool) -> Operations | None:
    """A proper subgroup made by a few operations; None where they make all, or undo the doubling."""
    count = int(GENERATORS[int(rng.integers(len(GENERATORS)))])
    chosen = rng.integers(len(operations.rotations), size=count).tolist()
    kept = _closed(operations.pick(chosen))
    pure = (kept.rotations == np.eye(3)).all(axis=(1, 2)).sum() > 1
    everything = not doubled and len(kept.rotations) == len(operations.rotations) > 1
    return None if pure or everything else kept


def _closed(generators: Operations) -> Operations:
    """All products of some operations, lattice translations left out."""
    rotations, translations = [np.eye(3)], [np.zeros(3)]
    seen = {_code(rotations[0], translations[0])}
    place = 0
    while place < len(rotations):
        for rotation, translation in zip(generators.rotations, generators.translations, strict=True):
            new = rotation @ rotations[place], (rotation @ translations[place] + translation) % 1.0
            if (code := _code(*new)) not in seen:
                seen.add(code)
                rotations.append(new[0])
                translations.append(new[1])
        place += 1
    return Operations(np.array(rotations), np.array(translations))


def _code(rotation: Array, translation: Array) -> bytes:
    steps = np.rint(translation * 48).astype(np.int64) % 48  # half of what the constants of space groups are made of
    return np.rint(rotation).astype(np.int64).tobytes() + steps.tobytes()


def _displaced(cell: Cell, kept: Operations, rng: np.random.Generator) -> Cell:
    """A cell with a random displacement and strain that the operations leave alone."""
    moves = rng.normal(size=(len(cell), 3)) @ np.linalg.inv(cell.lattice)
    mean = np.zeros_like(moves)
    for rotation, translation in zip(kept.rotations, kept.translations, strict=True):
        mean[_images(cell, rotation, translation)] += moves @ rotation.T
    cartesian = mean @ cell.lattice
    cartesian -= cartesian.mean(axis=0) if len(kept.rotations) == 1 else 0.0
    size = float(np.sqrt((cartesian**2).sum(axis=1).mean()))
    length = rng.uniform(*DISPLACEMENT_ANGSTROM)
    factor = length / size if size > 1e-3 else 0.0
    turned = cell.lattice.T @ kept.rotations @ np.linalg.inv(cell.lattice.T)
    strain = rng.normal(0.0, STRAIN, (3, 3))
    strain = (turned @ ((strain + strain.T) / 2) @ turned.transpose(0, 2, 1)).mean(axis=0)
    positions = cell.positions + factor * cartesian @ np.linalg.inv(cell.lattice)
    return Cell(cell.lattice @ (np.eye(3) + strain), positions, cell.numbers)


def _images(cell: Cell, rotation: Array, translation: Array) -> NDArray[np.int64]:
    """The atom (N,) on which an operation puts each atom."""
    moved = cell.positions @ rotation.T + translation
    apart = moved[:, None] - cell.positions
    apart -= np.rint(apart)
    distances = ((apart @ cell.lattice) ** 2).sum(axis=-1)
    distances[cell.numbers[:, None] != cell.numbers] = np.inf
    return np.asarray(distances.argmin(axis=1))
