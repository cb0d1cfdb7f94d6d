"""Rebuild the table of Wyckoff positions from moyopy: `python -m studies.tables.build_wyckoff`.

moyopy names the Wyckoff position of a site but offers no list of them. Here a probe crystal with two general orbits
and one candidate orbit is made for every candidate point; moyopy's answer fills the table. The search of a group ends
when every candidate lies on a known position and the letters have no gap, so nothing can be missing.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import moyopy
import numpy as np
from numpy.typing import NDArray

from crystallm.crystal import wyckoff
from crystallm.crystal.description import Site, site_orbit
from crystallm.crystal.wyckoff import ALPHABET, SpaceGroup, affine_expression, holohedry, space_group

TABLE = "wyckoff_positions.json"
REQUIRED = "required_letters.json"
CONSTANTS = sorted({k / 8 for k in range(8)} | {k / 6 for k in range(6)} | {k / 12 for k in (1, 5, 7, 11)})
DIRECTIONS = [
    *((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, -1, 0), (1, 0, 1), (1, 0, -1), (0, 1, 1), (0, 1, -1)),
    *((1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1), (1, 2, 0), (2, 1, 0)),
]
AXES = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
PLANES = [
    *itertools.combinations(AXES, 2),
    *((direction, axis) for axis in AXES for direction in DIRECTIONS[3:9] if np.dot(axis, direction) == 0),
    *(((1, 2, 0), (0, 0, 1)), ((2, 1, 0), (0, 0, 1))),
]
SHIFTS = np.array(list(itertools.product((0, 1, -1), repeat=3)), dtype=float)
GENERAL = ((0.1234, 0.2345, 0.3876), (0.0912, 0.3717, 0.1439), (0.0831, 0.2713, 0.4519), (0.1511, 0.0677, 0.3371))
X, Y = 0.0773, 0.1931
METRICS = {
    "Triclinic": (5.1, 6.3, 7.7, 81, 77, 85),
    "Monoclinic": (5.1, 6.3, 7.7, 90, 103, 90),
    "Orthorhombic": (5.1, 6.3, 7.7, 90, 90, 90),
    "Tetragonal": (5.1, 5.1, 7.7, 90, 90, 90),
    "Trigonal": (5.1, 5.1, 7.7, 90, 90, 120),
    "Hexagonal": (5.1, 5.1, 7.7, 90, 90, 120),
    "Cubic": (7.7, 7.7, 7.7, 90, 90, 90),
}


def candidate_points() -> Iterator[NDArray[np.float64]]:
    """Points, then points on lines, then on planes, that special positions can pass through."""
    for origin in itertools.product(CONSTANTS, repeat=3):
        yield np.array(origin)
    for origin, direction in itertools.product(itertools.product((0, 0.25, 0.5, 0.75), repeat=3), DIRECTIONS):
        yield np.array(origin) + X * np.array(direction)
    for origin, direction in itertools.product(itertools.product(CONSTANTS, repeat=2), DIRECTIONS):
        for axes in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            yield np.array((*origin, 0.0))[list(axes)] + X * np.array(direction)
    for origin, (u, v) in itertools.product(itertools.product((0, 0.25, 0.5, 0.75), repeat=3), PLANES):
        yield np.array(origin) + X * np.array(u) + Y * np.array(v)


def positions_of_group(number: int) -> dict[str, tuple[int, str]]:
    """Letter -> (multiplicity, coordinates of the representative) of one space group in the standard setting.

    Raises RuntimeError if the search does not close, which would be a defect of the candidates.
    """
    from crystallm.crystal.cell import lattice_from_parameters

    setting = moyopy.Setting.standard()
    operations = moyopy.operations_from_number(number, setting=setting)
    rotations, translations = np.array(operations.rotations, dtype=float), np.array(operations.translations)
    lattice = 3 * lattice_from_parameters(METRICS[moyopy.SpaceGroupType(number).crystal_system])
    table: dict[str, tuple[int, str]] = {}
    expressions: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []

    def orbit(point: NDArray[np.float64]) -> NDArray[np.float64]:
        images = rotations @ point + translations
        delta = images[:, None] - images[None]
        same = (np.abs(delta - np.round(delta)) < 1e-6).all(-1)
        return np.asarray((images % 1.0)[same.argmax(1) == np.arange(len(images))])

    def known(points: NDArray[np.float64], multiplicity: int) -> bool:
        for (matrix, offset), (size, _) in zip(expressions, table.values(), strict=True):
            if size != multiplicity:
                continue
            delta = (points - offset)[:, None] + SHIFTS
            if (np.abs(delta @ (np.eye(3) - matrix @ np.linalg.pinv(matrix)).T).max(-1) < 1e-6).any():
                return True
        return False

    def ask(point: NDArray[np.float64], general: tuple[NDArray[np.float64], ...]) -> None:
        orbits = [orbit(g) for g in general] + [orbit(point)]
        numbers = [z for z, o in zip((1, 3, 2), orbits, strict=True) for _ in o]
        cell = moyopy.Cell(lattice.tolist(), np.concatenate(orbits).tolist(), numbers)
        dataset = moyopy.MoyoDataset(cell, symprec=1e-4, setting=setting)
        if dataset.number != number:
            return
        for position in dataset.normalizer_wyckoff_positions().wyckoffs:
            if position.letter not in table:
                table[position.letter] = (position.multiplicity, position.coordinates)
                expressions.append(affine_expression(position.coordinates))

    general = [np.array(g) for g in GENERAL]
    pairs = list(itertools.permutations(general, 2))
    order = len(rotations)
    ask(np.array((0.2217, 0.3391, 0.0459)), pairs[0])
    unresolved: list[tuple[NDArray[np.float64], int]] = []
    special: dict[int, dict[tuple[float, ...], NDArray[np.float64]]] = {}
    for point in candidate_points():
        images = rotations @ point + translations - point
        fixed = (np.abs(images - np.round(images)) < 1e-6).all(1).sum()
        if fixed == 1:
            continue
        points = orbit(point)
        for pair in pairs:
            if known(points, order // int(fixed)):
                break
            ask(point, pair)
        else:
            unresolved.append((points, order // int(fixed)))
        special.setdefault(order // int(fixed), {}).setdefault(min(map(tuple, points.round(6).tolist())), point)
    # moyopy may have moved the origin and named an equivalent position instead: then that one's points name this one.
    for points, multiplicity in unresolved:
        for point in special[multiplicity].values():
            if known(points, multiplicity):
                break
            ask(point, pairs[0])
    if not all(known(points, multiplicity) for points, multiplicity in unresolved):
        raise RuntimeError(f"space group {number}: a special point lies on no known Wyckoff position")
    letters = [letter for letter in ALPHABET if letter in table]
    if letters != list(ALPHABET[: len(letters)]):
        raise RuntimeError(f"space group {number}: letters {letters} have a gap")
    return {letter: table[letter] for letter in letters}


PROBES = np.array([[0.13271, 0.27193, 0.39417], [0.21713, 0.08179, 0.45191]])
"""Free coordinates (2, 3) without accidental symmetry: what holds for both holds for all."""


def required_letters(group: SpaceGroup) -> list[str]:
    """The smallest sets of Wyckoff letters of which a crystal of the group takes some; see `SpaceGroup.required`.

    A motion that keeps all orbits of some letters, but not those in general position, is one symmetry too many for
    crystals of these letters. It may be followed by any operation of the group, so it can be taken to keep the
    representative points of one letter where they are, and to have a rotation of the crystal system.
    """
    orbits = {
        letter: [site_orbit(group, Site("", letter, tuple(probe[list(position.free_axes)]))) for probe in PROBES]
        for letter, position in group.positions.items()
    }
    general = max(group.positions, key=lambda letter: group.positions[letter].multiplicity)
    sets = set()
    for one, other in orbits.values():
        for rotation in (sign * proper for proper in holohedry(group) for sign in (1, -1)):
            translation = one[0] - rotation @ one[0]
            change = translation - (other[0] - rotation @ other[0])
            if np.abs(change - np.round(change)).max() > 1e-6:  # it moves some of these points
                continue
            kept = {
                letter
                for letter, (first, second) in orbits.items()
                if _keeps(rotation, translation, first) and _keeps(rotation, translation, second)
            }
            if kept and general not in kept:
                sets.add(frozenset(orbits) - kept)
    smallest = [letters for letters in sets if not any(others < letters for others in sets)]
    return sorted("".join(letter for letter in ALPHABET if letter in letters) for letters in smallest)


def _keeps(rotation: NDArray[np.float64], translation: NDArray[np.float64], points: NDArray[np.float64]) -> bool:
    """Whether a motion brings each point to one of them, lattice vectors aside."""
    delta = (points @ rotation.T + translation)[:, None] - points
    distance = np.asarray(np.abs(delta - np.round(delta)).max(axis=2))
    return bool((distance.min(axis=1) < 1e-6).all())


TABLES = Path(wyckoff.__file__).parent


def main() -> None:
    """Write the tables beside `crystallm.crystal.wyckoff`."""
    write_table(TABLE, {number: positions_of_group(number) for number in range(1, 231)})
    write_table(REQUIRED, {number: required_letters(space_group(number)) for number in range(1, 231)})


def write_table(name: str, groups: dict[int, Any]) -> None:
    """One line for each space group."""
    lines = ",\n".join(f'"{number}": {json.dumps(value)}' for number, value in groups.items())
    (TABLES / name).write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main()
