"""What files say of their symmetry is used or refused; cell and content settle what it leaves open."""

from itertools import product
from pathlib import Path

import gemmi
import numpy as np
import pytest

from crystallm.crystal.cell import Cell, Reason, Rejection
from crystallm.crystal.cif import read_cif, read_structures, write_cif
from crystallm.crystal.cif.symmetry.operators import Operations, operation_of, operations_of
from crystallm.crystal.description import Description, expand
from crystallm.crystal.space_group_symbols import settings_of_number
from crystallm.crystal.symmetry import space_group_number

CASES = Path(__file__).parent / "cases"
TAGS = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
SITES = "\nloop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
NACL = "Na 0 0 0\nCl 0.5 0.5 0.5"
WHOLE_NACL = "\n".join(
    f"{symbol}{n} {x + shift} {y + shift} {z + shift}"
    for symbol, shift in (("Na", 0.0), ("Cl", 0.5))
    for n, (x, y, z) in enumerate(((0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)))
)
Z4 = "\n_chemical_formula_sum 'Cl Na'\n_cell_formula_units_Z 4"


def cif(symmetry: str, sites: str, *cell: float | str | None) -> str:
    values = cell if len(cell) == 6 else (*(cell or (5.64, 5.64, 5.64)), 90, 90, 90)
    stated = "\n".join(f"_cell_{tag} {value}" for tag, value in zip(TAGS, values, strict=True) if value is not None)
    return f"data_x\n{stated}\n{symmetry}{SITES}{sites}\n"


def read(text: str) -> Cell:
    found = read_cif(text)
    assert isinstance(found, Cell), found
    return found


def refused(text: str, reason: Reason, *words: str) -> None:
    found = read_cif(text)
    assert isinstance(found, Rejection), found.amounts
    assert found.reason is reason, found
    for word in words:
        assert word in found.detail


def amounts(text: str) -> dict[str, int]:
    return {gemmi.Element(number).name: count for number, count in read(text).amounts.items()}


@pytest.mark.parametrize(
    ("name", "atoms", "number"),
    [
        ("q01_no_angles_CsCl", {"Cs": 1, "Cl": 1}, 221),
        ("p08_identity_only", {"Na": 4, "Cl": 4}, 225),
        ("p08b_unlooped_op", {"Na": 4, "Cl": 4}, 225),
        ("p09d_unique_c", {"Ca": 2, "O": 2}, 11),
        ("p12f_origin_unstated_choice1", {"Si": 8}, 227),
        ("t01_number227_choice2", {"Si": 8}, 227),
        ("q02_Hg_number166_rhomb", {"Hg": 1}, 166),
        ("q11b_dotted_symmetry_only", {"Na": 4, "Cl": 4}, 225),
        ("s01_oldsym_Cmca", {"P": 8}, 64),
        ("s01b_oldsym_Aba2", {"Zn": 4, "O": 8}, 41),
        ("p17b_BaTiO3_R3m", {"Ba": 1, "Ti": 1, "O": 3}, 160),
    ],
)
def test_cases_are_read(name: str, atoms: dict[str, int], number: int) -> None:
    text = (CASES / f"{name}.cif").read_text()
    assert amounts(text) == atoms
    assert space_group_number(read(text)) == number


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("q01c_length_question", Reason.BAD_CELL, "no _cell_length_b in the file"),
        ("p09f_tetragonal_a_ne_b", Reason.CONTRADICTORY, "P 42/m n m does not leave the cell 4.594 2.959 4.594"),
        ("p11b_superspace", Reason.MODULATED, "_space_group_ssg_name"),
    ],
)
def test_cases_are_refused(name: str, reason: Reason, words: str) -> None:
    refused((CASES / f"{name}.cif").read_text(), reason, words)


def test_all_structures_of_a_file() -> None:
    found = read_structures((CASES / "p10_multi_block.cif").read_text())
    assert [(name, cell.volume.__round__()) for name, cell in found if isinstance(cell, Cell)] == [
        ("one", 179),
        ("two", 249),
        ("three", 135),
    ]


@pytest.mark.parametrize(
    "symmetry",
    [
        "_space_group_name_H-M_full 'F 4/m -3 2/m'",
        "_space_group_name_H-M_ref 'F m -3 m'",
        "_space_group.name_H-M_ref Fm-3m",
        "_symmetry.space_group_name_H-M 'F m -3 m'",
        "_symmetry.Int_Tables_number 225",
        "_space_group.IT_number 225",
        "_SPACE_GROUP_IT_NUMBER 225",
        "_symmetry_space_group_name_H-M 'F m 3 m'",
        "_space_group.name_Hall '-F 4 2 3'",
        "_space_group_name_Schoenflies 'Oh^5'",
        "_space_group.name_Schoenflies O_h.5",
        "loop_\n_space_group_generator.xyz\n-x,-y,-z\n'x,y+1/2,z+1/2'\n'x+1/2,y,z+1/2'\nz,x,y\n-y,x,z",
        "_symmetry_space_group_name_H-M unknown\n_symmetry_Int_Tables_number 225",
        "_symmetry_Int_Tables_number 0\n_symmetry_space_group_name_H-M 'F m -3 m'",
    ],
)
def test_rock_salt_by_items_of_all_dictionaries(symmetry: str) -> None:
    assert amounts(cif(symmetry, NACL)) == {"Na": 4, "Cl": 4}


MAGNETIC = """loop_
_space_group_symop_magn_operation.id
_space_group_symop_magn_operation.xyz
1 x,y,z,+1
2 -x,-y,-z,+1
loop_
_space_group_symop_magn_centering.id
_space_group_symop_magn_centering.xyz
1 x,y,z,+1
2 x+1/2,y+1/2,z,-1
3 x,y+1/2,z+1/2,+1
4 x+1/2,y,z+1/2,-1
_space_group_magn.name_BNS 'P_S -1'
_parent_space_group.name_H-M_alt 'P m -3 m'"""


def test_magnetic_operators_make_the_crystal_without_moments() -> None:
    assert amounts(cif(MAGNETIC, "Mn 0 0 0\nO 0.5 0.5 0.5", 4.4, 4.4, 4.4)) == {"Mn": 4, "O": 4}
    older = "loop_\n_space_group_symop.magn_operation_xyz\n'x,y,z,+1'\n'x+1/2,y+1/2,z+1/2,-1'"
    assert amounts(cif(older, "Mn 0 0 0\nF 0.3 0.3 0", 4.9, 4.9, 3.3)) == {"Mn": 2, "F": 2}
    fifths = (
        "loop_\n_space_group_symop_magn_centering.xyz\nx,y,z,+1\nx,y,z+1/5,-1\nx,y,z+2/5,+1\nx,y,z+3/5,-1\nx,y,z+4/5,+1"
    )
    fifths += "\nloop_\n_space_group_symop_magn_operation.xyz\nx,y,z,+1"
    assert amounts(cif(fifths, "Mn 0 0 0", 4.9, 4.9, 20)) == {"Mn": 5}


@pytest.mark.parametrize(
    ("symmetry", "reason"),
    [
        ("_space_group_magn.number_BNS 2.7", Reason.UNREADABLE),
        ("_space_group_symop_magn_ssg_operation.algebraic x1,x2,x3,x4,+1", Reason.MODULATED),
        ("_space_group_symop_ssg_operation_algebraic x1,x2,x3,x4", Reason.MODULATED),
        ("_cell_modulation_dimension 1\n_space_group_IT_number 225", Reason.MODULATED),
        ("_cell_wave_vector_x 0.3\n_space_group_IT_number 225", Reason.MODULATED),
        ("_symmetry_space_group_name_H-M 'F q -3 m'", Reason.UNREADABLE),
        ("_space_group_IT_number 231", Reason.UNREADABLE),
        ("_symmetry_equiv_pos_as_xyz x,y,q", Reason.UNREADABLE),
        ("loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-y,x,z", Reason.UNREADABLE),
        ("_symmetry_cell_setting cubic", Reason.AMBIGUOUS),
    ],
)
def test_statements_that_cannot_be_used_are_refused_and_not_ignored(symmetry: str, reason: Reason) -> None:
    refused(cif(symmetry, NACL), reason)


def test_no_modulation_and_no_symmetry_are_none() -> None:
    assert amounts(cif("_cell_modulation_dimension 0\n_space_group_IT_number 225", NACL)) == {"Na": 4, "Cl": 4}
    assert amounts(cif("", WHOLE_NACL)) == {"Na": 4, "Cl": 4}
    assert amounts(cif("_symmetry_cell_setting cubic" + Z4, WHOLE_NACL)) == {"Na": 4, "Cl": 4}


# Number, cell, sites in choice 1, the same sites in choice 2, Z, formula.
TWO_ORIGINS = [
    (227, (5.431, 5.431, 5.431), "Si 0 0 0", "Si 0.125 0.125 0.125", 8, "Si"),
    (141, (3.785, 3.785, 9.514), "Ti 0 0 0\nO 0 0 0.2081", "Ti 0 0.75 0.125\nO 0 0.75 0.3331", 4, "Ti O2"),
    (129, (3.96, 3.96, 5.01), "Pb 0 0.5 0.23\nO 0 0 0", "Pb 0.25 0.25 0.23\nO 0.75 0.25 0", 2, "Pb O"),
    (59, (3.565, 4.42, 10.4), "V 0 0 0.1\nO 0 0.5 0", "V 0.25 0.25 0.1\nO 0.25 0.75 0", 2, "V O"),
    (224, (4.27, 4.27, 4.27), "O 0 0 0\nCu 0.25 0.25 0.25", "O 0.25 0.25 0.25\nCu 0 0 0", 2, "Cu2 O"),
    (88, (5.24, 5.24, 11.38), "Ca 0 0 0.5\nMo 0 0 0", "Ca 0 0.25 0.625\nMo 0 0.25 0.125", 4, "Ca Mo"),
]


@pytest.mark.parametrize(("number", "cell", "first", "second", "units", "formula"), TWO_ORIGINS)
def test_z_decides_between_two_origins(
    number: int, cell: tuple[float, float, float], first: str, second: str, units: int, formula: str
) -> None:
    symbol = gemmi.find_spacegroup_by_number(number).hm
    content = f"\n_chemical_formula_sum '{formula}'\n_cell_formula_units_Z {units}"
    wanted = read(cif(f"_space_group_name_H-M_alt '{symbol} :1'" + content, first, *cell))
    assert wanted.formula_units == units
    for statement, sites in product(
        (f"_space_group_IT_number {number}", f"_symmetry_space_group_name_H-M '{symbol}'"), (first, second)
    ):
        found = read(cif(statement + content, sites, *cell))
        assert found.amounts == wanted.amounts
        assert space_group_number(found) == space_group_number(wanted)
    refused(cif(f"_space_group_IT_number {number}", first, *cell), Reason.AMBIGUOUS, f"{symbol}:1", f"{symbol}:2")
    code = f"_space_group_IT_number {number}\n_space_group_IT_coordinate_system_code 2"
    assert read(cif(code, second, *cell)).amounts == wanted.amounts


@pytest.mark.parametrize(("multiplicity", "atoms"), [(8, 8), (16, 16)])
def test_multiplicities_decide_between_two_origins(multiplicity: int, atoms: int) -> None:
    sites = SITES + "_atom_site_symmetry_multiplicity\n"
    text = cif("_symmetry_space_group_name_H-M Fd-3m", f"C 0 0 0 {multiplicity}", 5, 5, 5).replace(SITES, sites)
    assert len(read(text)) == atoms


RHOMBOHEDRAL = (3.005, 3.005, 3.005, 70.53, 70.53, 70.53)
HEXAGONAL = (3.47, 3.47, 6.68, 90, 90, 120)


@pytest.mark.parametrize("symmetry", ["_space_group_IT_number 166", "_symmetry_space_group_name_H-M 'R -3 m'"])
def test_the_cell_decides_between_hexagonal_and_rhombohedral_axes(symmetry: str) -> None:
    assert len(read(cif(symmetry, "Hg 0 0 0", *RHOMBOHEDRAL))) == 1
    assert len(read(cif(symmetry, "Hg 0 0 0", *HEXAGONAL))) == 3


def test_the_cell_decides_about_the_unique_axis() -> None:
    sites = "Ca 0.25 0.25 0.25\nO 0.6 0.7 0.25"
    assert amounts(cif("_space_group_IT_number 11", sites, 5, 6, 7, 90, 90, 105)) == {"Ca": 2, "O": 2}
    assert amounts(cif("_symmetry_space_group_name_H-M P21/m", sites, 5, 6, 7, 90, 105, 90)) == {"Ca": 2, "O": 4}
    general = "Ca 0.1 0.2 0.3\nO 0.3 0.4 0.15"
    along_c = read(cif("_symmetry_space_group_name_H-M 'P 21/n'", general, 5, 6, 7, 90, 90, 105))
    explicit = read(cif("_symmetry_space_group_name_H-M 'P 1 1 21/n'", general, 5, 6, 7, 90, 90, 105))
    assert np.array_equal(along_c.positions, explicit.positions)
    refused(
        cif("_space_group_IT_number 14", general, 5, 6, 7, 90, 90, 105), Reason.AMBIGUOUS, "P 1 1 21/a", "P 1 1 21/n"
    )


@pytest.mark.parametrize(
    ("symmetry", "cell"),
    [
        ("_symmetry_space_group_name_H-M 'R -3 m :R'", HEXAGONAL),
        ("_symmetry_space_group_name_H-M 'R -3 m :H'", RHOMBOHEDRAL),
        ("_symmetry_space_group_name_H-M 'P 1 21/c 1'", (5, 6, 7, 90, 90, 105)),
        ("_symmetry_space_group_name_H-M 'P m -3 m'", (3.2, 3.2, 5.2, 90, 90, 120)),
        ("_symmetry_space_group_name_H-M 'P 63/m m c'", (3.2, 3.2, 5.2, 90, 90, 90)),
        ("_symmetry_space_group_name_H-M 'P m m m'", (3, 4, 5, 90, 95, 90)),
        ("_space_group_IT_number 221", (4, 4, 4.1, 90, 90, 90)),
        ("loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-y,x,z\n-x,-y,z\ny,-x,z", (4, 4.2, 5, 90, 90, 90)),
    ],
)
def test_operators_that_are_no_isometries_are_refused(symmetry: str, cell: tuple[float, ...]) -> None:
    refused(cif(symmetry, "Po 0 0 0", *cell), Reason.CONTRADICTORY, "does not leave the cell")


def test_rounded_cells_are_isometric_enough() -> None:
    assert len(read(cif("_space_group_IT_number 221", "Po 0 0 0", 3.35, 3.352, 3.349, 90, 89.95, 90.02))) == 1


@pytest.mark.parametrize(
    ("symmetry", "cell", "whole"),
    [
        ("P m -3 m", (4, 4, 4, None, None, None), (4, 4, 4, 90, 90, 90)),
        ("P m -3 m", (None, 4, "?", None, 90, "."), (4, 4, 4, 90, 90, 90)),
        ("P 63/m m c", (3.2, 3.2, 5.2, None, None, None), (3.2, 3.2, 5.2, 90, 90, 120)),
        ("R -3 m", (3.2, 3.2, 5.2, None, None, None), (3.2, 3.2, 5.2, 90, 90, 120)),
        ("R -3 m :R", (3.2, None, None, 70, None, None), (3.2, 3.2, 3.2, 70, 70, 70)),
        ("P 21/c", (3, 4, 5, None, 100, None), (3, 4, 5, 90, 100, 90)),
        ("P n m a", (3, 4, 5, "?", "?", "?"), (3, 4, 5, 90, 90, 90)),
    ],
)
def test_cell_items_that_symmetry_fixes(
    symmetry: str, cell: tuple[float | str | None, ...], whole: tuple[float, ...]
) -> None:
    statement = f"_space_group_name_H-M_alt '{symmetry}'"
    assert np.allclose(
        read(cif(statement, "Po 0 0 0", *cell)).lattice, read(cif(statement, "Po 0 0 0", *whole)).lattice
    )


@pytest.mark.parametrize(
    ("symmetry", "cell", "word"),
    [
        ("P 1", (3, 4, 5, None, None, None), "_cell_angle_alpha"),
        ("P 21/c", (3, 4, 5, 90, "?", 90), "_cell_angle_beta"),
        ("P 21/c", (3, 4, 5, None, None, None), "_cell_angle_beta"),
        ("P 4/m m m", (3, None, None, None, None, None), "_cell_length_c"),
        ("R -3 m :R", (3, 3, 3, None, None, None), "_cell_angle_alpha"),
        ("P m -3 m", (None,) * 6, "_cell_length_a"),
        ("P 1", ("5,64", 4, 5, 90, 90, 90), "'5,64', not a number"),
        ("P 1", (0, 4, 5, 90, 90, 90), "_cell_length_a is 0"),
        ("P 1", (1, 1, 1, 90, 90, 90), "no sensible volume"),
        ("P 1", (5640, 5640, 5640, 90, 90, 90), "_cell_length_a is 5640"),
        ("P 1", (5, 5, 5, 1.5708, 1.5708, 1.5708), "no sensible volume"),
        ("P 1", (5, 5, 5, 0, 90, 90), "_cell_angle_alpha is 0"),
    ],
)
def test_cell_items_that_nothing_fixes(symmetry: str, cell: tuple[float | str | None, ...], word: str) -> None:
    refused(cif(f"_space_group_name_H-M_alt '{symmetry}'", "Po 0 0 0", *cell), Reason.BAD_CELL, word)


CUT = "_space_group_IT_number 225\nloop_\n_space_group_symop_operation_xyz\n"


@pytest.mark.parametrize("operators", ["x,y,z", "x,y,z\n-x,-y,-z", "x,y,z\n-x,-y,z\n-x,y,-z\nx,-y,-z"])
def test_operators_that_were_cut(operators: str) -> None:
    assert amounts(cif(CUT + operators + Z4, NACL)) == {"Na": 4, "Cl": 4}
    refused(cif(CUT + operators, NACL), Reason.AMBIGUOUS, "F m -3 m", "Na4Cl4")
    # Where the list holds all atoms, both readings are one crystal.
    assert amounts(cif(CUT + operators, WHOLE_NACL)) == {"Na": 4, "Cl": 4}


def test_a_whole_list_beside_a_symmetry() -> None:
    assert amounts(cif("_space_group_IT_number 225", WHOLE_NACL)) == {"Na": 4, "Cl": 4}
    assert amounts(cif("_symmetry_space_group_name_H-M 'P -1'", "Po 0.1 0.2 0.3\nPo -0.1 -0.2 -0.3")) == {"Po": 2}


def test_atoms_that_are_listed_twice_stay_two() -> None:
    assert len(read(cif("_symmetry_space_group_name_H-M 'P m -3 m'", "Po 0 0 0\nPo 0 0 0"))) == 2


def test_symbol_and_number_that_contradict() -> None:
    statements = "_symmetry_space_group_name_H-M 'P m -3 m'\n_symmetry_Int_Tables_number 225"
    refused(cif(statements, NACL), Reason.AMBIGUOUS, "NaCl with P m -3 m", "Na4Cl4 with F m -3 m")
    assert amounts(cif(statements + Z4, NACL)) == {"Na": 4, "Cl": 4}
    one_crystal = "_symmetry_space_group_name_H-M 'F -4 3 m'\n_symmetry_Int_Tables_number 225"
    assert amounts(cif(one_crystal, NACL)) == {"Na": 4, "Cl": 4}


def test_operators_go_before_the_symbol_of_another_setting() -> None:
    operators = "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-x,-y,-z\n-x+1/2,y+1/2,-z+1/2\nx+1/2,-y+1/2,z+1/2"
    sites = "Ca 0.1 0.2 0.3\nO 0.3 0.4 0.15"
    both = read(cif(f"_symmetry_space_group_name_H-M 'P 21/c'\n{operators}", sites, 5, 6, 7, 90, 105, 90))
    assert np.array_equal(both.positions, read(cif(operators, sites, 5, 6, 7, 90, 105, 90)).positions)


@pytest.mark.parametrize("stated", ["_space_group_IT_number", "_space_group_name_H-M_alt"])
def test_number_or_symbol_alone_read_what_was_written(stated: str, random_descriptions: dict[int, Description]) -> None:
    for number, description in random_descriptions.items():
        head, _, rest = write_cif(description).partition("loop_\n_space_group_symop_id")
        kept = [line for line in head.splitlines() if line.startswith(stated) or not line.startswith("_space_group")]
        text = "\n".join([*kept, "loop_\n_atom_site_label" + rest.partition("loop_\n_atom_site_label")[2]])
        if number == 224:  # both origins make the same formula here
            refused(text, Reason.AMBIGUOUS, "P n -3 m:1", "P n -3 m:2")
            continue
        found, wanted = read(text), expand(description)
        assert np.allclose(found.lattice @ found.lattice.T, wanted.lattice @ wanted.lattice.T, atol=1e-3)
        assert len(found) == len(wanted)
        between = found.positions[:, None] - wanted.positions
        near = np.abs(between - np.rint(between)).max(axis=-1) < 1e-5
        assert (near & (found.numbers[:, None] == wanted.numbers)).any(axis=1).all(), number


def test_operators_are_parsed() -> None:
    rotation, translation = operation_of(" 1/2+X, -y , .5-z ")  # type: ignore[misc]
    assert np.array_equal(rotation, np.diag([1, -1, -1]))
    assert np.array_equal(translation, [0.5, 0, 0.5])
    for text, shift in {"x,y,z+0.33": 1 / 3, "x,y,z+0.17": 1 / 6, "x,y,z+1/5": 0.2, "x,y,z-1/7": 6 / 7}.items():
        assert operation_of(text)[1][2] == pytest.approx(shift)  # type: ignore[index]
    for text in ("x,y", "x,y,1", "2x,y,z", "x/2,y,z", "a,b,c", "x,y,z,+1", "x/0,y,z", "x1,x2,x3", "", "x;y;z"):
        assert operation_of(text) is None, text


def test_every_tabulated_setting_is_a_group_with_its_number() -> None:
    for entry in gemmi.spacegroup_table():
        group = operations_of(tuple(op.triplet() for op in entry.operations()))
        assert isinstance(group, Operations)
        assert (len(group), group.number) == (len(entry.operations()), entry.number)


def test_settings_of_one_number_differ() -> None:
    keys = [operations_of(setting.triplets).key for tier in settings_of_number(62) for setting in tier]  # type: ignore[union-attr]
    assert len(keys) == len(set(keys)) == 6
