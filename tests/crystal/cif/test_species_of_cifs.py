"""What stands in atom lists: type symbols, labels, mixtures, dummies, disorder groups, occupancies, coordinates."""

import numpy as np
import pytest

from crystallm.crystal.cell import Cell, Reason, Rejection
from crystallm.crystal.cif import read_cif
from crystallm.crystal.symmetry import space_group_number
from tests.crystal.cif.small_cifs import BRUCITE, PORTLANDITE_CELL, cif, read, refused, rock_salt


def portlandite(label: str, formula: str | None, place: str = "0.33333 0.66667 0.4248") -> str:
    content = f"_chemical_formula_sum '{formula}'" if formula else ""
    sites = f"Ca1 0 0 0\nO1 0.33333 0.66667 0.2335\n{label} {place}"
    return cif(BRUCITE, "", sites, PORTLANDITE_CELL, content)


@pytest.mark.parametrize(
    ("label", "formula", "element"),
    [
        ("HO1", "Ca O2 H2", "H"),
        ("Ho1", "Ca O2 H2", "H"),
        ("HO1", "Ca O2 Ho2", "Ho"),
        ("Ho1", None, "Ho"),
        ("OS1", "Ca O4", "O"),
        ("OS1", "Ca O2 Os2", "Os"),
        ("CO1", "Ca O2 C2", "C"),
        ("CO1", "Ca O2 Co2", "Co"),
        ("SI2", "Ca O2 Si2", "Si"),
        ("SI2", "Ca O2 S2", "S"),
        ("NP1", "Ca O2 N2", "N"),
        ("CS1", "Ca O2 Cs2", "Cs"),
        ("CN", "Ca O2 C2", "C"),
        ("W1", "Ca O2 W2", "W"),
        ("W1", "Ca O4", "O"),
        ("OW1", "Ca O4", "O"),
        ("Wat1", "Ca O4", "O"),
        ("WatII", "Ca O4", "O"),
        ("HB2", None, "H"),
        ("MG1", None, "Mg"),
        ("mg1", None, "Mg"),
        ("Cs1", None, "Cs"),
        ("FeII", None, "Fe"),
        ("OP1", None, "O"),
        ("C1A", None, "C"),
        ("O_Si1", None, "O"),
        ("D1", "Ca O2 D2", "H"),
    ],
)
def test_a_label_is_the_element_that_case_or_formula_decide(label: str, formula: str | None, element: str) -> None:
    found = read(portlandite(label, formula))
    assert found.pop("Ca") == 1
    assert found == ({"O": 4} if element == "O" else {"O": 2, element: 2})


@pytest.mark.parametrize(
    "label", ["HO1", "CO1", "OS1", "NP1", "CS1", "SI2", "CA2", "W1", "NH4", "CN", "OH", "Oh1", "RE1"]
)
def test_a_label_with_two_readings_and_no_formula_is_refused(label: str) -> None:
    refused(portlandite(label, None), Reason.AMBIGUOUS, repr(label), " or ")


@pytest.mark.parametrize(
    ("label", "readings"),
    [
        ("HO1", "Ho or H"),
        ("W1", "W or the oxygen of water"),
        ("OH", "O or OH"),
        ("CO1", "Co or C or a group of C and O"),
    ],
)
def test_a_refused_label_names_its_readings(label: str, readings: str) -> None:
    refused(portlandite(label, None), Reason.AMBIGUOUS, readings)


def test_amounts_decide_between_two_elements_of_the_crystal() -> None:
    cell = (3.589, 3.589, 4.911, 90, 90, 120)
    sites = "HO1 0 0 0\nO1 0.33333 0.66667 0.2335\nHO2 0.33333 0.66667 0.4248"
    for formula, atoms in (("Ho O2 H2", {"O": 2}), ("H Ho2 O2", {"O": 2})):
        found = read_cif(cif(BRUCITE, "", sites, cell, f"_chemical_formula_sum '{formula}'"))
        assert isinstance(found, Rejection), atoms  # both labels mean one element, and no such choice fits
    one = "HO1 0 0 0\nO1 0.33333 0.66667 0.2335\nH1 0.33333 0.66667 0.4248"
    content = "_chemical_formula_sum 'H2 Ho O2'"
    assert read(cif(BRUCITE, "", one, cell, content)) == {"H": 2, "Ho": 1, "O": 2}


def test_a_label_of_an_element_that_the_formula_lacks() -> None:
    text = portlandite("Zr1", "Ca O2 H2")
    refused(text, Reason.CONTRADICTORY, "'Zr1'", "Zr")
    assert read(text, trust_atoms=True) == {"Ca": 1, "O": 2, "Zr": 2}


def test_a_list_of_atom_types_stands_in_for_the_formula() -> None:
    text = portlandite("HO1", None)
    types = "loop_\n_atom_type_symbol\nCa\nO\nH\n"
    assert read(text + types) == {"Ca": 1, "O": 2, "H": 2}


def test_a_type_symbol_wins_over_the_label() -> None:
    sites = "Ca1 Ca 0 0 0\nHO1 O 0.33333 0.66667 0.2335\nW1 H 0.33333 0.66667 0.4248"
    assert read(cif(BRUCITE, "type_symbol", sites, PORTLANDITE_CELL)) == {"Ca": 1, "O": 2, "H": 2}


def test_water_that_is_known_by_its_label_has_hydrogen() -> None:
    refused(portlandite("O1W", None), Reason.CONTRADICTORY, "'O1W'", "no hydrogen")
    assert read(portlandite("O1W", "Ca O4")) == {"Ca": 1, "O": 4}


@pytest.mark.parametrize("symbol", ["Na", "Na+", "Na1+", "Na+1", "Na1", "NA", "na", "Na(a)", "Naval", "'Na '"])
def test_type_symbols(symbol: str) -> None:
    assert read(rock_salt(sites=f"X1 {symbol} 0 0 0\nCl1 Cl- 0.5 0.5 0.5")) == {"Na": 4, "Cl": 4}


@pytest.mark.parametrize(
    "symbol", ["X", "Xx", "Va", "OH", "NH4", "CN", "M", "REE", "Ln", "T", "Wat", "0x", "26", "Q", "Cg", "Vac"]
)
def test_types_of_no_element_are_refused_not_dropped(symbol: str) -> None:
    sites = f"Na1 Na 0 0 0\nCl1 Cl 0.5 0.5 0.5\nA1 {symbol} 0.25 0.25 0.25"
    refused(rock_salt(sites=sites), Reason.UNKNOWN_SPECIES, "'A1'", symbol)


@pytest.mark.parametrize("symbol", ["'Na,K'", "Na/K", "NaK", "Na0.5K0.5", "'Na+K'", "'(Na,K)'"])
def test_mixed_types_and_labels_are_disorder(symbol: str) -> None:
    refused(rock_salt(sites=f"A1 {symbol} 0 0 0\nCl1 Cl 0.5 0.5 0.5"), Reason.DISORDERED, "Na and K")
    label_only = rock_salt(columns="", sites=f"{symbol} 0 0 0\nCl1 0.5 0.5 0.5")
    refused(label_only, Reason.DISORDERED, "Na and K")


@pytest.mark.parametrize("label", ["MgFe", "SiAl", "NaCa1", "KNa", "CaSr2", "Mg-Fe", "OF1"])
def test_two_elements_that_share_sites_are_a_mixture_in_a_label(label: str) -> None:
    refused(rock_salt(columns="", sites=f"{label} 0 0 0\nCl1 0.5 0.5 0.5"), Reason.DISORDERED, f"{label!r}")


def test_letters_that_count_sites_are_no_mixture() -> None:
    sites = "BeA 0 0 0\nBeB 0.5 0.5 0.5"
    assert read(rock_salt(columns="", sites=sites, content="_chemical_formula_sum 'Be'")) == {"Be": 8}


@pytest.mark.parametrize(
    ("columns", "dummy"),
    [
        ("type_symbol|calc_flag", "Cg1 C 0.25 0.25 0.25 dum"),
        ("type_symbol|calc_flag", "Cg1 C 0.25 0.25 0.25 DUM"),
        ("type_symbol|calc_flag", "X1 dummy 0.25 0.25 0.25 d"),
        ("type_symbol|calc_flag", "Q1 . . . . dum"),
        ("type_symbol|calc_flag", "? ? ? ? ? ?"),
    ],
)
def test_dummy_sites_are_no_atoms(columns: str, dummy: str) -> None:
    sites = f"Na1 Na 0 0 0 d\n{dummy}\nCl1 Cl 0.5 0.5 0.5 calc"
    assert read(rock_salt(columns=columns, sites=sites)) == {"Na": 4, "Cl": 4}


def test_a_list_of_dummies_has_no_atoms() -> None:
    refused(rock_salt(columns="type_symbol|calc_flag", sites="Cg1 C 0 0 0 dum"), Reason.EMPTY)


@pytest.mark.parametrize("column", ["disorder_group", "disorder_assembly"])
@pytest.mark.parametrize("group", ["A", "1", "-1", "2", "a", "I"])
def test_disorder_groups_in_letters_and_numbers(column: str, group: str) -> None:
    sites = f"Na1 Na 0 0 0 .\nCl1 Cl 0.5 0.5 0.5 {group}"
    refused(rock_salt(columns=f"type_symbol|{column}", sites=sites), Reason.DISORDERED, "'Cl1'", repr(group))


@pytest.mark.parametrize("group", [".", "?", "0"])
def test_no_disorder_group(group: str) -> None:
    sites = f"Na1 Na 0 0 0 .\nCl1 Cl 0.5 0.5 0.5 {group}"
    assert read(rock_salt(columns="type_symbol|disorder_group", sites=sites)) == {"Na": 4, "Cl": 4}


@pytest.mark.parametrize(
    ("occupancy", "reason"),
    [
        (".", None),
        ("?", None),
        ("1", None),
        ("1.0(1)", None),
        ("0.9999", None),
        ("0.5", Reason.DISORDERED),
        ("0", Reason.DISORDERED),
        ("1.1", Reason.DISORDERED),
        ("Uiso", Reason.UNREADABLE),
    ],
)
def test_occupancies(occupancy: str, reason: Reason | None) -> None:
    text = rock_salt(columns="type_symbol|occupancy", sites=f"Na1 Na 0 0 0 1\nCl1 Cl 0.5 0.5 0.5 {occupancy}")
    if reason is None:
        assert read(text) == {"Na": 4, "Cl": 4}
    else:
        refused(text, reason, "'Cl1'")


WURTZITE = "_space_group_name_H-M_alt 'P 63 m c'"


@pytest.mark.parametrize("a", [3.25, 12.0, 25.0])
@pytest.mark.parametrize(
    ("third", "two_thirds"), [("0.33", "0.67"), ("0.33", "0.66"), ("0.333", "0.667"), ("1/3", "2/3")]
)
def test_cut_off_thirds_are_on_the_special_position(a: float, third: str, two_thirds: str) -> None:
    sites = f"Zn1 Zn {third} {two_thirds} 0\nO1 O {third} {two_thirds} 0.38"
    found = read_cif(cif(WURTZITE, "type_symbol", sites, (a, a, 5.2, 90, 90, 120)))
    assert isinstance(found, Cell), found
    assert found.amounts == {8: 2, 30: 2}
    assert np.allclose(np.sort(found.positions[:, 0] * 3 % 3), [1, 1, 2, 2])
    assert space_group_number(found) == 186


def test_a_general_position_stays_where_it_is() -> None:
    sites = "Zn1 Zn 0 0 0\nO1 O 0.31 0.69 0.38"
    found = read_cif(cif(WURTZITE, "type_symbol", sites, (9.0, 9.0, 5.2, 90, 90, 120)))
    assert isinstance(found, Cell), found
    assert found.amounts == {8: 6, 30: 2}


@pytest.mark.parametrize("coordinate", ["?", ".", "x", "1/0", "nan", "inf", "1e30", "-4711", "0_1", "1/3/2"])
def test_a_coordinate_that_is_no_number(coordinate: str) -> None:
    refused(rock_salt(sites=f"Na1 Na 0 0 0\nCl1 Cl 0.5 {coordinate} 0.5"), Reason.UNREADABLE, "'Cl1'")


@pytest.mark.parametrize(
    ("symbol", "reason"),
    [
        ("H2O", Reason.UNKNOWN_SPECIES),
        ("H3O", Reason.UNKNOWN_SPECIES),
        ("'Fe Ni'", Reason.DISORDERED),
        ("Fe1Ni1", Reason.DISORDERED),
        ("Fe0.5", Reason.DISORDERED),
    ],
)
def test_types_that_hold_more_or_less_than_one_atom(symbol: str, reason: Reason) -> None:
    refused(rock_salt(sites=f"M1 {symbol} 0 0 0\nCl1 Cl 0.5 0.5 0.5"), reason, "'M1'")


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("Fe1Ni1", Reason.DISORDERED),
        ("Mg1Fe2", Reason.DISORDERED),
        ("H3O", Reason.AMBIGUOUS),
        ("PB", Reason.AMBIGUOUS),
        ("SB1", Reason.AMBIGUOUS),
        ("YB", Reason.AMBIGUOUS),
    ],
)
def test_labels_that_hold_more_than_one_atom_or_reading(label: str, reason: Reason) -> None:
    refused(rock_salt(columns="", sites=f"{label} 0 0 0\nXe1 0.5 0.5 0.5"), reason, f"'{label}'")
