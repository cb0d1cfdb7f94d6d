"""True crystals made wrong on purpose, each in a known way, to see what checks notice."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping

import numpy as np
from pymatgen.core import Lattice

from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.cif import read_cif, write_cif
from crystallm.crystal.description import describe
from crystallm.eval.sets.frames import plain_cif

Corruption = Callable[[str, random.Random], str]


def with_symmetry(cif: str, rng: random.Random) -> str:
    """Not corrupted: the crystal written anew with its space group, multiplicities and formula stated."""
    cell = read_cif(cif)
    description = cell if isinstance(cell, Rejection) else describe(cell)
    return cif if isinstance(description, Rejection) else write_cif(description)


def resized(cif: str, rng: random.Random) -> str:
    """Cell lengths all multiplied by 0.3 to 0.9, or by 1.1 to 1.6."""
    factor = rng.uniform(0.3, 0.9) if rng.random() < 0.5 else rng.uniform(1.1, 1.6)
    return re.sub(r"(_cell_length_[abc]\s+)([0-9.]+)", lambda found: f"{found[1]}{float(found[2]) * factor:.5f}", cif)


def swapped(cif: str, rng: random.Random) -> str:
    """Two atoms of different elements exchanged; listed atom by atom. An element is left as it is."""
    return _changed(cif, rng, _swap)


def moved(cif: str, rng: random.Random) -> str:
    """One atom moved anywhere in the cell; listed atom by atom."""
    return _changed(cif, rng, _move)


def wrong_formula(cif: str, rng: random.Random) -> str:
    """One amount in the formula sum is one too many."""
    found = re.search(r"_chemical_formula_sum\s+('?)(.+?)\1\s*\n", cif)
    if found is None:
        return cif
    parts = found[2].split()
    place = rng.randrange(len(parts))
    symbol = re.match(r"[A-Z][a-z]?", parts[place])
    if symbol is None:
        return cif
    amount = int(float(parts[place][symbol.end() :] or 1)) + 1
    parts[place] = f"{symbol[0]}{amount}"
    return cif[: found.start()] + f"_chemical_formula_sum   '{' '.join(parts)}'\n" + cif[found.end() :]


def wrong_space_group(cif: str, rng: random.Random) -> str:
    """Symmetry stated, the number of the space group another one."""
    number = str(rng.randint(2, 230))
    return re.sub(r"(_space_group_IT_number\s+)\d+", lambda found: found[1] + number, with_symmetry(cif, rng))


def wrong_multiplicity(cif: str, rng: random.Random) -> str:
    """Symmetry stated, one multiplicity doubled."""
    text = with_symmetry(cif, rng)
    rows = list(re.finditer(r"(?m)^([A-Z][a-z]?\d+ +[A-Z][a-z]? +)(\d+)( [a-zA-Z] )", text))
    if not rows:
        return text
    row = rng.choice(rows)
    return text[: row.start()] + f"{row[1]}{2 * int(row[2])}{row[3]}" + text[row.end() :]


def truncated(cif: str, rng: random.Random) -> str:
    """The text cut off anywhere."""
    return cif[: rng.randrange(len(cif))]


def garbled(cif: str, rng: random.Random) -> str:
    """Up to 30 characters lost anywhere."""
    start = rng.randrange(len(cif))
    return cif[:start] + cif[start + rng.randrange(1, 30) :]


KINDS: Mapping[str, Corruption] = {
    "as given": lambda cif, rng: cif,
    "with symmetry": with_symmetry,
    "resized": resized,
    "swapped": swapped,
    "moved": moved,
    "wrong formula": wrong_formula,
    "wrong space group": wrong_space_group,
    "wrong multiplicity": wrong_multiplicity,
    "truncated": truncated,
    "garbled": garbled,
}
"""The first two are true."""


def _random_cell(rng: np.random.Generator) -> Cell:
    """Some atoms of common elements anywhere in a cell of 2 to 40 cubic angstrom an atom."""
    numbers = rng.choice(RANDOM_ELEMENTS, size=int(rng.integers(1, 13))).astype(np.int64)
    lattice = np.array(Lattice.from_parameters(*rng.uniform(3, 12, 3), *rng.uniform(65, 115, 3)).matrix)
    volume = len(numbers) * float(np.exp(rng.uniform(np.log(2), np.log(40))))
    lattice *= (volume / abs(np.linalg.det(lattice))) ** (1 / 3)
    return Cell(lattice, rng.random((len(numbers), 3)), numbers)


def _anywhere(rng: np.random.Generator) -> str:
    """Atoms anywhere."""
    return plain_cif(_random_cell(rng), decimals=12)


def _spread_out(rng: np.random.Generator) -> str:
    """Atoms anywhere in a cell so large that some have no bond."""
    cell = _random_cell(rng)
    return plain_cif(Cell(cell.lattice * rng.uniform(1.2, 2.5), cell.positions, cell.numbers), decimals=12)


def _coincident(rng: np.random.Generator) -> str:
    """Atoms anywhere, one of them on another or up to 0.3 angstrom beside it."""
    cell = _random_cell(rng)
    positions = np.concatenate([cell.positions, cell.positions[:1]])
    away = rng.normal(size=3)
    away *= rng.choice([0.0, 1e-6, 1e-3, 0.05, 0.3]) / np.linalg.norm(away)
    positions[-1] += away @ np.linalg.inv(cell.lattice)
    return plain_cif(Cell(cell.lattice, positions, np.append(cell.numbers, rng.choice(RANDOM_ELEMENTS))), decimals=12)


RANDOM_ELEMENTS = (
    1,
    1,
    3,
    6,
    7,
    8,
    8,
    9,
    11,
    12,
    13,
    14,
    16,
    17,
    20,
    22,
    26,
    29,
    30,
    38,
    47,
    55,
    56,
    57,
    79,
    82,
    92,
    2,
)
"""Atomic numbers; some twice, as they are more common."""

RANDOM_KINDS: Mapping[str, Callable[[np.random.Generator], str]] = {
    "random cell": _anywhere,
    "random, spread out": _spread_out,
    "random, atoms coincide": _coincident,
}
"""Cells that are no crystals, which both paths have to see alike."""


def _changed(cif: str, rng: random.Random, change: Callable[[Cell, random.Random], Cell]) -> str:
    cell = read_cif(cif)
    return cif if isinstance(cell, Rejection) else plain_cif(change(cell, rng))


def _swap(cell: Cell, rng: random.Random) -> Cell:
    if len(cell.amounts) < 2:
        return cell
    numbers = cell.numbers.copy()
    first = rng.randrange(len(numbers))
    second = rng.choice(np.flatnonzero(numbers != numbers[first]).tolist())
    numbers[[first, second]] = numbers[[second, first]]
    return Cell(cell.lattice, cell.positions, numbers)


def _move(cell: Cell, rng: random.Random) -> Cell:
    positions = cell.positions.copy()
    positions[rng.randrange(len(positions))] = [rng.random() for _ in range(3)]
    return Cell(cell.lattice, positions, cell.numbers)
