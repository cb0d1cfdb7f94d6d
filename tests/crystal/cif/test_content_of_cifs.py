"""What files say of their content is held against their atoms; species, dummies, mixtures and groups are understood."""

from pathlib import Path

import numpy as np
import pytest

from crystallm.crystal.cell import Cell, Reason
from crystallm.crystal.cif import read_cif, write_cif
from crystallm.crystal.cif.atoms import Sites
from crystallm.crystal.cif.content import Statements, judge, units_in_cell
from crystallm.crystal.cif.formula_sum import stated_formula
from crystallm.crystal.description import Description, describe
from tests.crystal.cif.small_cifs import BRUCITE, BRUCITE_CELL, cif, read, refused, rock_salt

CASES = Path(__file__).parent / "cases"


@pytest.mark.parametrize(
    ("name", "atoms"),
    [
        ("p04_dum", {"Na": 4, "Cl": 4}),
        ("p07_CO_label", {"Ca": 6, "C": 6, "O": 18}),
        ("p07b_HO_label", {"Ca": 1, "O": 2, "H": 2}),
        ("p18_block_CO2", {"Ti": 2, "O": 4}),
        ("q06_ase_nacl", {"Na": 4, "Cl": 4}),
        ("q06_ase_zno", {"Zn": 2, "O": 2}),
        ("q07_bom", {"Sr": 1, "Ti": 1, "O": 3}),
        ("q08c_quartz_0.333", {"Si": 3, "O": 6}),
        ("q10_text_data_", {"Si": 8}),
        ("q15_truncated_33", {"Zn": 2, "O": 2}),
        ("s02c_multiplicity_label_only_charge", {"Mg": 4, "O": 4}),
        ("s02d_multiplicity_upper", {"Mg": 4, "O": 4}),
    ],
)
def test_files_that_are_right(name: str, atoms: dict[str, int]) -> None:
    assert read((CASES / f"{name}.cif").read_text(encoding="utf-8")) == atoms


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("p01d_comma_label", Reason.DISORDERED, ("'Nb,Zr'", "Nb and Zr")),
        ("p02c_W", Reason.CONTRADICTORY, ("Ca S O6 H4", "CaSO6")),
        ("p02d_OH", Reason.CONTRADICTORY, ("Ca O2 H2", "CaO2")),
        ("p03_missing_H", Reason.CONTRADICTORY, ("H2 Mg O2", "MgO2")),
        ("p03c_missing_Li", Reason.CONTRADICTORY, ("Li Co O2", "CoO2")),
        ("p13b_disorder_group_text", Reason.DISORDERED, ("'O1A'", "'A'")),
        ("q04_vacancy_label", Reason.UNKNOWN_SPECIES, ("'Va1'",)),
        ("q04b_typo_element", Reason.UNKNOWN_SPECIES, ("'0x'",)),
        ("u01_NH4_label", Reason.CONTRADICTORY, ("N H4 Cl", "NCl")),
        ("u03_SiAl_REE_labels", Reason.DISORDERED, ("'SiAl1'", "Si and Al")),
    ],
)
def test_files_that_are_refused(name: str, reason: Reason, words: tuple[str, ...]) -> None:
    refused((CASES / f"{name}.cif").read_text(encoding="utf-8"), reason, *words)


BRUCITE_SITES = "Mg1 Mg 0 0 0\nO1 O 0.33333 0.66667 0.2203"
WITH_HYDROGEN = BRUCITE_SITES + "\nH1 H 0.33333 0.66667 0.4300"


def brucite(content: str, sites: str = BRUCITE_SITES, columns: str = "type_symbol") -> str:
    return cif(BRUCITE, columns, sites, BRUCITE_CELL, content)


@pytest.mark.parametrize(
    "content",
    [
        "_chemical_formula_sum 'H2 Mg O2'",
        "_chemical_formula_sum 'Mg(OH)2'",
        "_chemical_formula_sum 'D2 Mg O2'",
        "_chemical_formula_sum 'H2.00 Mg1.00 O2.00'",
        "_chemical_formula_sum 'MG H2 O2'",
        "_chemical_formula_moiety 'Mg 2+, 2(H O 1-)'",
        "_chemical_formula_structural 'Mg (O H)2'",
        "_chemical_formula_sum 'H4 Mg2 O4'",
    ],
)
def test_lost_hydrogen_is_missed_and_found_again(content: str) -> None:
    refused(brucite(content), Reason.CONTRADICTORY, "the atoms make MgO2")
    assert read(brucite(content), trust_atoms=True) == {"Mg": 1, "O": 2}
    assert read(brucite(content, WITH_HYDROGEN)) == {"H": 2, "Mg": 1, "O": 2}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("_cell_formula_units_Z 1\n_chemical_formula_weight 58.32", "formula weight 58.32"),
        ("_exptl_crystal_density_diffrn 2.377", "2.377 g/cm3"),
    ],
)
def test_weight_and_density_tell_where_there_is_no_formula(content: str, said: str) -> None:
    refused(brucite(content), Reason.CONTRADICTORY, said)
    assert read(brucite(content, WITH_HYDROGEN)) == {"H": 2, "Mg": 1, "O": 2}


def test_attached_hydrogen_that_is_not_listed_is_missing() -> None:
    sites = "Mg1 Mg 0 0 0 0\nO1 O 0.33333 0.66667 0.2203 1"
    columns = "type_symbol|attached_hydrogens"
    refused(brucite("", sites, columns), Reason.CONTRADICTORY, "'O1'", "make MgO2, with it MgH2O2")
    assert read(brucite("", sites, columns), trust_atoms=True) == {"Mg": 1, "O": 2}
    # ICSD writes a column of zeros; others count the hydrogen that they list, and the formula sum shows it.
    assert read(brucite("", sites.replace("0.2203 1", "0.2203 0"), columns)) == {"Mg": 1, "O": 2}
    listed = sites + "\nH1 H 0.33333 0.66667 0.4300 0"
    assert read(brucite("_chemical_formula_sum 'H2 Mg O2'", listed, columns)) == {"H": 2, "Mg": 1, "O": 2}


@pytest.mark.parametrize(
    "content",
    [
        "_chemical_formula_sum 'Cl Na'\n_cell_formula_units_Z 4",
        "_chemical_formula_sum 'Na4 Cl4'\n_cell_formula_units_Z 1",
        "_chemical_formula_sum 'Na4 Cl4'\n_cell_formula_units_Z 4",  # as pymatgen and this program write it
        "_chemical_formula_sum 'Na1 Cl1'\n_cell_formula_units_Z 1",  # of the primitive cell
        "_chemical_formula_sum 'Na2 Cl2'\n_cell_formula_units_Z 2",
        "_chemical_formula_sum Cl0.999Na1.001",
        "_chemical_formula_sum 'Cl1.00 Na1.00'\n_cell_formula_units_Z 4.0",
        "_chemical_formula_sum 'Cl x Na'\n_cell_formula_units_Z 4",
        "_chemical_formula_sum ?\n_cell_formula_units_Z ?",
        "_chemical_formula_sum .\n_cell_formula_units_Z .",
        "_cell_formula_units_Z 4",
        "_chemical_formula_sum 'Cl Na'\n_cell_formula_units_Z 5.3333",  # no number of units
        "_chemical_formula_weight 58.44",
        "_chemical_formula_structural NaClNaClNaClNaCl",
    ],
)
def test_statements_that_are_no_contradiction(content: str) -> None:
    assert read(rock_salt(content=content)) == {"Na": 4, "Cl": 4}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("_chemical_formula_sum 'Cl Na'\n_cell_formula_units_Z 8", ("Z is 8", "4 times Cl Na")),
        ("_chemical_formula_sum 'Cl Na'\n_cell_formula_units_Z 2", ("Z is 2",)),
        ("_cell_formula_units_Z 3", ("Z is 3", "Na4Cl4")),
        ("_chemical_formula_sum 'Cl2 Na'", ("'Cl2 Na'", "NaCl")),
        ("_chemical_formula_sum 'Cl K'", ("'Cl K'", "NaCl")),
        ("_chemical_formula_sum 'Cl Na0.95'", ("'Cl Na0.95'", "NaCl")),
        ("_chemical_formula_sum 'Cl Na H0.1'", ("H0.1",)),
    ],
)
def test_statements_that_contradict_the_atoms(content: str, words: tuple[str, ...]) -> None:
    refused(rock_salt(content=content), Reason.CONTRADICTORY, *words)
    assert read(rock_salt(content=content), trust_atoms=True) == {"Na": 4, "Cl": 4}


@pytest.mark.parametrize(
    ("text", "count", "fits"),
    [
        ("C76 H100 N3", {6: 304, 1: 400, 7: 12}, True),
        ("C76 H101 N3", {6: 304, 1: 400, 7: 12}, False),
        ("Al0.66 O", {13: 4, 8: 6}, True),
        ("Al0.67 O", {13: 4, 8: 6}, True),
        ("Al0.667 O", {13: 4, 8: 6}, True),
        ("Al0.6 O", {13: 4, 8: 6}, False),
        ("Fe1/3 O", {26: 1, 8: 3}, True),
        ("Mg1.9 Fe0.1 Si O4", {12: 8, 14: 4, 8: 16}, False),
        ("Mg1.9 Fe0.1 Si O4", {12: 8, 26: 1, 14: 4, 8: 16}, False),
        ("(Mg.9 Fe.1)2 Si O4", {12: 18, 26: 2, 14: 10, 8: 40}, True),
        ("Ca S O4, 2(H2 O)", {20: 4, 16: 4, 8: 24, 1: 16}, True),
        ("CaSO4.2H2O", {20: 4, 16: 4, 8: 24, 1: 16}, True),
        ("C2 H8 N 1+", {6: 2, 1: 8, 7: 1}, True),
        ("CA C O3", {20: 6, 6: 6, 8: 18}, True),
    ],
)
def test_amounts_are_as_exact_as_they_are_written(text: str, count: dict[int, int], fits: bool) -> None:
    formula = stated_formula(text)
    assert formula is not None
    assert (units_in_cell(formula, count) is not None) == fits


@pytest.mark.parametrize("text", ["Fe x O", "?", "", "unknown", "Xx2 O3", "(Mg O", "Mg O)", "n H2 O", "C H4 ?"])
def test_what_is_no_formula_says_nothing(text: str) -> None:
    assert stated_formula(text) is None


@pytest.mark.parametrize(
    ("stated", "fits"),
    [
        ((4, 4), True),
        ((48, 48), True),  # the order of the site symmetry, which SHELXL wrote under this name
        ((1, 1), True),  # in the primitive cell
        (("4.0", "4.00"), True),
        ((4, "?"), True),
        (("?", "."), True),
        ((4, 8), False),
        ((2, 2), False),
        ((4, 48), False),
    ],
)
def test_multiplicities(stated: tuple[float | str, float | str], fits: bool) -> None:
    text = rock_salt(
        columns="type_symbol symmetry_multiplicity",
        sites=f"Na1 Na {stated[0]} 0 0 0\nCl1 Cl {stated[1]} 0.5 0.5 0.5",
    )
    if fits:
        assert read(text) == {"Na": 4, "Cl": 4}
    else:
        refused(text, Reason.CONTRADICTORY, "multiplicity", "the symmetry makes 4")
        assert read(text, trust_atoms=True) == {"Na": 4, "Cl": 4}
    assert isinstance(read_cif(text.replace("_symmetry_mult", "_site_symmetry_mult")), Cell) == fits


def test_multiplicities_on_hexagonal_axes_of_a_rhombohedral_cell() -> None:
    text = cif(
        "_space_group_name_H-M_alt 'R -3 m :R'",
        "symmetry_multiplicity",
        "Hg 3 0 0 0",
        (3.005, 3.005, 3.005, 70.53, 70.53, 70.53),
    )
    assert read(text) == {"Hg": 1}


def test_deuterium_is_hydrogen() -> None:
    sites = "Mg1 Mg 0 0 0\nO1 O 0.33333 0.66667 0.2203\nD1 D 0.33333 0.66667 0.4300"
    for content in ("", "_chemical_formula_sum 'D2 Mg O2'", "_chemical_formula_weight 60.3\n_cell_formula_units_Z 1"):
        assert read(brucite(content, sites)) == {"H": 2, "Mg": 1, "O": 2}


def test_our_own_files_and_those_of_pymatgen_agree_with_themselves(
    random_descriptions: dict[int, Description], cells: dict[str, Cell]
) -> None:
    for description in [random_descriptions[number] for number in (2, 62, 148, 167, 194, 225)]:
        assert isinstance(read_cif(write_cif(description)), Cell)
    for cell in cells.values():
        description = describe(cell)
        assert isinstance(description, Description)
        assert isinstance(read_cif(write_cif(description)), Cell)
        structure = cell.to_structure()
        assert isinstance(read_cif(structure.to(fmt="cif")), Cell)
        assert isinstance(read_cif(structure.to(fmt="cif", symprec=0.01)), Cell)


@pytest.mark.parametrize(("formula", "z"), [("K4 O4", 2), ("Cl4", 2), ("Na6 O6", 3), ("H4 O4", 2)])
def test_z_of_peroxides_and_molecules_as_pymatgen_counts_them(formula: str, z: int) -> None:
    stated = stated_formula(formula)
    assert stated is not None
    numbers = [number for number, amount in stated.most.items() for _ in range(round(amount))]
    sites = Sites(
        labels=tuple(f"X{k}" for k in range(len(numbers))),
        readings=tuple((number,) for number in numbers),
        positions=np.zeros((len(numbers), 3)),
    )
    statements = Statements(stated, "_chemical_formula_sum", float(z), present=stated.elements)
    content = judge(statements, sites, [1] * len(numbers), order=1, centring=1, volume=100.0)
    assert content.contradictions == ()


@pytest.mark.parametrize("formula", ["(Na,K) Cl", "Na1-x Kx Cl", "(Na,Ag)(Cl,Br)"])
def test_a_formula_of_which_only_the_elements_can_be_read(formula: str) -> None:
    refused(rock_salt(content=f"_chemical_formula_sum '{formula}'"), Reason.CONTRADICTORY, formula, "NaCl")


@pytest.mark.parametrize("formula", ["Na x Cl", "(Na Cl)n", "Rock salt", "R3 N"])
def test_a_formula_that_names_no_other_element_says_nothing(formula: str) -> None:
    assert read(rock_salt(content=f"_chemical_formula_sum '{formula}'")) == {"Na": 4, "Cl": 4}
