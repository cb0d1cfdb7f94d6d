"""CIFs: every way to state symmetry is read, disorder is refused, what is written means the same to three readers."""

import io

import ase.io
import gemmi
import numpy as np
import pytest
from numpy.typing import NDArray
from pymatgen.core import Composition, Structure
from pymatgen.io.cif import CifParser

from crystallm.crystal.cell import Cell, Reason, Rejection
from crystallm.crystal.cif import read_cif, write_cif
from crystallm.crystal.description import Description, describe, expand
from crystallm.crystal.formulas.composition import reduce_amounts
from crystallm.crystal.matching.matcher import rms_distance
from crystallm.crystal.symmetry import space_group_number
from crystallm.crystal.wyckoff import space_group

HEAD = """data_test
_cell_length_a {a}
_cell_length_b {b}
_cell_length_c {c}
_cell_angle_alpha {alpha}
_cell_angle_beta {beta}
_cell_angle_gamma {gamma}
"""
SITES = """loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""
CUBIC = dict.fromkeys("abc", 5.6402) | dict.fromkeys(("alpha", "beta", "gamma"), 90)
HEXAGONAL = {"a": 4.7602, "b": 4.7602, "c": 12.9933, "alpha": 90, "beta": 90, "gamma": 120}


def cif(symmetry: str, sites: str, **cell: float) -> str:
    return HEAD.format(**(CUBIC | cell)) + symmetry + "\n" + SITES + sites + "\n"


NACL = "Na1 Na 0 0 0 1\nCl1 Cl 0.5 0.5 0.5 1"
FACE_CENTRED_P1 = "\n".join(
    f"{symbol}{i} {symbol} {x + shift} {y + shift} {z + shift} 1"
    for symbol, shift in (("Na", 0.0), ("Cl", 0.5))
    for i, (x, y, z) in enumerate(((0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)))
)
CORUNDUM = "Al1 Al 0 0 0.3522 1\nO1 O 0.3063 0 0.25 1"


def operator_loop(tag: str, number: int) -> str:
    operations = gemmi.find_spacegroup_by_number(number).operations()
    return "\n".join(["loop_", tag, *(f"'{operation.triplet()}'" for operation in operations)])


def read(text: str) -> Cell:
    found = read_cif(text)
    assert isinstance(found, Cell), found
    return found


def refusal(text: str) -> Rejection:
    found = read_cif(text)
    assert isinstance(found, Rejection)
    return found


@pytest.mark.parametrize(
    "symmetry",
    [
        operator_loop("_space_group_symop_operation_xyz", 225),
        operator_loop("_symmetry_equiv_pos_as_xyz", 225),
        "_symmetry_space_group_name_H-M 'F m -3 m'",
        "_symmetry_space_group_name_H-M Fm-3m",
        "_space_group_name_H-M_alt 'F m -3 m'",
        "_symmetry_Int_Tables_number 225",
        "_space_group_IT_number 225",
        "_space_group_name_Hall '-F 4 2 3'",
    ],
)
def test_rock_salt_by_every_symmetry_form(symmetry: str, crystals: dict[str, Structure]) -> None:
    cell = read(cif(symmetry, NACL))
    assert cell.amounts == {11: 4, 17: 4}
    assert space_group_number(cell) == 225
    assert rms_distance(cell.to_structure(), crystals["rock salt"]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("symmetry", ["", "_symmetry_space_group_name_H-M 'P 1'", "_space_group_IT_number 1"])
def test_without_symmetry_all_atoms_are_listed(symmetry: str) -> None:
    cell = read(cif(symmetry, FACE_CENTRED_P1))
    assert len(cell) == 8
    assert space_group_number(cell) == 225


@pytest.mark.parametrize("symmetry", ["'R -3 c'", "'R -3 c :H'", "R-3c"])
def test_corundum_on_hexagonal_axes(symmetry: str, crystals: dict[str, Structure]) -> None:
    cell = read(cif(f"_symmetry_space_group_name_H-M {symmetry}", CORUNDUM, **HEXAGONAL))
    assert len(cell) == 30
    assert rms_distance(cell.to_structure(), crystals["corundum"]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("symmetry", ["'R -3 c :R'", "'R -3 c'", "R-3c"])
def test_corundum_on_rhombohedral_axes(symmetry: str, crystals: dict[str, Structure]) -> None:
    lattice = crystals["corundum"].get_primitive_structure().lattice
    cell = {"a": lattice.a, "b": lattice.a, "c": lattice.a}
    cell |= {"alpha": lattice.alpha, "beta": lattice.alpha, "gamma": lattice.alpha}
    # Al on the threefold axis x, x, x; O at x, 1/2 - x, 1/4 with x = 0.25 + 0.3063.
    sites = "Al1 Al 0.3522 0.3522 0.3522 1\nO1 O 0.5563 -0.0563 0.25 1"
    found = read(cif(f"_symmetry_space_group_name_H-M {symmetry}", sites, **cell))
    assert len(found) == 10
    assert rms_distance(found.to_structure(), crystals["corundum"]) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(("choice", "x"), [("1", "0"), ("2", "0.125")])
def test_diamond_in_both_origin_choices(choice: str, x: str) -> None:
    text = cif(f"_symmetry_space_group_name_H-M 'F d -3 m :{choice}'", f"C1 C {x} {x} {x} 1", a=3.567, b=3.567, c=3.567)
    cell = read(text)
    assert len(cell) == 8
    assert space_group_number(cell) == 227


def test_rounded_thirds_are_one_atom_on_the_special_position() -> None:
    sites = "Mg1 Mg 0.3333 0.6667 0.25 1"
    cell = read(cif("_space_group_IT_number 194", sites, a=3.2094, b=3.2094, c=5.2103, gamma=120))
    assert len(cell) == 2
    assert space_group_number(cell) == 194


def test_oxidation_states_are_dropped() -> None:
    text = cif("_space_group_IT_number 225", "Na1 Na1+ 0 0 0 1\nCl1 Cl1- 0.5 0.5 0.5 1")
    assert read(text).amounts == {11: 4, 17: 4}


def test_the_first_block_with_atoms_counts() -> None:
    assert len(read("data_empty\n_audit_author_name 'N. N.'\n" + cif("_space_group_IT_number 225", NACL))) == 8


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Reason.EMPTY),
        ("rock salt, a = 5.64", Reason.UNREADABLE),
        ("\x00\x01\x02\xff binary", Reason.UNREADABLE),
        (cif("", NACL).split("loop_")[0], Reason.EMPTY),
        (cif("_space_group_IT_number 225", NACL)[:-8], Reason.UNREADABLE),  # cut off in the last row of the atom list
        (cif("_space_group_IT_number 225", ""), Reason.EMPTY),
        (cif("_space_group_name_H-M_alt 'F q -3 m'", NACL), Reason.UNREADABLE),
        (cif("", NACL.replace("0.5 0.5 0.5 1", "0.5 0.5 0.5 0.5")), Reason.DISORDERED),
        (cif("", NACL + "\nK1 K 0 0 0 0.2"), Reason.DISORDERED),
        (cif("", NACL.replace("Na1 Na", "X1 X")), Reason.UNKNOWN_SPECIES),
        (cif("", NACL.replace("Na 0 0 0", "Na ? ? ?")), Reason.UNREADABLE),
        (cif("", NACL, a=0.01), Reason.BAD_CELL),
        (cif("", NACL, alpha=20, gamma=150), Reason.BAD_CELL),
        (NACL, Reason.UNREADABLE),
    ],
)
def test_what_is_refused(text: str, reason: Reason) -> None:
    assert refusal(text).reason is reason


def test_deuterium_is_hydrogen() -> None:
    assert read(cif("_space_group_IT_number 225", NACL.replace("Na1 Na", "D1 D"))).amounts == {1: 4, 17: 4}


def test_a_refusal_names_the_site() -> None:
    assert "'Cl1' has occupancy 0.5" in refusal(cif("", NACL.replace("0.5 0.5 0.5 1", "0.5 0.5 0.5 0.5"))).detail


VARIED = [
    *(1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 14, 15, 17, 19, 20, 22, 24, 29, 33, 36, 38, 40, 43, 46, 48, 50, 57, 59, 62),
    *(64, 68, 70, 72, 74, 76, 79, 82, 85, 86, 88, 91, 92, 98, 102, 109, 113, 122, 125, 126, 129, 130, 133, 134, 136),
    *(137, 138, 140, 141, 142, 144, 146, 148, 152, 154, 155, 160, 161, 163, 166, 167, 169, 174, 178, 186, 188, 194),
    *(198, 201, 203, 205, 212, 214, 215, 219, 220, 222, 224, 226, 227, 228, 229, 230),
]
"""All crystal systems and centrings; all 24 groups with two origin choices; all seven R groups."""


def smaller(description: Description) -> Description:
    """The crystal without all but its first general site if it has many atoms: the other readers are slow."""
    if description.n_sites <= 60:
        return description
    group = space_group(description.space_group)
    special = [site for site in description.sites if group.positions[site.letter].n_free < 3]
    sites = (description.sites[0], *special)
    counts = {site.element: group.positions[site.letter].multiplicity // group.centring_order for site in sites}
    amounts = reduce_amounts(counts)
    units = counts[amounts[0][0]] // amounts[0][1]
    return Description(amounts, units, description.space_group, description.cell, sites)


def agrees(numbers: NDArray[np.int64], positions: NDArray[np.float64], wanted: Cell) -> bool:
    """Whether the atoms are the wanted ones: same number, and each has its twin within 0.001 angstrom."""
    if len(numbers) != len(wanted):
        return False
    delta = positions[:, None] - wanted.positions[None]
    delta -= np.round(delta)
    near = ((delta @ wanted.lattice) ** 2).sum(-1) < 1e-6
    return bool((near & (numbers[:, None] == wanted.numbers[None])).any(axis=1).all()) and near.sum() == len(wanted)


@pytest.mark.parametrize("number", VARIED)
def test_three_readers_read_what_was_written(number: int, random_descriptions: dict[int, Description]) -> None:
    description = smaller(random_descriptions[number])
    wanted, text = expand(description), write_cif(description)

    (by_pymatgen,) = CifParser.from_str(text).parse_structures(primitive=False)
    assert by_pymatgen.volume == pytest.approx(wanted.volume, rel=1e-5)
    assert by_pymatgen.lattice.parameters == pytest.approx(description.cell, abs=1e-5)
    assert agrees(np.array(by_pymatgen.atomic_numbers), by_pymatgen.frac_coords, wanted)
    assert by_pymatgen.composition.reduced_composition == Composition(dict(description.amounts))

    by_ase = ase.io.read(io.StringIO(text), format="cif")
    assert by_ase.cell.cellpar() == pytest.approx(description.cell, abs=1e-5)
    assert agrees(by_ase.numbers, by_ase.get_scaled_positions(), wanted)

    small = gemmi.make_small_structure_from_block(gemmi.cif.read_string(text).sole_block())
    sites = small.get_all_unit_cell_sites()
    assert agrees(
        np.array([site.element.atomic_number for site in sites]),
        np.array([site.fract.tolist() for site in sites]),
        wanted,
    )
    assert small.spacegroup.number == number

    by_us = read(text)
    assert agrees(by_us.numbers, by_us.positions, wanted)


def test_named_crystals_match_themselves(crystals: dict[str, Structure], cells: dict[str, Cell]) -> None:
    for name, cell in cells.items():
        description = describe(cell)
        assert isinstance(description, Description)
        rms = rms_distance(Structure.from_str(write_cif(description), fmt="cif"), crystals[name])
        assert rms is not None, name
        assert rms < 1e-4, name


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "rock salt",
            [
                "data_NaCl",
                "_chemical_formula_sum 'Na4 Cl4'",
                "_cell_formula_units_Z 4",
                "_space_group_name_H-M_alt 'F m -3 m'",
                "_space_group_IT_number 225",
                "_cell_volume 179.42",
                "192 ",
                "Na1 Na 4 a 0.00000000 0.00000000 0.00000000 1",
                "Cl1 Cl 4 b 0.50000000 0.50000000 0.50000000 1",
            ],
        ),
        (
            "rutile",
            [
                "data_TiO2",
                "_chemical_formula_structural TiO2",
                "_chemical_formula_sum 'Ti2 O4'",
                "_cell_formula_units_Z 2",
                "_cell_length_c 2.958700",
                "16 ",
                "Ti1 Ti 2 a 0.00000000 0.00000000 0.00000000 1",
                "O1 O 4 f 0.30530000 0.30530000 0.00000000 1",
            ],
        ),
        (
            "corundum",
            [
                "_chemical_formula_sum 'Al12 O18'",
                "_cell_formula_units_Z 6",
                "_cell_angle_gamma 120.000000",
                "36 ",
                "Al1 Al 12 c 0.00000000 0.00000000 0.14780000 1",
                "O1 O 18 e 0.30630000 0.00000000 0.25000000 1",
            ],
        ),
        (
            "baddeleyite",
            [
                "_cell_angle_beta 99.230000",
                "O1 O 4 e 0.05000000",
                "O2 O 4 e 0.43000000",
                "_chemical_formula_sum 'Zr4 O8'",
            ],
        ),
    ],
)
def test_lines_of_a_cif(name: str, lines: list[str], cells: dict[str, Cell]) -> None:
    description = describe(cells[name])
    assert isinstance(description, Description)
    written = [" ".join(line.split()) for line in write_cif(description).splitlines()]
    for line in lines:
        assert any(found.startswith(line) for found in written), line


def test_operators_are_those_of_the_group(random_descriptions: dict[int, Description]) -> None:
    for number, description in random_descriptions.items():
        block = gemmi.cif.read_string(write_cif(description)).sole_block()
        operators = [gemmi.Op(row.str(0)) for row in block.find(["_space_group_symop_operation_xyz"])]
        assert operators[0] == gemmi.Op("x,y,z")
        assert gemmi.find_spacegroup_by_ops(gemmi.GroupOps(operators)).number == number


@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        ("_cell_length_b", Reason.BAD_CELL),
        ("_atom_site_fract_y", Reason.UNREADABLE),
        ("_atom_site_fract_z", Reason.UNREADABLE),
    ],
)
def test_a_missing_length_or_coordinate_is_not_guessed(tag: str, reason: Reason) -> None:
    # Left to itself, gemmi takes 1 angstrom and coordinate 0.
    text = cif("_symmetry_space_group_name_H-M 'F m m m'", NACL)
    assert isinstance(read(text), Cell)
    assert refusal(text.replace(tag, "_other_tag")).reason is reason


def test_an_occupancy_above_one_is_refused() -> None:
    text = cif("_symmetry_space_group_name_H-M 'F m -3 m'", NACL.replace("0.5 1", "0.5 19"))
    assert refusal(text).reason is Reason.DISORDERED
