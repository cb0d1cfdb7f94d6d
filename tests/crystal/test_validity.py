"""Checks of crystals whose verdict one can find by hand."""

import random
import warnings

import numpy as np
import pytest
from pymatgen.core import Element, Lattice, Structure
from pymatgen.io.cif import CifWriter

from crystallm.crystal.checks.bond_lengths import BondLengths, bond_lengths, is_reasonable
from crystallm.crystal.checks.cif_statements import looks_like_formula
from crystallm.crystal.checks.radii import expected_length
from crystallm.crystal.checks.validity import (
    NOT_STATED,
    CheckName,
    check_cif,
    check_structure,
    failed_checks,
    shortest_distance_angstrom,
)

ROCK_SALT = Structure.from_spacegroup(225, Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
RUTILE = Structure.from_spacegroup(
    136, Lattice.tetragonal(4.5937, 2.9587), ["Ti", "O"], [[0, 0, 0], [0.3053] * 2 + [0]]
)
DIAMOND = Structure.from_spacegroup(227, Lattice.cubic(3.567), ["C"], [[0, 0, 0]])
CESIUM_CHLORIDE = Structure.from_spacegroup(221, Lattice.cubic(4.123), ["Cs", "Cl"], [[0, 0, 0], [0.5] * 3])
PEROVSKITE = Structure.from_spacegroup(
    221, Lattice.cubic(3.905), ["Sr", "Ti", "O"], [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0]]
)
IRON = Structure(Lattice.cubic(2.866), ["Fe", "Fe"], [[0, 0, 0], [0.5] * 3])
NAMED = {
    "rock salt": (ROCK_SALT, 225),
    "rutile": (RUTILE, 136),
    "diamond": (DIAMOND, 227),
    "CsCl": (CESIUM_CHLORIDE, 221),
    "perovskite": (PEROVSKITE, 221),
    "iron": (IRON, 229),
}


def symmetric_cif(structure: Structure) -> str:
    return str(CifWriter(structure, symprec=0.01))


@pytest.mark.parametrize("name", NAMED)
def test_textbook_crystals_pass_every_check(name: str) -> None:
    structure, number = NAMED[name]
    checks = check_cif(symmetric_cif(structure))
    assert checks.valid
    assert all(checks[check].passed for check in CheckName)
    assert checks[CheckName.SPACE_GROUP].value == number
    assert checks[CheckName.BOND_LENGTHS].value == 1.0


def test_values_are_the_textbook_ones() -> None:
    checks = check_structure(ROCK_SALT)
    assert checks[CheckName.DISTANCE].value == pytest.approx(2.82)
    assert checks[CheckName.DENSITY].value == pytest.approx(2.16, abs=0.01)
    assert checks[CheckName.FORMULA].reason == NOT_STATED


def test_a_p1_listing_states_no_space_group_unless_it_is_asked_to() -> None:
    listing = str(CifWriter(RUTILE))
    assert check_cif(listing)[CheckName.SPACE_GROUP].reason == NOT_STATED
    strict = check_cif(listing, p1_is_claim=True)
    assert (strict[CheckName.SPACE_GROUP].reason, strict[CheckName.SPACE_GROUP].value) == ("another space group", 136)
    assert not strict.valid


def test_a_space_group_that_the_atoms_do_not_have() -> None:
    # Rutile atoms, listed one by one under the operators of P-1 only, with the symbol of P-1.
    text = str(CifWriter(RUTILE)).replace("'P 1'", "'P -1'").replace("Int_Tables_number   1", "Int_Tables_number   2")
    check = check_cif(text)[CheckName.SPACE_GROUP]
    assert (check.passed, check.reason, check.detail) == (False, "another space group", "stated 2, found 136")


def test_symbol_and_number_that_disagree() -> None:
    text = symmetric_cif(RUTILE).replace("Int_Tables_number   136", "Int_Tables_number   135")
    assert check_cif(text)[CheckName.SPACE_GROUP].reason == "symbol and number disagree"


def test_formula_line_of_another_compound() -> None:
    text = symmetric_cif(RUTILE).replace("_chemical_formula_sum   'Ti2 O4'", "_chemical_formula_sum   'Ti2 O2'")
    checks = check_cif(text)
    assert checks[CheckName.FORMULA].reason == "formula line differs from the atoms"
    assert checks[CheckName.MULTIPLICITY].reason == "multiplicities differ from the formula sum"
    assert not checks.valid


def test_block_name_counts_only_when_it_is_a_formula() -> None:
    assert check_cif(symmetric_cif(RUTILE).replace("data_TiO2", "data_TiO"))[CheckName.FORMULA].passed is False
    assert check_cif(symmetric_cif(RUTILE).replace("data_TiO2", "data_global"))[CheckName.FORMULA].passed
    assert looks_like_formula("TiO2")
    assert not any(map(looks_like_formula, ["I", "1000041", "global", "image0", "Xx2O"]))


def test_formula_sum_of_one_unit_with_z_is_the_same_as_of_the_cell() -> None:
    text = symmetric_cif(RUTILE).replace("'Ti2 O4'", "'O2 Ti'")
    assert check_cif(text)[CheckName.MULTIPLICITY].passed
    wrong = text.replace("_cell_formula_units_Z   2", "_cell_formula_units_Z   4")
    assert not check_cif(wrong)[CheckName.MULTIPLICITY].passed


def test_wrong_multiplicity() -> None:
    text = symmetric_cif(RUTILE).replace("  O  O1  4 ", "  O  O1  2 ")
    check = check_cif(text)[CheckName.MULTIPLICITY]
    assert check.reason == "multiplicities differ from the atoms"
    assert check_cif(text.replace("  O  O1  2 ", "  O  O1  x "))[CheckName.MULTIPLICITY].passed is False


def test_atoms_too_close() -> None:
    close = Structure(Lattice.cubic(5), ["Na", "Cl"], [[0, 0, 0], [0.09, 0, 0]])
    check = check_structure(close)[CheckName.DISTANCE]
    assert (check.passed, check.value) == (False, pytest.approx(0.45))


def test_distance_sees_images_of_the_same_atom() -> None:
    thin = Structure(Lattice.orthorhombic(0.6, 7, 7), ["C"], [[0, 0, 0]])
    assert shortest_distance_angstrom(thin) == pytest.approx(0.6)
    # b - 5a is short although both basis vectors are long.
    skewed = Structure(np.array([[2.0, 0, 0], [10.0, 1.0, 0], [0, 0, 7.0]]), ["C"], [[0, 0, 0]])
    assert shortest_distance_angstrom(skewed) == pytest.approx(1.0)


def test_stretched_rock_salt_has_unreasonable_bonds() -> None:
    # Na+ 1.16 + Cl- 1.67 (pymatgen's average ionic radii) times 1.32 is 3.74 A: beyond it no bond is reasonable.
    assert expected_length(Element("Na"), Element("Cl")) == pytest.approx(1.16 + 1.67)
    stretched = ROCK_SALT.copy()
    stretched.scale_lattice(ROCK_SALT.volume * 1.28**3)
    found = bond_lengths(stretched)
    assert isinstance(found, BondLengths)
    checks = check_structure(stretched)
    assert found.counted == 0 or found.reasonable == found.counted  # 3.61 A is still within
    squeezed = ROCK_SALT.copy()
    squeezed.scale_lattice(ROCK_SALT.volume * 0.6**3)
    check = check_structure(squeezed)[CheckName.BOND_LENGTHS]
    assert (check.passed, check.reason) == (False, "unreasonable bond")
    assert check.value is not None
    assert check.value < 1
    assert checks[CheckName.DISTANCE].passed


def test_bond_rule_at_its_edges() -> None:
    assert is_reasonable(0.681, hydrogen=False)
    assert not is_reasonable(0.679, hydrogen=False)
    assert not is_reasonable(1.321, hydrogen=False)
    assert is_reasonable(2.49, hydrogen=True)
    assert is_reasonable(0.1, hydrogen=True)
    assert not is_reasonable(2.5, hydrogen=True)
    # 0.93 against 3.16: ionic. 2.20 against 3.44: atomic radii 0.25 + 0.60.
    assert expected_length(Element("H"), Element("O")) == pytest.approx(0.85)
    assert expected_length(Element("He"), Element("O")) is None


def test_primitive_iron_is_judged_by_its_own_images() -> None:
    # CrystaLLM's code divides by zero here: every bond leads to an image of the one atom.
    found = bond_lengths(IRON.get_primitive_structure())
    assert isinstance(found, BondLengths)
    assert (found.reasonable, found.counted) == (8, 8)


def test_a_lonely_atom_has_no_bonds() -> None:
    helium = check_structure(Structure(Lattice.cubic(10), ["He"], [[0, 0, 0]]))
    assert (helium[CheckName.BOND_LENGTHS].passed, helium[CheckName.BOND_LENGTHS].reason) == (True, "no bonds")
    assert helium[CheckName.DENSITY].reason == "density out of range"
    sodium = check_structure(Structure(Lattice.cubic(10), ["Na"], [[0, 0, 0]]))
    assert (sodium[CheckName.BOND_LENGTHS].passed, sodium[CheckName.BOND_LENGTHS].reason) == (False, "no bonds")


def test_an_element_without_radius_is_a_reason_not_a_crash() -> None:
    check = check_structure(Structure(Lattice.cubic(2.5), ["Lr", "O"], [[0, 0, 0], [0.5] * 3]))[CheckName.BOND_LENGTHS]
    assert (check.passed, check.reason) == (False, "no radius")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no atoms"),
        ("PK\x03\x04 not a CIF", "unreadable"),
        (symmetric_cif(RUTILE)[:400], "unreadable"),
        (symmetric_cif(RUTILE).replace("0.00000000  1", "0.00000000  0.5"), "disordered"),
        (symmetric_cif(RUTILE).replace("_cell_length_c   2.95870000", "_cell_length_c   nan"), "bad cell"),
        (symmetric_cif(RUTILE).replace("_cell_length_c   2.95870000", "_cell_length_c   29587"), "bad cell"),
    ],
)
def test_unreadable_fails_every_check_with_a_reason(text: str, reason: str) -> None:
    checks = check_cif(text)
    assert checks[CheckName.READABLE].reason == reason
    assert not any(checks[name].passed for name in CheckName)
    assert not checks.valid


def test_corrupted_cifs_never_raise() -> None:
    rng = random.Random(0)
    texts = [symmetric_cif(RUTILE), str(CifWriter(PEROVSKITE))]
    names = [name for name in CheckName if name is not CheckName.BOND_LENGTHS]  # slow; the rest is what reads text
    for _ in range(250):
        text = list(rng.choice(texts))
        start = rng.randrange(len(text))
        match rng.randrange(4):
            case 0:
                del text[start:]
            case 1:
                del text[start : start + rng.randrange(1, 60)]
            case 2:
                text[start] = rng.choice("0123456789.-eE()'\"_ \nxTiO?#;\0")
            case 3:
                other = rng.randrange(len(text))
                text[start : start + 30] = text[other : other + 30]
        check_cif("".join(text), names=names)


def test_a_failed_crystal_fails_every_check() -> None:
    checks = failed_checks("timed out")
    assert not checks.valid
    assert checks.to_json()["density"] == {"passed": False, "reason": "timed out"}


def test_checking_changes_no_global_warning_filter() -> None:
    before = list(warnings.filters)
    check_structure(CESIUM_CHLORIDE)
    assert list(warnings.filters) == before


def test_a_published_cif_with_uncertainties_and_spaces_in_the_symbol() -> None:
    # Quartz as a journal prints it: Z beside the formula of one unit, no type symbols, no multiplicities.
    text = """data_I
_chemical_formula_sum 'O2 Si'
_cell_formula_units_Z 3
_symmetry_space_group_name_H-M 'P 32 2 1'
_cell_length_a 4.9134(2)
_cell_length_b 4.9134(2)
_cell_length_c 5.4052(3)
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Si1 0.4697(1) 0.0 0.66667
O1 0.4135(3) 0.2669(2) 0.7858(2)
"""
    checks = check_cif(text)
    assert checks.valid
    assert checks[CheckName.READABLE].value == 9
    assert checks[CheckName.SPACE_GROUP].value == 154
    assert checks[CheckName.MULTIPLICITY].reason == NOT_STATED
    assert checks[CheckName.DENSITY].value == pytest.approx(2.65, abs=0.01)
