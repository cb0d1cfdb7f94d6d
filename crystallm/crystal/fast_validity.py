"""The checks of `crystallm.crystal.validity` by faster means, for filtering; published numbers come from there.

gemmi reads the CIF, moyopy finds the space group, a neighbour list judges distances and bonds. The rules on formula and
multiplicity are the same functions. `crystallm eval agreement` measures how often both paths agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from pymatgen.core import Composition, Element, Lattice

from crystallm.crystal.cell import Cell, Rejection, parameters_of
from crystallm.crystal.cif import CELL_ITEMS, read_cif_with_items
from crystallm.crystal.claims import Claims, read_claims
from crystallm.crystal.composition import symbol_of
from crystallm.crystal.fast_bonds import judge_bonds
from crystallm.crystal.symmetry import SYMPREC_ANGSTROM, standardize_number
from crystallm.crystal.validity import (
    NOBLE_GASES,
    Check,
    CheckName,
    Checks,
    Unreadable,
    judge_density,
    judge_distance,
    judge_formula,
    judge_multiplicity,
    judge_plausible_density,
    judge_space_group,
    read_subject,
    refuse_cell,
    shortest_in_lattice,
    unreadable_checks,
)

CELL = frozenset(f"_cell_{item}" for item in CELL_ITEMS)
"""What a CIF must state of its cell."""

GRAMS_PER_CM3 = 1.66053906660
"""One atomic mass unit in a cubic angstrom, in g/cm3 (CODATA 2018)."""


@dataclass(frozen=True)
class FastSubject:
    """What a fast check looks at: all atoms of the cell, and what the CIF claims about them."""

    cell: Cell
    composition: Composition
    claims: Claims
    p1_is_claim: bool = False


def check_cif_fast(text: str, *, names: Sequence[CheckName] = tuple(CheckName), p1_is_claim: bool = False) -> Checks:
    """Check anyone's CIF; an unreadable one fails every check. Options as in `check_cif`.

    moyopy may hang on odd cells: run it with a time limit on texts nobody vouches for (`run_limited`).
    """
    subject = _read(text, p1_is_claim)
    if isinstance(subject, Unreadable):
        return unreadable_checks(subject, names)
    return Checks({check: FAST_CHECKS[check](subject) for check in names})


def _read(text: str, p1_is_claim: bool) -> FastSubject | Unreadable:
    found = read_cif_with_items(text)
    if isinstance(found, Rejection) or not found[2].keys() >= CELL:
        # pymatgen forgives other mistakes than gemmi does: what is broken takes the slower reader.
        forgiven = read_subject(text, p1_is_claim=p1_is_claim)
        if isinstance(forgiven, Unreadable):
            return forgiven
        cell, claims = Cell.from_structure(forgiven.structure), forgiven.claims
    else:
        cell, claims = found[0], read_claims(found[1], found[2])
        *lengths, alpha, beta, gamma = parameters_of(cell.lattice)
        refusal = refuse_cell(lengths, (alpha, beta, gamma), cell.volume)
        if refusal is not None:
            return refusal
    composition = Composition({symbol_of(number): count for number, count in cell.amounts.items()})
    return FastSubject(cell, composition, claims, p1_is_claim)


def density_of(cell: Cell) -> float:
    """Density in g/cm3."""
    mass = sum(_mass(number) * count for number, count in cell.amounts.items())
    return mass / cell.volume * GRAMS_PER_CM3


@cache
def _mass(number: int) -> float:
    return float(Element(symbol_of(number)).atomic_mass)


def _bond_lengths(subject: FastSubject) -> Check:
    found = judge_bonds(subject.cell)
    if found.reason == "no bonds":
        noble = all(symbol_of(number) in NOBLE_GASES for number in subject.cell.amounts)
        return Check(noble, found.reason, "no bond at all")
    return Check(not found.reason, found.reason, found.detail)


def _distance(subject: FastSubject) -> Check:
    return judge_distance(shortest_in_lattice(Lattice(subject.cell.lattice), subject.cell.positions))


FAST_CHECKS: Mapping[CheckName, Callable[[FastSubject], Check]] = {
    CheckName.READABLE: lambda s: Check(True, value=float(len(s.cell))),
    CheckName.FORMULA: lambda s: judge_formula(s.composition, s.claims),
    CheckName.MULTIPLICITY: lambda s: judge_multiplicity(s.composition, s.claims),
    CheckName.SPACE_GROUP: lambda s: judge_space_group(
        s.claims, lambda: standardize_number(s.cell, symprec_angstrom=SYMPREC_ANGSTROM), p1_is_claim=s.p1_is_claim
    ),
    CheckName.BOND_LENGTHS: _bond_lengths,
    CheckName.DISTANCE: _distance,
    CheckName.DENSITY: lambda s: judge_density(density_of(s.cell)),
    CheckName.PLAUSIBLE_DENSITY: lambda s: judge_plausible_density(s.composition, s.cell.volume, density_of(s.cell)),
}
"""The fast path: the same names as `crystallm.crystal.validity.CHECKS`."""
