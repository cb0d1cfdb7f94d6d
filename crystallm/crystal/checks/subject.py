"""What the checks of validity look at: the atoms that `read_cif` finds, and what the CIF claims about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Composition

from crystallm.crystal.cell import Cell, Rejection, parameters_of
from crystallm.crystal.checks.cif_statements import Claims, read_claims
from crystallm.crystal.cif import read_first
from crystallm.crystal.cif.cell_items import ANGLES_DEGREES, LENGTHS_ANGSTROM
from crystallm.crystal.formulas.composition import symbol_of

if TYPE_CHECKING:
    from pymatgen.core import Structure

SMALLEST_VOLUME = 0.1
"""Cubic angstrom (CDVAE)."""


@dataclass(frozen=True)
class Unreadable:
    """Why no crystal could be made of a text or structure."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Subject:
    """All atoms of a cell, and what a CIF claims about them."""

    cell: Cell
    claims: Claims
    p1_is_claim: bool = False

    @cached_property
    def structure(self) -> Structure:
        """The atoms as pymatgen's judges take them."""
        return self.cell.to_structure()

    @cached_property
    def composition(self) -> Composition:
        """Of the cell."""
        return Composition({symbol_of(number): count for number, count in self.cell.amounts.items()})


def read_subject(text: str, *, p1_is_claim: bool = False) -> Subject | Unreadable:
    """The crystal of a CIF with its claims, read as everywhere (`read_cif`).

    What the CIF says of its own content is not held against the atoms on reading: the checks do that by name.

    Args:
        text: Of a CIF with one structure; of several the first is taken.
        p1_is_claim: Whether a list of all atoms under `P 1` claims that space group.
    """
    read = read_first(text, trust_atoms=True)
    if isinstance(read, Rejection):
        return Unreadable(str(read.reason), read.detail)
    found = read.found
    if isinstance(found, Rejection):
        return Unreadable(str(found.reason), found.detail)
    content = found.content
    against = tuple(one for one in content.contradictions if one not in content.multiplicities)
    claims = replace(read_claims(read.block.name, read.block.items), contradictions=against)
    return refuse(found.cell) or Subject(found.cell, claims, p1_is_claim)


def refuse(cell: Cell) -> Unreadable | None:
    """Why a cell cannot be checked, None if it can."""
    if len(cell) == 0:
        return Unreadable("no atoms", "")
    if not (np.isfinite(cell.lattice).all() and np.isfinite(cell.positions).all()):
        return Unreadable("not finite", "a cell parameter or coordinate is not a finite number")
    if not cell.volume > SMALLEST_VOLUME:  # angles mean nothing in a flat cell
        return Unreadable("no volume", f"the cell holds {cell.volume:g} cubic angstrom")
    *lengths, alpha, beta, gamma = parameters_of(cell.lattice)
    return refuse_cell(lengths, (alpha, beta, gamma), cell.volume)


def refuse_cell(lengths: Sequence[float], angles: Sequence[float], volume: float) -> Unreadable | None:
    """Why a cell is no crystal's, None if it may be one; in angstrom, degrees and cubic angstrom."""
    (short, long), (sharp, blunt) = LENGTHS_ANGSTROM, ANGLES_DEGREES
    if min(lengths) < short or max(lengths) > long or min(angles) < sharp or max(angles) > blunt:
        return Unreadable("cell out of range", f"lengths {np.round(lengths, 3)} A, angles {np.round(angles, 2)}")
    if not volume > SMALLEST_VOLUME:
        return Unreadable("no volume", f"the cell holds {volume:g} cubic angstrom")
    return None
