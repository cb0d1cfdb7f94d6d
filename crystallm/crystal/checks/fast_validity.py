"""The checks of `crystallm.crystal.checks.validity` by faster means, for filtering; published numbers come from there.

Both paths take the atoms that `read_cif` finds. moyopy finds the space group, a neighbour list judges distances and
bonds. The rules on formula and multiplicity are the same functions. `crystallm eval agreement` measures how often both
paths agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

from pymatgen.core import Element, Lattice

from crystallm.crystal.cell import GRAMS_PER_CM3, Cell
from crystallm.crystal.checks.bond_lengths import NO_BONDS
from crystallm.crystal.checks.fast_bonds import judge_bonds
from crystallm.crystal.checks.subject import Subject, Unreadable, read_subject
from crystallm.crystal.checks.validity import (
    Check,
    CheckName,
    Checks,
    judge_density,
    judge_distance,
    judge_formula,
    judge_multiplicity,
    judge_plausible_density,
    judge_space_group,
    shortest_in_lattice,
    unreadable_checks,
    without_bonds,
)
from crystallm.crystal.formulas.composition import symbol_of
from crystallm.crystal.symmetry import SYMPREC_ANGSTROM, standardize_number


def check_cif_fast(text: str, *, names: Sequence[CheckName] = tuple(CheckName), p1_is_claim: bool = False) -> Checks:
    """Check anyone's CIF; an unreadable one fails every check. Options as in `check_cif`.

    moyopy may hang on odd cells: run it with a time limit on texts nobody vouches for (`run_limited`).
    """
    subject = read_subject(text, p1_is_claim=p1_is_claim)
    if isinstance(subject, Unreadable):
        return unreadable_checks(subject, names)
    return Checks({check: FAST_CHECKS[check](subject) for check in names})


def density_of(cell: Cell) -> float:
    """Density in g/cm3."""
    mass = sum(_mass(number) * count for number, count in cell.amounts.items())
    return mass / cell.volume * GRAMS_PER_CM3


@cache
def _mass(number: int) -> float:
    return float(Element(symbol_of(number)).atomic_mass)


def _bond_lengths(subject: Subject) -> Check:
    found = judge_bonds(subject.cell)
    if found.reason == NO_BONDS:
        return without_bonds(subject)
    return Check(not found.reason, found.reason, found.detail)


def _distance(subject: Subject) -> Check:
    return judge_distance(shortest_in_lattice(Lattice(subject.cell.lattice), subject.cell.positions))


FAST_CHECKS: Mapping[CheckName, Callable[[Subject], Check]] = {
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
"""The fast path: the same names as `crystallm.crystal.checks.validity.CHECKS`."""
