"""The `wyckoff` text: what is written, and what is refused when it is read."""

import pytest

from crystallm.base.errors import LayoutError
from crystallm.crystal.cell import Cell, Reason, Rejection
from crystallm.crystal.description import Description, Site, describe
from crystallm.tokenizer.layout import BEGIN, END, PAD, UNKNOWN, Layout, get_layout

LAYOUT = get_layout("wyckoff")

RUTILE = """data_
_chemical_formula_sum
Ti
O2
_cell_formula_units_Z_primitive 2
_space_group_IT_number 136
_cell_length_a 4.5937
_cell_length_c 2.9587
loop_atom_site
Ti a
O f 0.3053
#END"""

BADDELEYITE = """data_
_chemical_formula_sum
Zr
O2
_cell_formula_units_Z_primitive 4
_space_group_IT_number 14
_cell_length_a 5.1505
_cell_length_b 5.2116
_cell_length_c 5.3173
_cell_angle_beta 99.23
loop_atom_site
Zr e 0.2250 0.0400 0.2920
O e 0.0500 0.7430 0.5210
O e 0.4300 0.1680 0.6550
#END"""

RUTILE_TOKENS = [
    *("data_", "\n_chemical_formula_sum", "\nTi", "\nO", "2"),
    *("\n_cell_formula_units_Z_primitive 2", "\n_space_group_IT_number 136"),
    *("\n_cell_length_a ", "4.", "59", "37", "\n_cell_length_c ", "2.", "95", "87"),
    *("\nloop_atom_site", "\nTi", " a", "\nO", " f", " 0.30", "53", "\n#END"),
]


def described(cell: Cell) -> Description:
    found = describe(cell)
    assert isinstance(found, Description)
    return found


def test_text_of_rutile_and_baddeleyite(cells: dict[str, Cell]) -> None:
    assert LAYOUT.write(described(cells["rutile"])) == RUTILE
    assert LAYOUT.write(described(cells["baddeleyite"])) == BADDELEYITE


def test_rutile_is_23_tokens(cells: dict[str, Cell]) -> None:
    assert LAYOUT.tokens(described(cells["rutile"])) == RUTILE_TOKENS
    assert len(RUTILE_TOKENS) == 23
    assert LAYOUT.split(RUTILE) == RUTILE_TOKENS


def test_rutile_read_back() -> None:
    rutile = LAYOUT.read(RUTILE)
    assert rutile == Description(
        amounts=(("Ti", 1), ("O", 2)),
        formula_units=2,
        space_group=136,
        cell=(4.5937, 4.5937, 2.9587, 90, 90, 90),
        sites=(Site("Ti", "a", ()), Site("O", "f", (0.3053,))),
    )


def test_reading_undoes_writing(random_descriptions: dict[int, Description]) -> None:
    for number, drawn in random_descriptions.items():
        tokens = LAYOUT.tokens(drawn)
        back = LAYOUT.read_tokens(tokens)
        assert isinstance(back, Description), (number, back)
        assert back == drawn
        assert LAYOUT.split("".join(tokens)) == tokens


@pytest.mark.parametrize(
    ("stop_after", "n_tokens"), [("formula", 5), ("formula_units", 6), ("space_group", 7), ("cell", 15), ("sites", 22)]
)
def test_a_prompt_is_a_prefix(stop_after: str, n_tokens: int) -> None:
    rutile = LAYOUT.read(RUTILE)
    assert isinstance(rutile, Description)
    assert LAYOUT.tokens(rutile, stop_after=stop_after) == RUTILE_TOKENS[:n_tokens]


@pytest.mark.parametrize("value", [0.99996, -0.00004, 1.0, 0.0])
def test_coordinates_stay_in_the_cell(value: float) -> None:
    wurtzite = Description((("Zn", 1), ("S", 1)), 2, 186, (3.8, 3.8, 6.2, 90, 90, 120), (Site("Zn", "b", (value,)),))
    assert "\nZn b 0.0000" in LAYOUT.write(wurtzite)


@pytest.mark.parametrize(
    ("old", "new", "detail"),
    [
        ("data_", "", "expected 'data_'"),
        ("\n#END", "", "no site"),
        ("\n#END", "\n#END\n#END", "follows the end"),
        ("Ti\nO2", "Ti1\nO2", "not a reduced formula"),
        ("O2", "O02", "not a reduced formula"),
        ("O2", "O3", "the sites hold"),
        ("O2", "O0", "not a reduced formula"),
        ("Ti\nO2\n_cell", "O2\nTi\n_cell", "order of electronegativity"),
        ("Ti\nO2\n_cell", "Ti2\nO4\n_cell", "not a reduced formula"),
        ("Ti\nO2\n_cell", "Ti\nTi\n_cell", "not a reduced formula"),
        ("\nTi\nO2\n_cell", "\n_cell", "not a reduced formula"),
        ("_primitive 2", "_primitive 4", "the sites hold"),
        ("\n_cell_formula_units_Z_primitive 2", "", "expected _cell_formula_units_Z_primitive"),
        ("_number 136", "_number 225", "expected 'loop_atom_site'"),
        ("\n_cell_length_a 4.5937", "", "expected '_cell_length_a'"),
        ("4.5937", "4.593", "expected a number"),
        ("4.5937", "45937", "expected a number"),
        ("4.5937", "0.0000", "do not close to a cell"),
        ("Ti a", "Ti l", "no site 'Ti' 'l' in space group 136"),
        ("Ti a", "Ti k", "expected a number"),
        ("Ti a", "Ti c", "the sites hold"),
        ("Ti a", "Zr a", "the sites hold"),
        ("O f 0.3053", "O f", "expected a number"),
        ("O f 0.3053", "O f 0.3053 0.3053", "no site"),
        ("O f 0.3053", "O a", "the sites hold"),
        ("Ti a\n", "", "the sites hold"),
    ],
)
def test_what_does_not_follow_the_layout_is_refused(old: str, new: str, detail: str) -> None:
    refused = LAYOUT.read(RUTILE.replace(old, new, 1))
    assert isinstance(refused, Rejection)
    assert refused.reason is Reason.UNREADABLE
    assert detail in refused.detail


@pytest.mark.parametrize("text", ["", "hello", RUTILE + " ", "\n" + RUTILE, RUTILE.replace("\n", "\r\n"), RUTILE[:-1]])
def test_foreign_text_is_refused(text: str) -> None:
    assert isinstance(LAYOUT.read(text), Rejection)


def test_every_truncated_text_is_refused() -> None:
    for length in range(len(RUTILE_TOKENS)):
        assert isinstance(LAYOUT.read_tokens(RUTILE_TOKENS[:length]), Rejection)


def test_angles_must_close() -> None:
    refused = LAYOUT.read(BADDELEYITE.replace("99.23", "0.00"))
    assert isinstance(refused, Rejection)
    assert "do not close" in refused.detail


def test_vocabulary_is_complete_and_without_repeats() -> None:
    vocabulary = LAYOUT.vocabulary()
    assert len(set(vocabulary)) == len(vocabulary) == 1013
    assert vocabulary[:4] == [PAD, UNKNOWN, BEGIN, END]
    assert {f"\n_space_group_IT_number {number}" for number in range(1, 231)} < set(vocabulary)
    assert {f" {letter}" for letter in "abcdefghijklmnopqrstuvwxyzA"} < set(vocabulary)


def test_fields_by_name() -> None:
    assert [field.name for field in LAYOUT.fields] == ["formula", "formula_units", "space_group", "cell", "sites"]
    assert LAYOUT.field_named("cell") is LAYOUT.fields[3]
    with pytest.raises(KeyError):
        LAYOUT.field_named("colour")


def test_a_field_can_be_put_in_front() -> None:
    class Tag:
        name = "tag"

        def vocabulary(self) -> list[str]:
            return ["\n_tag"]

        def write(self, description: Description) -> list[str]:
            return ["\n_tag"]

        def read(self, cursor: object, found: object) -> None:
            cursor.expect("\n_tag")  # type: ignore[attr-defined]

    longer = Layout("tagged", (Tag(), *LAYOUT.fields))  # type: ignore[arg-type]
    rutile = LAYOUT.read(RUTILE)
    assert isinstance(rutile, Description)
    assert longer.tokens(rutile) == ["data_", "\n_tag", *RUTILE_TOKENS[1:]]
    assert longer.read(longer.write(rutile)) == rutile


def test_unknown_layout() -> None:
    with pytest.raises(LayoutError, match=r"unknown layout 'crystalm'; choose from .*wyckoff"):
        get_layout("crystalm")
