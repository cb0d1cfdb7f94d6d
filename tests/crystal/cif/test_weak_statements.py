"""Statements that say less than a group cannot stand alone, and Z decides what a number leaves open."""

import pytest

from crystallm.crystal.cell import Reason
from crystallm.crystal.cif import read_with_reasons
from crystallm.crystal.cif.reasons import reasons
from tests.crystal.cif.test_symmetry_of_cifs import NACL, WHOLE_NACL, Z4, amounts, cif, refused


@pytest.mark.parametrize(
    ("item", "word"),
    [
        ("_space_group.point_group_H-M 'm -3 m'", "point group m -3 m"),
        ("_space_group_Laue_class m-3m", "Laue class m-3m"),
        ("_space_group_Bravais_type cF", "Bravais type cF"),
        ("_space_group_Patterson_name_H-M 'F m -3 m'", "Patterson group F m -3 m"),
    ],
)
def test_what_says_less_than_a_group_cannot_stand_alone(item: str, word: str) -> None:
    refused(cif(item, NACL), Reason.AMBIGUOUS, word)
    assert amounts(cif(item + Z4, WHOLE_NACL)) == {"Na": 4, "Cl": 4}


def test_the_group_of_a_parent_is_no_group_of_the_crystal() -> None:
    refused(cif("_parent_space_group.name_H-M_alt 'F m -3 m'", NACL), Reason.UNREADABLE, "parent")
    both = "_space_group_IT_number 225\n_parent_space_group.IT_number 221"
    assert amounts(cif(both, NACL)) == {"Na": 4, "Cl": 4}


def test_the_reference_setting_of_the_dictionary_names_the_group() -> None:
    assert amounts(cif("_space_group.reference_setting '225:-F 4 2 3'", NACL)) == {"Na": 4, "Cl": 4}


def test_a_number_whose_setting_a_transformation_states_needs_operators() -> None:
    moved = "_space_group_IT_number 62\n_space_group.transform_Pp_abc 'c,a,b;0,0,0'"
    refused(cif(moved, "Ag 0.1 0.25 0.3", 5, 6, 7, 90, 90, 90), Reason.AMBIGUOUS, "c,a,b")
    same = moved.replace("c,a,b", "a,b,c")
    assert amounts(cif(same, "Ag 0.1 0.25 0.3", 5, 6, 7, 90, 90, 90)) == {"Ag": 4}


@pytest.mark.parametrize(
    ("number", "sites", "cell", "z", "atoms"),
    [
        (227, "Si 0 0 0", (5.43, 5.43, 5.43), 8, {"Si": 8}),
        (227, "Si 0.125 0.125 0.125", (5.43, 5.43, 5.43), 8, {"Si": 8}),
        (141, "Ti 0 0 0\nO 0 0 0.208", (3.785, 3.785, 9.514, 90, 90, 90), 4, {"Ti": 4, "O": 8}),
        (129, "Pb 0.25 0.25 0.2345\nO 0.75 0.25 0", (3.97, 3.97, 5.02, 90, 90, 90), 2, {"Pb": 2, "O": 2}),
    ],
)
def test_z_without_a_formula_decides_the_origin(
    number: int, sites: str, cell: tuple[float, ...], z: int, atoms: dict[str, int]
) -> None:
    stated = f"_space_group_IT_number {number}\n"
    refused(cif(stated, sites, *cell), Reason.AMBIGUOUS, ":1", ":2")
    assert amounts(cif(f"{stated}_cell_formula_units_Z {z}", sites, *cell)) == atoms


@pytest.mark.parametrize(
    "item",
    [
        "_cod_original_sg_symbol_H-M 'F m 3 m'",
        "_cod_original_sg_symbol_Hall '-F 4 2 3'",
        "_cod_original_sg_number 225",
    ],
)
def test_the_group_before_cod_set_it_right_counts_where_nothing_else_is_stated(item: str) -> None:
    assert amounts(cif(item, NACL)) == {"Na": 4, "Cl": 4}
    assert amounts(cif(item.replace("225", "?"), WHOLE_NACL)) == {"Na": 4, "Cl": 4}
    assert amounts(cif(item + "\n_space_group_IT_number 221", NACL)) == {"Na": 1, "Cl": 1}  # the right one


def test_an_original_group_that_is_none_is_refused() -> None:
    refused(cif("_cod_original_sg_symbol_H-M 'F m 7 m'", NACL), Reason.UNREADABLE, "F m 7 m")


@pytest.mark.parametrize(("electrons", "use"), [("112", "not needed"), ("105.4(1)", "contradicts")])
def test_electrons_are_held_against_the_atoms_but_refuse_nothing(electrons: str, use: str) -> None:
    text = cif(f"_space_group_IT_number 225\n_exptl_crystal_F_000 {electrons}", NACL)
    assert amounts(text) == {"Na": 4, "Cl": 4}
    (block,) = read_with_reasons(text)  # type: ignore[misc]
    said = [str(finding) for finding in reasons(block) if "F_000" in finding.text]
    assert said == [f"content: {use}: _exptl_crystal_F_000 {electrons}; the atoms of the cell have 112 electrons"]


@pytest.mark.parametrize(("volume", "use"), [("179.4", "not needed"), ("165.2", "contradicts")])
def test_a_stated_volume_is_held_against_the_cell_but_refuses_nothing(volume: str, use: str) -> None:
    text = cif(f"_space_group_IT_number 225\n_cell_volume {volume}", NACL)
    assert amounts(text) == {"Na": 4, "Cl": 4}
    (block,) = read_with_reasons(text)  # type: ignore[misc]
    (said,) = [finding for finding in reasons(block) if "_cell_volume" in finding.text]
    assert said.use == use
