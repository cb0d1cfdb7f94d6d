"""Verdicts on CIFs as people write them: both paths read the same atoms, and judge what is claimed, no more."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from crystallm.crystal.cell import Cell
from crystallm.crystal.checks.cif_statements import counted_atoms, formula_in_name, read_claims
from crystallm.crystal.checks.fast_validity import check_cif_fast
from crystallm.crystal.checks.validity import (
    NOT_STATED,
    CheckName,
    Checks,
    check_cif,
    check_structure,
    undecided_checks,
)

CASES = Path(__file__).parent / "verdict_cases"
PATHS = pytest.mark.parametrize("check", [check_cif, check_cif_fast], ids=["reference", "fast"])
Checker = Callable[[str], Checks]

ROCK_SALT = """data_{name}
{lines}
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'F m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
{tag}
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na1 Na {first} 0 0 0
Cl1 Cl {second} 0.5 0.5 0.5
"""


def rock_salt(
    first: str = "4",
    second: str = "4",
    *,
    name: str = "x",
    lines: str = "",
    tag: str = "_atom_site_symmetry_multiplicity",
) -> str:
    return ROCK_SALT.format(first=first, second=second, name=name, lines=lines, tag=tag)


@PATHS
@pytest.mark.parametrize("case", sorted(file.stem for file in CASES.glob("*.cif") if not file.stem.startswith("q04")))
def test_true_crystals_are_valid(case: str, check: Checker) -> None:
    checks = check((CASES / f"{case}.cif").read_text())
    assert {name: found.reason for name, found in checks.by_name.items() if not found.passed} == {}
    assert checks.valid


@PATHS
@pytest.mark.parametrize("case", ["q04_vacancy_label", "q04b_typo_element"])
def test_a_site_of_unknown_species_is_no_crystal(case: str, check: Checker) -> None:
    checks = check((CASES / f"{case}.cif").read_text())
    assert (checks.valid, checks[CheckName.READABLE].reason) == (False, "unknown species")


@PATHS
@pytest.mark.parametrize(
    ("first", "second"),
    [("4", "4"), ("4.0", "4.0"), ("4.000", "4"), ("4", "?"), (".", "4.0"), ("?", "."), ("4(0)", "4")],
)
def test_multiplicities_in_any_spelling_and_for_some_sites(first: str, second: str, check: Checker) -> None:
    checks = check(rock_salt(first, second, lines="_chemical_formula_sum 'Na4 Cl4'"))
    assert checks[CheckName.MULTIPLICITY].passed
    assert checks.valid


@PATHS
@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("4.0", "8.0", "multiplicities differ from the atoms"),
        ("8", "?", "multiplicities differ from the atoms"),
        ("2", "4", "multiplicities differ from the atoms"),
        ("4.5", "4", "multiplicity is no whole number"),
        ("0", "4", "multiplicity is no whole number"),
        ("inf", "4", "multiplicity is no whole number"),
        ("four", "4", "multiplicity is no whole number"),
    ],
)
def test_wrong_multiplicities_are_named(first: str, second: str, reason: str, check: Checker) -> None:
    checks = check(rock_salt(first, second))
    assert (checks.valid, checks[CheckName.MULTIPLICITY].reason) == (False, reason)


@pytest.mark.parametrize(
    "tag",
    [
        "_atom_site_symmetry_multiplicity",
        "_atom_site_site_symmetry_multiplicity",
        "_atom_site.site_symmetry_multiplicity",
        "_ATOM_SITE_SYMMETRY_MULTIPLICITY",
    ],
)
def test_multiplicities_under_every_name_of_the_item(tag: str) -> None:
    assert check_cif_fast(rock_salt("8", "4", tag=tag))[CheckName.MULTIPLICITY].reason != NOT_STATED
    assert check_cif_fast(rock_salt("4", "4", tag=tag)).valid


def test_some_sites_of_an_element_may_be_silent() -> None:
    composition = Structure(Lattice.cubic(3), ["Ti", "O", "O"], [[0] * 3, [0.5, 0, 0], [0, 0.5, 0]]).composition
    block = {
        "_atom_site_label": ["ti1", "o1", "o2"],
        "_atom_site_symmetry_multiplicity": ["1.0", "1", "?"],
    }
    found = counted_atoms(read_claims("x", block), composition)
    assert found is not None
    assert (dict(found.atoms), found.partly) == ({"Ti": 1, "O": 1}, frozenset({"O"}))


@PATHS
@pytest.mark.parametrize("name", ["CIF", "CO2", "HS1", "NO1", "PBCN", "VC1", "COCS", "BIN2", "I", "1000041", "NACL01"])
def test_block_names_of_element_symbols_are_names(name: str, check: Checker) -> None:
    checks = check(rock_salt(name=name))
    assert (checks.valid, checks[CheckName.FORMULA].reason) == (True, NOT_STATED)


@PATHS
def test_block_names_that_are_meant_as_formula_are_judged(check: Checker) -> None:
    assert check(rock_salt(name="NaCl"))[CheckName.FORMULA].reason == ""
    assert check(rock_salt(name="Na4Cl4")).valid
    assert check(rock_salt(name="NaCl2"))[CheckName.FORMULA].reason == "formula line differs from the atoms"
    written = rock_salt(name="KBr", lines="_chemical_formula_structural NaCl")
    assert check(written)[CheckName.FORMULA].reason == "formula line differs from the atoms"


def test_a_refcode_beside_a_formula_sum_is_a_name() -> None:
    claims = read_claims("CO2", {"_chemical_formula_sum": "O2 Ti"})
    assert formula_in_name(claims, Structure(Lattice.cubic(3), ["Ti"], [[0] * 3]).composition) is None


@pytest.mark.parametrize("apart", [0.0, 1e-6, 1e-3, 0.09])
@pytest.mark.parametrize("elements", [("Na", "Cl"), ("Si", "Si"), ("H", "O")])
@PATHS
def test_atoms_in_one_place_are_named_and_invalid(elements: tuple[str, str], apart: float, check: Checker) -> None:
    structure = Structure(Lattice.cubic(4), elements, [[0.1, 0.2, 0.3], [0.1 + apart / 4, 0.2, 0.3]])
    checks = check(str(CifWriter(structure, significant_figures=12)))
    assert (checks.valid, checks[CheckName.BOND_LENGTHS].reason) == (False, "atoms coincide")
    assert checks[CheckName.DISTANCE].reason == "atoms too close"


def test_random_cells_get_one_verdict_on_bonds_from_both_paths() -> None:
    # In such cells near neighbours need not be bonded: CrystalNN may find that no bond at all is most likely.
    found = 0
    rng = np.random.default_rng(1)
    for _ in range(80):
        size = int(rng.integers(2, 9))
        numbers = rng.choice([6, 8, 11, 12, 17, 20, 26, 30, 38, 47, 55, 56, 79], size=size).astype(np.int64)
        lattice = np.array(Lattice.from_parameters(*rng.uniform(3, 12, 3), *rng.uniform(70, 110, 3)).matrix)
        cell = Cell(lattice, rng.random((size, 3)), numbers)
        reference = check_structure(cell, names=[CheckName.BOND_LENGTHS])[CheckName.BOND_LENGTHS]
        fast = check_cif_fast(str(CifWriter(cell.to_structure(), significant_figures=12)))[CheckName.BOND_LENGTHS]
        assert fast.passed == reference.passed, (reference, fast)
        found += reference.reason == "no bonds"
    assert found > 0


def test_no_verdict_is_neither_valid_nor_invalid() -> None:
    checks = undecided_checks("timed out", "after 1 s")
    assert (checks.valid, checks.undecided) == (False, True)
    assert Checks.from_json(checks.to_json()) == checks
    decided = check_cif(rock_salt())
    assert not decided.undecided
    assert "undecided" not in decided.to_json()
    formula = check_cif(rock_salt(name="NaCl2"))[CheckName.FORMULA]
    failed = Checks({**checks.by_name, CheckName.FORMULA: formula})
    assert (failed.valid, failed.undecided) == (False, False)


@PATHS
@pytest.mark.parametrize(
    "content",
    [
        "_cell_formula_units_Z 3",
        "_chemical_formula_sum 'Na Cl'\n_cell_formula_units_Z 8",
        "_chemical_formula_moiety 'K 1+, Cl 1-'",
        "_chemical_formula_weight 74.55\n_cell_formula_units_Z 4",
        "_exptl_crystal_density_diffrn 1.98",
        "_chemical_formula_sum '(Na,K) Cl'",
    ],
)
def test_what_the_reader_finds_against_the_atoms_is_not_valid(check: Checker, content: str) -> None:
    verdicts = check(rock_salt(lines=content))
    assert not verdicts.valid
    assert not verdicts[CheckName.FORMULA].passed


@PATHS
@pytest.mark.parametrize("content", ["_chemical_formula_sum 'CL NA'", "_symmetry_Int_Tables_number 225.0"])
def test_spellings_that_the_reader_understands_are_valid(check: Checker, content: str) -> None:
    verdicts = check(rock_salt(lines=content))
    assert all(verdicts[name].passed for name in CheckName)
