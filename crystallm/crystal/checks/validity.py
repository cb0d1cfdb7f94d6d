"""Named checks of one crystal, each with its reason: the reference path (spglib, CrystalNN, pymatgen's densities).

Formula, multiplicity, bond lengths and space group are those of CrystaLLM (Antunes et al., Nat. Commun. 2024); together
they make `valid`. Distance, density, and whether the density is one for the composition are reported beside them.
docs/explanation/eval.md says where we had to decide ourselves. The atoms are those of `read_cif`, in both paths.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Composition, Lattice, Structure

from crystallm.base.errors import SymmetryError
from crystallm.crystal.cell import Cell
from crystallm.crystal.checks.bond_lengths import COINCIDENT, COINCIDENT_ANGSTROM, NO_BONDS, NoBondLengths, bond_lengths
from crystallm.crystal.checks.cif_statements import Claims, counted_atoms, formula_in_name, formula_of, whole_number
from crystallm.crystal.checks.subject import Subject, Unreadable, read_subject, refuse
from crystallm.crystal.cif.content import units_in_cell
from crystallm.crystal.cif.formula_sum import stated_formula
from crystallm.crystal.formulas.composition import symbol_of
from crystallm.crystal.symmetry import SYMPREC_ANGSTROM, space_group_from_name, space_group_number
from crystallm.crystal.volumes import load_volumes

SHORTEST_DISTANCE_ANGSTROM = 0.5
DENSITY_RANGE_G_CM3 = (0.05, 30.0)

NOBLE_GASES = frozenset({"He", "Ne", "Ar", "Kr", "Xe", "Rn"})

NOT_STATED = "not stated"
"""Reason of a check that passes because the CIF claims nothing that could be wrong; counted apart in reports."""

NOT_KNOWN = "elements not known"
"""Reason of a check that passes because nothing is known of the volume of an element; counted apart in reports."""


class CheckName(StrEnum):
    """The checks, in the order in which they are reported."""

    READABLE = "readable"
    FORMULA = "formula"
    MULTIPLICITY = "multiplicity"
    SPACE_GROUP = "space group"
    BOND_LENGTHS = "bond lengths"
    DISTANCE = "shortest distance"
    DENSITY = "density"
    PLAUSIBLE_DENSITY = "plausible density"


VALID = (CheckName.READABLE, CheckName.FORMULA, CheckName.MULTIPLICITY, CheckName.SPACE_GROUP, CheckName.BOND_LENGTHS)
"""What a crystal must pass to be called valid, as CrystaLLM counts."""


@dataclass(frozen=True)
class Check:
    """The verdict of one check. `reason` is short and countable, `detail` is for people."""

    passed: bool
    reason: str = ""
    detail: str = ""
    value: float | None = None
    undecided: bool = False
    """Whether there is no verdict, because time or memory ran out; `passed` is False then."""

    def to_json(self) -> dict[str, Any]:
        """The verdict as a JSON object; empty fields are left out."""
        rest = {"reason": self.reason, "detail": self.detail, "value": self.value}
        mark = {"undecided": True} if self.undecided else {}
        return {"passed": self.passed} | {key: value for key, value in rest.items() if value not in ("", None)} | mark

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Check:
        """The verdict that `to_json` wrote."""
        return cls(**value)


@dataclass(frozen=True)
class Checks:
    """The verdicts of one crystal by name of the check."""

    by_name: Mapping[CheckName, Check]

    def __getitem__(self, name: CheckName) -> Check:
        return self.by_name[name]

    @property
    def valid(self) -> bool:
        """Whether every check that makes a crystal valid was made and passed."""
        return all(name in self.by_name and self.by_name[name].passed for name in VALID)

    @property
    def undecided(self) -> bool:
        """Whether it is not known if the crystal is valid: no check failed, and one gave no verdict."""
        found = [self.by_name[name] for name in VALID if name in self.by_name]
        return any(one.undecided for one in found) and all(one.passed or one.undecided for one in found)

    def to_json(self) -> dict[str, Any]:
        """All verdicts as a JSON object."""
        mark = {"undecided": True} if self.undecided else {}
        return {"valid": self.valid} | mark | {str(name): check.to_json() for name, check in self.by_name.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Checks:
        """The verdicts that `to_json` wrote."""
        return cls({name: Check.from_json(value[name]) for name in CheckName if name in value})


def check_cif(text: str, *, names: Sequence[CheckName] = tuple(CheckName), p1_is_claim: bool = False) -> Checks:
    """Check anyone's CIF; an unreadable one fails every check.

    p1_is_claim: CIFs that list all atoms under the trivial group `P 1` claim a space group (CrystaLLM), instead of
    none (default).
    """
    return _check(read_subject(text, p1_is_claim=p1_is_claim), names)


def check_structure(structure: Structure | Cell, *, names: Sequence[CheckName] = tuple(CheckName)) -> Checks:
    """Check a structure, which claims nothing beyond its atoms."""
    return _check(_subject_of(structure), names)


def failed_checks(reason: str, detail: str = "") -> Checks:
    """The verdict on a crystal that cannot be checked, such as a broken file: every check fails."""
    return Checks({name: Check(False, reason, detail) for name in CheckName})


def undecided_checks(reason: str, detail: str = "") -> Checks:
    """No verdict, on a crystal whose checks did not come to an end (time limit, memory): every check is undecided.

    Example:
        >>> checks = undecided_checks("timed out", "after 60 s")
        >>> checks.valid, checks.undecided
        (False, True)
    """
    return Checks({name: Check(False, reason, detail, undecided=True) for name in CheckName})


def shortest_distance_angstrom(structure: Structure) -> float:
    """The shortest distance between two atoms, periodic images of the same atom included."""
    return shortest_in_lattice(structure.lattice, structure.frac_coords)


def shortest_in_lattice(lattice: Lattice, positions: NDArray[np.float64]) -> float:
    """The same for a lattice and fractional positions (N, 3)."""
    between = lattice.get_all_distances(positions, positions)
    np.fill_diagonal(between, np.inf)
    # The shortest vector of a lattice has coefficients -1, 0 or 1 in a reduced basis.
    coefficients = np.array([c for c in itertools.product((-1, 0, 1), repeat=3) if any(c)])
    own_images = np.linalg.norm(coefficients @ lattice.get_lll_reduced_lattice().matrix, axis=1)
    return float(min(between.min(), own_images.min()))


def unreadable_checks(subject: Unreadable, names: Sequence[CheckName]) -> Checks:
    """The verdict on what is no crystal: every check fails, the first one with the reason."""
    rest = Check(False, "not readable")
    return Checks({n: Check(False, subject.reason, subject.detail) if n is CheckName.READABLE else rest for n in names})


def _check(subject: Subject | Unreadable, names: Sequence[CheckName]) -> Checks:
    if isinstance(subject, Unreadable):
        return unreadable_checks(subject, names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns of every noble gas that it has no electronegativity
        return Checks({name: CHECKS[name](subject) for name in names})


def _subject_of(structure: Structure | Cell) -> Subject | Unreadable:
    if isinstance(structure, Structure):
        if not structure.is_ordered:
            return Unreadable("disordered", "a site is shared or partly occupied")
        strange = sorted({str(site.specie) for site in structure if getattr(site.specie, "Z", 0) < 1})
        if strange:
            return Unreadable("unknown species", ", ".join(strange))
        structure = Cell.from_structure(structure)
    return refuse(structure) or Subject(structure, Claims())


def judge_formula(composition: Composition, claims: Claims) -> Check:
    """Formula lines, and a block name that is meant as a formula, reduce to the formula of the atoms.

    So does whatever else the file says of its content (Z, moieties, attached hydrogens, density): a crystal that the
    reader refuses elsewhere is not valid here.
    """
    stated = {
        "data_": formula_in_name(claims, composition),
        "sum": claims.formula_sum,
        "structural": claims.formula_structural,
    }
    of_atoms = composition.reduced_formula
    for line, text in stated.items():
        if text is None or (line == "sum" and _is_sum(text, composition)):
            continue
        named = formula_of(text)
        if named is None:
            return Check(False, "formula line is no formula", f"{line}: {text!r}")
        if named.reduced_formula != of_atoms:
            return Check(False, "formula line differs from the atoms", f"{line}: {text!r}, atoms: {of_atoms}")
    if claims.contradictions:
        return Check(False, "content differs from the atoms", "; ".join(claims.contradictions))
    return Check(True, "" if any(stated.values()) else NOT_STATED)


def _is_sum(text: str, composition: Composition) -> bool:
    """Whether the reader finds a formula sum in agreement with the atoms: in capitals, charged, or rounded."""
    stated = stated_formula(text)
    counts = {element.Z: round(count) for element, count in composition.items()}
    return stated is not None and units_in_cell(stated, counts) is not None


def judge_multiplicity(composition: Composition, claims: Claims) -> Check:
    """Stated multiplicities add up to the atoms of the cell and to the formula sum, given for the cell or one unit."""
    if not claims.multiplicities:
        return Check(True, NOT_STATED)
    stated = counted_atoms(claims, composition)
    if stated is None:
        return Check(False, "multiplicity is no whole number", ", ".join(s.multiplicity for s in claims.multiplicities))
    atoms = {str(element): round(count) for element, count in composition.items()}
    missing = {symbol: count - stated.atoms[symbol] for symbol, count in atoms.items()}
    if stated.atoms.keys() - atoms or any(left if s not in stated.partly else left < 0 for s, left in missing.items()):
        return Check(False, "multiplicities differ from the atoms", f"stated {dict(stated.atoms)}, atoms {atoms}")
    formula = formula_of(claims.formula_sum) if claims.formula_sum else None
    if formula is None:
        return Check(True)
    units = whole_number(claims.formula_units or "") or 1
    # The dictionary wants the sum for one formula unit and Z beside it; pymatgen and CrystaLLM write the whole cell.
    if not any(composition.almost_equals(formula * times, rtol=1e-6, atol=1e-6) for times in (1, max(units, 1))):
        return Check(
            False, "multiplicities differ from the formula sum", f"{composition.formula}, sum {claims.formula_sum}"
        )
    return Check(True)


def judge_space_group(claims: Claims, find: Callable[[], int | None], *, p1_is_claim: bool) -> Check:
    """The group stated in the CIF is the one found in the expanded structure; `find` is asked only if one is stated."""
    stated: set[int] = set()
    for text in (claims.space_group_number, claims.space_group_symbol):
        if text is not None:
            try:
                stated.add(space_group_from_name(text.removesuffix(".0")))
            except SymmetryError:
                return Check(False, "unknown space group", text)
    if not stated or (stated == {1} and not p1_is_claim):
        return Check(True, NOT_STATED)
    if len(stated) > 1:
        return Check(False, "symbol and number disagree", f"{claims.space_group_symbol}, {claims.space_group_number}")
    found = find()
    if found is None:
        return Check(False, "no symmetry found", f"stated {stated.pop()}")
    if found not in stated:
        return Check(False, "another space group", f"stated {stated.pop()}, found {found}", float(found))
    return Check(True, value=float(found))


def _bond_lengths(subject: Subject) -> Check:
    """Every bond has a reasonable length (score 1); a crystal without bonds passes only if it is a noble gas."""
    shortest = shortest_distance_angstrom(subject.structure)
    if shortest < COINCIDENT_ANGSTROM:
        return coincident(shortest)
    found = bond_lengths(subject.structure)
    if isinstance(found, NoBondLengths):
        return Check(False, found.reason, found.detail)
    if found.score is None:
        return without_bonds(subject)
    if found.reasonable == found.counted:
        return Check(True, value=1.0)
    return Check(False, "unreasonable bond", f"{found.reasonable} of {found.counted}; {found.worst}", found.score)


def coincident(shortest: float) -> Check:
    """The verdict on bonds where two atoms, `shortest` angstrom apart, stand in one place."""
    return Check(False, COINCIDENT, f"two atoms are {shortest:.3f} A apart")


def without_bonds(subject: Subject) -> Check:
    """The verdict on bonds where no atom has one: only noble gases may have none."""
    noble = all(symbol_of(number) in NOBLE_GASES for number in subject.cell.amounts)
    return Check(noble, NO_BONDS, "no bond at all is found")


def judge_distance(shortest: float) -> Check:
    """The shortest distance in angstrom is above that of CDVAE."""
    if shortest > SHORTEST_DISTANCE_ANGSTROM:
        return Check(True, value=shortest)
    return Check(False, "atoms too close", f"{shortest:.3f} A", shortest)


def judge_density(density: float) -> Check:
    """The density in g/cm3 is one that crystals have."""
    low, high = DENSITY_RANGE_G_CM3
    if low <= density <= high and math.isfinite(density):
        return Check(True, value=density)
    return Check(False, "density out of range", f"{density:.3g} g/cm3", density)


def judge_plausible_density(composition: Composition, volume: float, density: float) -> Check:
    """The density is one that crystals of this composition have, by the volumes of observed crystals.

    Args:
        composition: Of the cell.
        volume: Of the cell, cubic angstrom.
        density: g/cm3.
    """
    amounts = tuple((element.symbol, round(count)) for element, count in composition.items())
    expected = load_volumes().expected(amounts)
    if expected is None:
        return Check(True, NOT_KNOWN)
    ratio = volume / sum(count for _, count in amounts) / expected.per_atom
    if expected.low <= ratio <= expected.high:
        return Check(True, value=ratio)
    wanted = density * ratio
    least, most = wanted / expected.high, wanted / expected.low
    detail = f"{density:.3g} g/cm3; {composition.reduced_formula} has {least:.3g} to {most:.3g}"
    return Check(False, "implausible density", detail, ratio)


def _find_space_group(subject: Subject) -> int | None:
    return space_group_number(subject.cell, symprec_angstrom=SYMPREC_ANGSTROM)


CHECKS: Mapping[CheckName, Callable[[Subject], Check]] = {
    CheckName.READABLE: lambda s: Check(True, value=float(len(s.cell))),
    CheckName.FORMULA: lambda s: judge_formula(s.composition, s.claims),
    CheckName.MULTIPLICITY: lambda s: judge_multiplicity(s.composition, s.claims),
    CheckName.SPACE_GROUP: lambda s: judge_space_group(
        s.claims, lambda: _find_space_group(s), p1_is_claim=s.p1_is_claim
    ),
    CheckName.BOND_LENGTHS: _bond_lengths,
    CheckName.DISTANCE: lambda s: judge_distance(shortest_distance_angstrom(s.structure)),
    CheckName.DENSITY: lambda s: judge_density(float(s.structure.density)),
    CheckName.PLAUSIBLE_DENSITY: lambda s: judge_plausible_density(
        s.composition, s.cell.volume, float(s.structure.density)
    ),
}
"""The reference path. `crystallm.crystal.checks.fast_validity` is the fast one, with the same names."""
