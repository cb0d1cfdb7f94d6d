"""Which of the symmetries that a CIF allows its cell and its content decide for, and the atoms that it makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import gcd

import gemmi
import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.cell import Cell, Reason, Rejection
from crystallm.crystal.cif.atoms import MERGE_ANGSTROM, Sites, distances, orbit
from crystallm.crystal.cif.cell_items import DOES_NOT_FIT, STRAIN_TOLERANCE, CellItems, complete
from crystallm.crystal.cif.content import Content, Statements, judge, units_in_cell, written
from crystallm.crystal.cif.symmetry.statements import Reading, Symmetry


@dataclass(frozen=True, eq=False)
class Candidate:
    """One reading of the symmetry with the atoms that it makes."""

    reading: Reading
    parameters: tuple[float, ...]
    cell: Cell
    content: Content
    sizes: Sequence[int]
    """Atoms of the cell that each site stands for."""
    all_listed: bool = False
    """Whether the list holds the whole cell already, though the symmetry has more operators than one."""
    dismissed: tuple[str, ...] = ()
    """Other readings of the statements, each with what speaks against it."""


@dataclass(frozen=True, eq=False)
class Unfit:
    """A reading whose operators are no isometries of the cell, or leave it incomplete."""

    reading: Reading
    refusal: Rejection


def settle(
    symmetry: Symmetry, stated_cell: CellItems, sites: Sites, statements: Statements, *, trust_atoms: bool = False
) -> Candidate | Rejection:
    """The reading that fits cell and content.

    Args:
        symmetry: The readings that the statements allow.
        stated_cell: As stated.
        sites: The atom list.
        statements: What the file says of its content.
        trust_atoms: Take a reading that contradicts the content, too.

    Returns:
        The one reading of the first group with any that fits; a refusal that names two where several make different
        crystals, or says why none fits.
    """
    refused: list[Candidate] = []
    unfit: list[Unfit] = []
    trusted: list[Candidate] = []
    for tier in symmetry.tiers:
        tried = [_candidate(reading, stated_cell, sites, statements) for reading in tier]
        unfit += [one for one in tried if isinstance(one, Unfit)]
        fitting = [one for one in tried if isinstance(one, Candidate)]
        open_cell = next((one for one in unfit if one.refusal.reason is Reason.BAD_CELL), None)
        if open_cell is not None:
            return open_cell.refusal
        consistent = [one for one in fitting if not one.content.contradictions]
        refused += [one for one in fitting if one.content.contradictions]
        trusted = trusted or fitting
        if consistent:
            chosen = _chosen(consistent, statements, sites)
            if isinstance(chosen, Rejection):
                return chosen
            against = [f"{one.reading.name}: {'; '.join(one.content.contradictions)}" for one in refused]
            against += [one.refusal.detail for one in unfit]
            return replace(chosen, dismissed=tuple(against)) if against else chosen
    return _chosen(trusted, statements, sites) if trusted and trust_atoms else _why_none(refused, unfit)


def _chosen(candidates: list[Candidate], statements: Statements, sites: Sites) -> Candidate | Rejection:
    """The one crystal that the candidates are, those preferred for which the statements hold exactly."""
    if len(candidates) > 1:
        candidates = [one for one in candidates if _is_exact(one, statements, sites)] or candidates
    return _only(candidates)


def _candidate(reading: Reading, stated_cell: CellItems, sites: Sites, statements: Statements) -> Candidate | Unfit:
    operations = reading.operations
    parameters = complete(stated_cell, operations, reading.name)
    if isinstance(parameters, Rejection):
        return Unfit(reading, parameters)
    unit_cell = gemmi.UnitCell(*parameters)
    lattice = np.array(unit_cell.orth.mat.tolist()).T
    if len(operations) == 1:
        return _as_listed(reading, parameters, lattice, unit_cell.volume, sites, statements)
    strain = operations.strain(lattice)
    if strain > STRAIN_TOLERANCE:
        stated = " ".join(f"{value:g}" for value in parameters)
        change = f"lengths or angles change by {50 * strain:.2g} %"
        detail = f"{reading.name} {DOES_NOT_FIT} {stated} as it is ({change})"
        return Unfit(reading, Rejection(Reason.CONTRADICTORY, detail))
    orbits = [orbit(k, sites, operations.rotations, operations.translations, lattice) for k in range(len(sites))]
    if _is_whole_cell(sites, orbits, lattice):
        return _as_listed(reading, parameters, lattice, unit_cell.volume, sites, statements)
    sizes = [len(images) for images in orbits]
    centring = int((operations.rotations == np.eye(3)).all(axis=(1, 2)).sum())
    content = judge(statements, sites, sizes, order=len(operations), centring=centring, volume=unit_cell.volume)
    numbers = np.repeat(np.array(content.numbers, dtype=np.int64), sizes)
    cell = Cell(lattice, np.concatenate(orbits), numbers)
    return Candidate(reading, parameters, cell, content, sizes)


def _as_listed(
    reading: Reading,
    parameters: tuple[float, ...],
    lattice: NDArray[np.float64],
    volume: float,
    sites: Sites,
    statements: Statements,
) -> Candidate:
    """The sites of the list are all atoms of the cell."""
    sizes = [1] * len(sites)
    content = judge(statements, sites, sizes, order=1, centring=1, volume=volume)
    positions = sites.positions - np.floor(sites.positions)
    cell = Cell(lattice, positions, np.array(content.numbers, dtype=np.int64))
    return Candidate(reading, parameters, cell, content, sizes, all_listed=len(reading.operations) > 1)


def _is_exact(candidate: Candidate, statements: Statements, sites: Sites) -> bool:
    """Whether the statements hold as the dictionary defines them: Z and multiplicities count in the cell as given."""
    if candidate.all_listed:
        return True
    if statements.units is not None and statements.formula is None:
        return gcd(*candidate.cell.amounts.values()) == statements.units  # Z counts the reduced formula
    if statements.units is not None and statements.formula is not None:
        units = units_in_cell(statements.formula, candidate.cell.amounts)
        if units is None or not units[0] * 0.999 <= statements.units <= units[1] * 1.001:
            return False
    return all(
        not text or float(gemmi.cif.as_number(text)) == size
        for text, size in zip(sites.multiplicities, candidate.sizes, strict=False)
    )


def _is_whole_cell(sites: Sites, orbits: list[NDArray[np.float64]], lattice: NDArray[np.float64]) -> bool:
    """Whether all images of all sites are in the list, each site once: programs write such lists beside a symmetry."""
    listed = sites.positions
    if len(orbits[0]) > len(listed) or sum(map(len, orbits)) == len(listed):
        return False
    for k, images in enumerate(orbits):
        alike = np.array([readings == sites.readings[k] for readings in sites.readings])
        near = _near(images, listed[alike], lattice)
        if not near.any(axis=1).all():
            return False
    return bool(_near(listed, listed, lattice).sum() == len(listed))


def _near(first: NDArray[np.float64], second: NDArray[np.float64], lattice: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the points (N, 3) and (M, 3) are one point of the crystal."""
    return np.asarray(distances(first[:, None] - second[None], lattice) < MERGE_ANGSTROM)


def _only(candidates: list[Candidate]) -> Candidate | Rejection:
    """The candidate, if all of them are one crystal."""
    first = candidates[0]
    for other in candidates[1:]:
        if not _same(first.cell, other.cell):
            names, formulas = zip(*((c.reading.name, _formula(c.cell)) for c in (first, other)), strict=True)
            held = [f"{formula} with {name}" for name, formula in zip(names, formulas, strict=True)]
            if len(set(formulas)) == 1:
                held = [f"{formulas[0]} in the places of {names[0]}", f"of {names[1]}"]
            return Rejection(Reason.AMBIGUOUS, f"the cell holds {' or '.join(held)}, and nothing in the file decides")
    if first.content.open:
        return Rejection(Reason.AMBIGUOUS, first.content.open)
    return first


def _same(one: Cell, other: Cell) -> bool:
    """Whether two cells hold the same atoms in the same places."""
    if len(one) != len(other) or not np.allclose(one.lattice, other.lattice, atol=1e-6):
        return False
    near = _near(one.positions, other.positions, one.lattice) & (one.numbers[:, None] == other.numbers[None])
    return bool(near.any(axis=1).all() and near.any(axis=0).all())


def _formula(cell: Cell) -> str:
    return written(cell.amounts, reduced=False)


def _why_none(refused: list[Candidate], unfit: list[Unfit]) -> Rejection:
    if not refused:
        return unfit[0].refusal
    said = {"; ".join(one.content.contradictions): one.reading.name for one in reversed(refused[:2])}
    if len(said) == 1:
        detail = next(iter(said))
    else:
        detail = "; ".join(f"as {name}: {contradiction}" for contradiction, name in reversed(said.items()))
    return Rejection(Reason.CONTRADICTORY, detail)
