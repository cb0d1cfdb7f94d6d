"""The column `crystallm` of docs/reference/readers.md is what the reader says of the files that the rows describe."""

import re
from pathlib import Path

import pytest

from crystallm.crystal.cell import Rejection
from crystallm.crystal.cif import read_structures

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "readers.md"
TAGS = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
SITES = "loop_\n_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"


def cif(cell: tuple[float, ...], symmetry: str, sites: str, name: str = "x") -> str:
    cell = cell if len(cell) in (3, 6) else cell * 3
    values = (*cell, 90, 90, 90)[:6]
    stated = "\n".join(f"_cell_{tag} {value}" for tag, value in zip(TAGS, values, strict=True))
    return f"data_{name}\n{stated}\n{symmetry}\n{SITES}{sites}\n"


HEXAGONAL = (3.21, 3.21, 5.21, 90, 90, 120)
RHOMBOHEDRAL = (4.13, 4.13, 4.13, 54.1, 54.1, 54.1)
ROCK_SALT = "Na Na 0 0 0\nCl Cl 0.5 0.5 0.5"
MAGNETIC = """loop_
_space_group_symop_magn_operation.id
_space_group_symop_magn_operation.xyz
1 x,y,z,+1
loop_
_space_group_symop_magn_centering.id
_space_group_symop_magn_centering.xyz
1 x,y,z,+1
2 x+2/3,y+1/3,z+1/3,-1
3 x+1/3,y+2/3,z+2/3,-1"""
SUPERSPACE = """_cell_modulation_dimension 1
loop_
_space_group_symop_ssg_id
_space_group_symop_ssg_operation_algebraic
1 x1,x2,x3,x4
2 -x1,x2,-x3,-x4+1/2
3 -x1,-x2,-x3,-x4
4 x1,-x2,x3,x4+1/2"""
PEROVSKITE = "Ca Ca 0.99 0.05 0.25\nTi Ti 0 0.5 0\nO1 O 0.07 0.48 0.25\nO2 O 0.71 0.29 0.04"
MAGNESIUM = "Mg1 Mg 0.3333 0.6667 0.25"
CIF2 = """#\\#CIF_2.0
data_x
_cell_length_a 3.35
_cell_length_b 3.35
_cell_length_c 3.35
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_IT_number 221
_journal.note '''polonium
in a box'''
_some.list [1 2 3]
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Po1 Po 0 0 0
"""


def with_column(text: str, name: str, values: str) -> str:
    head, _, rows = text.partition(SITES)
    lines = [f"{row} {value}" for row, value in zip(rows.splitlines(), values.split(), strict=True)]
    return head + SITES + f"_atom_site_{name}\n" + "\n".join(lines) + "\n"


FILES = {
    "magnetic operators": [cif((5.1, 5.1, 14, 90, 90, 120), MAGNETIC, "Mn Mn 0 0 0\nO O 0 0 0.5")],
    "superspace operators": [cif((5, 6, 7, 90, 101, 90), SUPERSPACE, "Na Na 0.1 0.2 0.3\nF F 0.6 0.1 0.4")],
    "number 227": [cif((3.567,), "_space_group_IT_number 227", "C C 0.125 0.125 0.125")],
    "symbol `F d -3 m`": [cif((3.567,), "_symmetry_space_group_name_H-M 'F d -3 m'", "C C 0 0 0")],
    "the same, with Z and formula sum": [
        cif((3.567,), f"{symmetry}\n_chemical_formula_sum C\n_cell_formula_units_Z 8", f"C C {x} {x} {x}")
        for symmetry, x in (
            ("_space_group_IT_number 227", 0.125),
            ("_symmetry_space_group_name_H-M 'F d -3 m'", 0),
        )
    ],
    "symbol `R -3 m`": [cif(RHOMBOHEDRAL, "_symmetry_space_group_name_H-M 'R -3 m'", "As As 0.227 0.227 0.227")],
    "number 166": [cif(RHOMBOHEDRAL, "_space_group_IT_number 166", "As As 0.227 0.227 0.227")],
    "number 14": [cif((5, 6, 7, 90, 90, 105), "_space_group_IT_number 14", "Ca Ca 0.1 0.2 0.3\nO O 0.3 0.4 0.15")],
    "symbol `P b n m`": [cif((5.38, 5.44, 7.64), "_symmetry_space_group_name_H-M 'P b n m'", PEROVSKITE)],
    "older and short symbols": [
        cif((5.64,), "_symmetry_space_group_name_H-M Fm3m", ROCK_SALT),
        cif((5, 6, 7, 90, 105, 90), "_symmetry_space_group_name_H-M 'P 21/n'", "Ca Ca 0.1 0.2 0.3"),
        cif((3.31, 10.48, 4.38), "_symmetry_space_group_name_H-M 'C m c a'", "P P 0 0.102 0.081"),
        cif((3.76, 3.76, 10.55, 90, 90, 120), "_symmetry_space_group_name_H-M 'R -3 m H'", "As As 0 0 0.227"),
    ],
    "coordinates 0.333 and 0.667": [
        cif(HEXAGONAL, "_symmetry_space_group_name_H-M 'P 63/m m c'", "Mg1 Mg 0.333 0.667 0.25")
    ],
    "two images of a site 0.3 angstrom apart": [
        cif((10, 6, 7, 80, 85, 95), "_symmetry_space_group_name_H-M 'P -1'", "S S 0.015 0 0\nS2 S 0.3 0.2 0.1")
    ],
    "two atoms that are images of each other": [
        cif((5, 6, 7, 80, 85, 95), "_symmetry_space_group_name_H-M 'P -1'", "S1 S 0.1 0.2 0.3\nS2 S -0.1 -0.2 -0.3")
    ],
    "a site with calculation flag `dum`": [
        with_column(
            cif((4.12,), "_space_group_IT_number 1", "Cs Cs 0 0 0\nCl Cl 0.5 0.5 0.5\nCg C 0.5 0 0"),
            "calc_flag",
            "d d dum",
        )
    ],
    "occupancy `.`": [
        with_column(cif((4.12,), "_space_group_IT_number 221", "Cs Cs 0 0 0\nCl Cl 0.5 0.5 0.5"), "occupancy", ". .")
    ],
    "`P 63/m m c` without the three angles": [
        re.sub("_cell_angle.*\n", "", cif(HEXAGONAL, "_symmetry_space_group_name_H-M 'P 63/m m c'", MAGNESIUM))
    ],
    "coordinates written `1/3 2/3 1/4`": [
        cif(HEXAGONAL, "_symmetry_space_group_name_H-M 'P 63/m m c'", "Mg1 Mg 1/3 2/3 1/4")
    ],
    "dots in all data names": [
        cif(HEXAGONAL, "_space_group_name_H-M_alt 'P 63/m m c'", MAGNESIUM)
        .replace("_cell_", "_cell.")
        .replace("_atom_site_", "_atom_site.")
        .replace("_space_group_", "_space_group.")
    ],
    "CIF 2.0 with lists and triple quotes": [CIF2],
    "two structures in one file": [
        cif((5.64,), "_space_group_IT_number 225", ROCK_SALT, "one")
        + cif((4.12,), "_space_group_IT_number 221", ROCK_SALT, "two")
    ],
    "labels without types": [
        cif(
            (9,),
            "_space_group_IT_number 1",
            "\n".join(f"{label} {n / 9} 0 0" for n, label in enumerate(labels.split())),
        ).replace("_atom_site_type_symbol\n", "")
        for labels in ("CO1 HO1 OW1 NP1 CS1 O1w SI2 Wat1", "HO1")
    ],
    "isotope `D`": [cif((4.08,), "_space_group_IT_number 225", "Li Li 0 0 0\nD D 0.5 0.5 0.5")],
    "the group in `_name_H-M_full`": [
        cif((5.64,), "_space_group_name_H-M_full 'F 4/m -3 2/m'", ROCK_SALT),
        cif((5.64,), "_space_group_name_H-M_ref 'F m -3 m'", ROCK_SALT),
        cif((5.64,), "_space_group.name_H-M_alt 'F m -3 m'", ROCK_SALT),
        cif((5.64,), "", ROCK_SALT) + "data_other\n_symmetry_space_group_name_H-M 'F m -3 m'\n",
    ],
}
"""Begin of what a row of the table says of a file -> files that are so."""


def rows() -> dict[str, str]:
    """The table: what the file says -> the column of crystallm."""
    table = re.findall(r"^\|(.+)\|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    header, _, *lines = [[cell.strip() for cell in line.split(" | ")] for line in table]
    column = header.index("crystallm")
    return {line[0]: line[column] for line in lines}


def found(files: list[str]) -> str:
    """What the reader makes of files: numbers of atoms in the cell, or why it refuses."""
    cells = [cell for text in files for _, cell in read_structures(text)]
    said = [f"refused, {cell.reason}" if isinstance(cell, Rejection) else str(len(cell)) for cell in cells]
    return said[0] if len(set(said)) == 1 else ", ".join(said)


@pytest.mark.parametrize("begin", FILES)
def test_our_column_is_true(begin: str) -> None:
    ((row, stated),) = [(row, stated) for row, stated in rows().items() if row.startswith(begin)]
    assert stated.startswith(found(FILES[begin])), row


def test_every_row_is_tested() -> None:
    assert len(rows()) == len(FILES)
