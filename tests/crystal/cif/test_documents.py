"""CIF text to blocks: several structures, CIF 2.0, byte order marks, names and values as files write them."""

import gc
from pathlib import Path

import pytest

from crystallm.crystal.cell import Cell, Reason, Rejection
from crystallm.crystal.cif import read_cif, read_structures
from crystallm.crystal.cif.text.cif2 import as_cif1
from crystallm.crystal.cif.text.document import Block, structures
from tests.crystal.cif.small_cifs import ROCK_SALT, cif, read, rock_salt

CASES = Path(__file__).parent / "cases"


def blocks(text: str) -> list[Block]:
    found = structures(text)
    assert not isinstance(found, Rejection), found
    return found


def renamed(name: str, cation: str) -> str:
    return rock_salt(sites=f"{cation}1 {cation} 0 0 0\nCl1 Cl 0.5 0.5 0.5").replace("data_x", f"data_{name}")


@pytest.mark.parametrize(
    "names", [("one", "two", "three"), ("global", "global", "global"), ("", "", ""), ("a", "A", "a")]
)
def test_several_structures_in_a_file(names: tuple[str, str, str]) -> None:
    text = "\n".join(renamed(name, cation) for name, cation in zip(names, ("Na", "K", "Li"), strict=True))
    found = read_structures(text)
    assert [name for name, _ in found] == list(names)
    amounts = [cell.amounts for _, cell in found if isinstance(cell, Cell)]
    assert amounts == [{11: 4, 17: 4}, {17: 4, 19: 4}, {3: 4, 17: 4}]


def test_blocks_without_atoms_are_no_structures() -> None:
    text = "data_global\n_journal_name x\n" + renamed("a", "Na") + "\ndata_empty\n_atom_site_fract_x ?\n"
    assert [block.name for block in blocks(text)] == ["a"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data_x\n_cell_length_a 5\n", "no _atom_site_fract_x in the file"),
        ("data_x\n_atom_site_fract_x ?\n", "no value of _atom_site_fract_x"),
        ("data_x\n_atom_site_Cartn_x 0.1\n", "only Cartesian coordinates"),
        ("", "no _atom_site_fract_x"),
    ],
)
def test_files_without_atoms(text: str, said: str) -> None:
    found = structures(text)
    assert isinstance(found, Rejection)
    assert found.reason is Reason.EMPTY
    assert said in found.detail


def test_columns_outlive_the_document() -> None:
    found = blocks(renamed("a", "Na"))
    gc.collect()
    assert found[0].items.column("_atom_site_label") == ["Na1", "Cl1"]


def test_symmetry_and_cell_in_another_block() -> None:
    lines = rock_salt().splitlines()
    shared = [line for line in lines if line.startswith(("_cell", "_space"))]
    own = [line for line in lines if line not in shared]
    text = "\n".join(["data_common", *shared, *own])
    assert blocks(text)[0].borrowed == ("_cell_", "_space_group_")
    assert read(text) == {"Na": 4, "Cl": 4}


def test_symmetry_of_another_cell_is_not_borrowed() -> None:
    other = "data_other\n_cell_length_a 9.1\n_space_group_IT_number 225\n"
    text = other + rock_salt().replace(ROCK_SALT, "")
    assert blocks(text)[0].borrowed == ()


def test_two_blocks_that_could_lend_their_symmetry_lend_none() -> None:
    lenders = "data_p\n_space_group_IT_number 225\ndata_q\n_space_group_IT_number 221\n"
    assert blocks(lenders + rock_salt().replace(ROCK_SALT, ""))[0].borrowed == ()


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + rock_salt(),
        "\ufeff#\\#CIF_2.0\n" + rock_salt(),
        "#\\#CIF_1.1\n" + rock_salt(),
        rock_salt().replace("\n", "\r\n"),
        rock_salt().replace("\n", "\r"),
        rock_salt() + "\x1a",
        rock_salt().replace("data_x", "DATA_x").replace("loop_", "LOOP_").replace("_atom_site", "_Atom_Site"),
        rock_salt().replace("_atom_site_", "_atom_site.").replace("_cell_", "_cell."),
        rock_salt(content="_publ_author_name Å._Müller"),
        rock_salt(content="_refine_ls_details\n;\ndata_y\nloop_\n_cell_length_a 99\n;"),
        rock_salt(content="_x 'it''s' # no comment"),
        rock_salt(content="_cell_measurement_temperature 293\n_cell_measurement_temperature 295"),
        rock_salt(content="_cell_length_a 5.640"),
        rock_salt(content="_cell_length_a ?"),
        rock_salt(content="_audit_creation_date"),
    ],
)
def test_what_files_hold_besides_plain_items(text: str) -> None:
    assert read(text) == {"Na": 4, "Cl": 4}


@pytest.mark.parametrize("item", ["_cell_length_a 5.7", "_chemical_formula_sum 'Na Cl'\n_chemical_formula_sum 'K Cl'"])
def test_an_item_with_two_values_is_a_contradiction(item: str) -> None:
    found = read_cif(rock_salt(content=item))
    assert isinstance(found, Rejection)
    assert found.reason is Reason.CONTRADICTORY
    assert "is given twice" in found.detail


CIF2_ITEMS = [
    "_a [1 2 [3 'b ]']]",
    "_a '''it's\n;data_y\n'''",
    '_a """two\nlines [ """',
    "_a {'k':1 \"l\":[2 3]}",
    "_a []",
    "_a 'x]'",
    "_a[1] 5",
    "loop_\n_b\n_c\n1 [1 2]\n2 [3\n4]",
    "_a [1 # data_y\n2]",
]


@pytest.mark.parametrize("item", CIF2_ITEMS)
@pytest.mark.parametrize("header", ["#\\#CIF_2.0\n", ""])
def test_cif_2(item: str, header: str) -> None:
    assert read(header + rock_salt(content=item)) == {"Na": 4, "Cl": 4}


def test_lists_in_the_atom_list_of_cif_2() -> None:
    text = rock_salt(columns="type_symbol|moment_vector", sites="Na1 Na 0 0 0 [0 0 1]\nCl1 Cl 0.5 0.5 0.5 [0 0 0]")
    assert read("#\\#CIF_2.0\n" + text) == {"Na": 4, "Cl": 4}
    assert read(text.replace("Na1 Na", "'''Na1''' \"\"\"Na\"\"\"")) == {"Na": 4, "Cl": 4}


def test_text_fields_of_cif_2_stay_text() -> None:
    assert as_cif1("data_x\n_a\n;one [\n'''two\n;\n_b 2\n") == "data_x\n_a\n;one [\n'''two\n;\n_b 2\n"


@pytest.mark.parametrize(
    "text", ["data_x\n_a [1 2\n", "data_x\n_a '''x\n", "rock salt", "_a 1", "data_x\nloop_\n_a\n_b\n1\n"]
)
def test_what_is_no_cif(text: str) -> None:
    found = structures(text)
    assert isinstance(found, Rejection)


def test_one_atom_without_a_loop() -> None:
    lines = ["_atom_site_label Po1", *(f"_atom_site_fract_{axis} 0" for axis in "xyz")]
    assert read(cif("_space_group_IT_number 221", "", "").split("loop_")[0] + "\n".join(lines)) == {"Po": 1}


def test_bytes_that_are_no_text_make_nothing_unreadable() -> None:
    text = "data_\udcff\n_cell_length_a 3.35\n_space_group_IT_number 221\n_publ_author 'M\udcfcller'\nloop_\n"
    sites = "_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\nPo 0 0 0\n"
    cell = read_cif(text + sites)
    assert isinstance(cell, Cell)
    assert cell.amounts == {84: 1}
