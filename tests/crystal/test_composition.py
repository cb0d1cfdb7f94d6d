"""Formulas as people type them."""

import pytest

from crystallm.base.errors import CompositionError
from crystallm.crystal.formulas.composition import (
    ELEMENTS,
    element_order,
    format_formula,
    parse_formula,
    read_formula,
    symbol_of,
    unseen_elements,
)


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("TiO2", (("Ti", 1), ("O", 2))),
        ("O2Ti", (("Ti", 1), ("O", 2))),
        ("Ti2O4", (("Ti", 1), ("O", 2))),
        (" Ba Ti O3 ", (("Ba", 1), ("Ti", 1), ("O", 3))),
        ("NaCl", (("Na", 1), ("Cl", 1))),
        ("C", (("C", 1),)),
        ("S8", (("S", 1),)),
        ("NO", (("N", 1), ("O", 1))),  # nitrogen monoxide; No is nobelium
        ("No", (("No", 1),)),
        ("CO", (("C", 1), ("O", 1))),
        ("Co", (("Co", 1),)),
        ("Ca(OH)2", (("Ca", 1), ("H", 2), ("O", 2))),
        ("Al2[SiO4]O", (("Al", 2), ("Si", 1), ("O", 5))),
        ("K2(Mg(SO4)2)(H2O)6", (("K", 2), ("Mg", 1), ("H", 12), ("S", 2), ("O", 14))),
        ("CH3CH2OH", (("H", 6), ("C", 2), ("O", 1))),
        ("Fe2.0O3", (("Fe", 2), ("O", 3))),
        ("Ti999O", (("Ti", 999), ("O", 1))),
    ],
)
def test_formula(text: str, amounts: tuple[tuple[str, int], ...]) -> None:
    assert parse_formula(text) == amounts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("Xx2O3", "unknown element 'Xx'"),
        ("TiO0", "amount 0 in formula 'TiO0'"),
        ("Fe0.5Ni0.5", "positive whole numbers"),
        ("TiO1000", "above 999"),
        ("TiO1.2.3", "cannot read amount '1.2.3'"),
        ("TiO-2", "at '-2'"),
        ("tio2", "at 'tio2'; did you mean TiO2"),
        ("TiO2 + O2", r"at '\+ O2'"),
        ("Ca(OH2", "lacks a closing bracket"),
        ("Ca(OH)0", "amount 0"),
        ("CaOH)2", "never opened"),
        ("()", "no elements"),
        ("水", "at '水'"),
    ],
)
def test_what_is_no_formula_is_named(text: str, message: str) -> None:
    with pytest.raises(CompositionError, match=message):
        parse_formula(text)


@pytest.mark.parametrize(
    ("text", "multiple", "written"),
    [
        ("C6H6", 6, "C6H6"),
        ("C60", 60, "C60"),
        ("Ti2O4", 2, "Ti2O4"),
        ("2TiO2", 2, "Ti2O4"),
        ("Hg2Cl2", 2, "Hg2Cl2"),
        ("P4O10", 2, "P4O10"),
        ("H2O2", 2, "H2O2"),
        ("CH3COOH", 2, "C2H4O2"),
        ("(MgO)3", 3, "Mg3O3"),
        ("O2Ti", 1, "O2Ti"),
        ("CaSO4·0.5H2O", 1, "Ca2S2O9H2"),
        ("0.5TiO2", 1, "TiO2"),
        ("2CaSO4·H2O", 1, "Ca2S2O9H2"),
    ],
)
def test_multiple_that_was_typed(text: str, multiple: int, written: str) -> None:
    formula = read_formula(text)
    assert (formula.multiple, formula.written) == (multiple, written)


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("La0.5Sr0.5MnO3", "LaSrMn2O6"),
        ("La.5Sr.5MnO3", "LaSrMn2O6"),
        ("La0,5Sr0,5MnO3", "LaSrMn2O6"),
        ("YBa2Cu3O6.5", "Y2Ba4Cu6O13"),
        ("Fe0.95O", "Fe19O20"),
        ("Fe0.5Ni0.5", "FeNi"),
        ("(Mg0.9Fe0.1)2SiO4", "Mg9FeSi5O20"),
        ("CsPbI2.5Br0.5", "Cs2Pb2I5Br"),
        ("La0.333Sr0.667MnO3", "near it lies LaSr2Mn3O9"),
    ],
)
def test_smallest_integer_formula_is_offered(text: str, offered: str) -> None:
    with pytest.raises(CompositionError, match=f"positive whole numbers.*{offered}$"):
        read_formula(text)


def test_what_is_not_taken_as_it_stands_is_said() -> None:
    assert read_formula("CuSO4·5H2O").notes == ()
    assert read_formula("D2O").notes == ("D (deuterium) is taken as H: the model knows elements, not isotopes",)
    assert read_formula("CuSO4.5H2O").notes == ("CuSO4.5H2O is read as CuSO4·5H2O, that is CuSO9H10",)
    (note,) = read_formula("CaSO4·0.5H2O").notes
    assert note == "CaSO4·0.5H2O is taken 2 times, Ca2S2O9H2, so that all amounts are whole numbers"


def test_unseen_elements() -> None:
    assert unseen_elements(parse_formula("Md2O3"), {"O", "Ti"}) == ("Md",)
    assert unseen_elements(parse_formula("TiO2"), {"O", "Ti"}) == ()


def test_elements_are_ordered_by_electronegativity() -> None:
    # Pauling: Cs 0.79, Ba 0.89, Ti 1.54, Fe 1.83, H 2.20, C 2.55, O 3.44, F 3.98.
    symbols = ["F", "O", "C", "H", "Fe", "Ti", "Ba", "Cs"]
    assert sorted(symbols, key=element_order) == ["Cs", "Ba", "Ti", "Fe", "H", "C", "O", "F"]


def test_elements_without_a_value_come_last_by_number() -> None:
    assert sorted(["Ar", "F", "Ne", "He"], key=element_order) == ["F", "He", "Ne", "Ar"]


def test_all_118_elements() -> None:
    assert len(set(ELEMENTS)) == 118
    assert (symbol_of(1), symbol_of(26), symbol_of(118)) == ("H", "Fe", "Og")
    for symbol in ELEMENTS:
        assert parse_formula(symbol) == ((symbol, 1),)


def test_formula_is_written_without_ones() -> None:
    assert format_formula((("Ba", 1), ("Ti", 1), ("O", 3))) == "BaTiO3"
    assert parse_formula(format_formula(parse_formula("Ca(OH)2"))) == parse_formula("Ca(OH)2")
