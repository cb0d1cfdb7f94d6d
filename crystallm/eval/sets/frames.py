"""Frames of an .extxyz file as CIF text."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from crystallm.crystal.cell import Cell, Reason, Rejection

NAMES = ("id", "target_id", "material_id")
"""Values of a comment line that are names: `0012`, `1e5` and `T` are no numbers there, whatever they look like."""

_PAIR = re.compile(
    r"""(?P<key>[A-Za-z_][\w-]*)\s*=\s*(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'"""
    r"""|\{(?P<braces>[^}]*)\}|(?P<bare>\S+))"""
)


def read_frames(path: Path) -> Iterator[tuple[str, str | Rejection, dict[str, Any]]]:
    """Name, CIF text or the reason why there is none, and what the comment line says, of each frame.

    Frames are named by their number from 0. A broken frame costs no other, unless its number of atoms is not told.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, block in enumerate(_blocks(file)):
            if isinstance(block, Rejection):
                yield str(number), Rejection(block.reason, f"frame {number}: {block.detail}"), {}
                continue
            yield str(number), *_frame(number, block)


def names_in(comment: str) -> dict[str, str]:
    """The names that a comment line gives, as they are written.

    Example:
        >>> names_in('Properties=species:S:1:pos:R:3 target_id=0012 note="id=7" id="1e5"')
        {'target_id': '0012', 'id': '1e5'}
    """
    found = {}
    for pair in _PAIR.finditer(comment):
        if pair["key"] in NAMES:
            kinds = ("double", "single", "braces", "bare")
            found[pair["key"]] = next(pair[kind] for kind in kinds if pair[kind] is not None)
    return found


def _blocks(lines: Iterator[str]) -> Iterator[list[str] | Rejection]:
    """The lines of each frame: number of atoms, comment, atoms, and lattice vectors as older files have them."""
    line = next(lines, "")
    while line:
        if not line.strip():
            line = next(lines, "")
            continue
        if not line.strip().isdecimal() or len(line) > 20:
            yield Rejection(Reason.UNREADABLE, f"{line.strip()[:40]!r} is no number of atoms; what follows is not read")
            return
        wanted = int(line) + 1
        block = [line, *islice(lines, wanted)]
        if len(block) <= wanted:
            yield Rejection(Reason.UNREADABLE, f"cut short: {len(block) - 2} of {wanted - 1} atoms")
            return
        line = next(lines, "")
        while line.lstrip().upper().startswith("VEC"):
            block.append(line)
            line = next(lines, "")
        yield block


def _frame(number: int, block: list[str]) -> tuple[str | Rejection, dict[str, Any]]:
    from ase.io import read

    try:
        atoms: Any = read(io.StringIO("".join(block)), index=0, format="extxyz")
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:  # how ASE reports a broken frame
        return Rejection(Reason.UNREADABLE, f"frame {number}: {error}"), dict(names_in(block[1]))
    return _cif_of_atoms(atoms), {**atoms.info, **names_in(block[1])}


def _cif_of_atoms(atoms: Any) -> str | Rejection:
    numbers = np.array(atoms.numbers, dtype=np.int64)
    if not atoms.pbc.all() or abs(np.linalg.det(np.array(atoms.cell))) < 1e-6:
        return Rejection(Reason.BAD_CELL, "the frame has no cell that repeats in three directions")
    if len(numbers) == 0 or numbers.min() < 1:
        return Rejection(Reason.EMPTY, "the frame has no atoms, or atoms without an element")
    return plain_cif(Cell(np.array(atoms.cell), atoms.get_scaled_positions(wrap=False), numbers))


def plain_cif(cell: Cell, *, decimals: int = 8) -> str:
    """A CIF that lists all atoms of a cell under P 1."""
    from pymatgen.io.cif import CifWriter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns about noble gases
        return str(CifWriter(cell.to_structure(), significant_figures=decimals))
