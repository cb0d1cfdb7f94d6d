"""The rule of the dot, signs from text processors, and what is no formula."""

import pytest

from crystallm.base.errors import CompositionError
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.crystal.formulas.elements import ELEMENTS
from crystallm.crystal.formulas.typed_formula import cleaned, join_parts, read_text

GYPSUM = {"Ca": 1, "S": 1, "O": 6, "H": 4}
BLUE_VITRIOL = {"Cu": 1, "S": 1, "O": 9, "H": 10}
BASSANITE = {"Ca": 1, "S": 1, "O": 4.5, "H": 1}


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        *((f"CuSO4{dot}5H2O", BLUE_VITRIOL) for dot in "·•⋅∙‧・*∗."),
        ("CuSO4 . 5 H2O", BLUE_VITRIOL),
        ("CuSO4.5(H2O)", BLUE_VITRIOL),
        ("CaSO4.2H2O", GYPSUM),
        ("CaSO4·0.5H2O", BASSANITE),
        ("CaSO4.0.5H2O", BASSANITE),
        ("CaSO4·½H2O", BASSANITE),
        ("CaSO4·1/2H2O", BASSANITE),
        ("MgSO4.7H2O", {"Mg": 1, "S": 1, "O": 11, "H": 14}),
        ("Na2CO3.10H2O", {"Na": 2, "C": 1, "O": 13, "H": 20}),
        ("AlCl3.6H2O", {"Al": 1, "Cl": 3, "H": 12, "O": 6}),
        ("NaCl.2H2O", {"Na": 1, "Cl": 1, "H": 4, "O": 2}),
        ("Ca(NO3)2.4H2O", {"Ca": 1, "N": 2, "O": 10, "H": 8}),
        ("K4[Fe(CN)6].3H2O", {"K": 4, "Fe": 1, "C": 6, "N": 6, "H": 6, "O": 3}),
        ("Al2O3.2SiO2.2H2O", {"Al": 2, "O": 9, "Si": 2, "H": 4}),  # kaolinite
        ("3CaO.Al2O3", {"Ca": 3, "O": 6, "Al": 2}),
        ("KCl.MgCl2.6H2O", {"K": 1, "Cl": 3, "Mg": 1, "H": 12, "O": 6}),  # carnallite
        ("AlF3.3NaF", {"Al": 1, "F": 6, "Na": 3}),  # cryolite
    ],
)
def test_dot_between_parts(text: str, counts: dict[str, float]) -> None:
    assert read_text(text).counts == counts


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("YBa2Cu3O6.5", "6.5"),
        ("La0.5Sr0.5MnO3", "0.5"),
        ("La.5Sr.5MnO3", ".5"),
        ("Fe0.95O", "0.95"),
        ("Fe2.5Ti0.5O4", "2.5"),
        ("Li6.5La3Zr1.5Ta0.5O12", "6.5"),
        ("CsPbI2.5Br0.5", "2.5"),
        ("SrFeO2.5F0.5", "2.5"),
        ("Na0.5Bi2.5Nb2O9", "0.5"),
        ("Ca10(PO4)5.5(SiO4)0.5F2", "5.5"),
        ("(CuSO4.5H2O)2", "4.5"),  # inside brackets it is always a decimal point
    ],
)
def test_decimal_point(text: str, first: str) -> None:
    reading = read_text(text)
    assert (reading.fractional, reading.guessed_dot) == (first, False)


def test_only_a_guess_is_called_one() -> None:
    assert join_parts("CuSO4.5H2O") == ("CuSO4·5H2O", True)
    assert join_parts("CaSO4.0.5H2O") == ("CaSO4·0.5H2O", True)
    assert join_parts("3CaO.Al2O3") == ("3CaO·Al2O3", False)
    assert join_parts("YBa2Cu3O6.5") == ("YBa2Cu3O6.5", False)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("TiO₂", "TiO2"),
        ("ＴｉＯ２", "TiO2"),
        ("Ba Ti O3", "BaTiO3"),
        ("Ba\N{NO-BREAK SPACE}Ti\N{THIN SPACE}O3", "BaTiO3"),
        ("TiO\N{ZERO WIDTH SPACE}2", "TiO2"),
        ("TiO_2", "TiO2"),
        ("Al_{2}O_3", "Al2O3"),
        ("{Al2}[SiO4]O", "Al2SiO5"),
        ("Ti((O))2", "TiO2"),
        ("NaN", "NaN"),  # a nitride, not a number
        ("D2O", "H2O"),
        ("2TiO2", "TiO2"),
    ],
)
def test_the_same_formula(text: str, plain: str) -> None:
    assert parse_formula(text) == parse_formula(plain)


def test_superscripts_and_dashes_stay_visible() -> None:
    assert cleaned(" SO₄²⁻ ") == "SO4^2^-"
    assert cleaned("O7\N{MINUS SIGN}x") == "O7-x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the formula is empty"),
        ("\N{NO-BREAK SPACE}", "the formula is empty"),
        ("()", "no elements in a bracket"),
        ("·", "no elements"),
        ("TiO2·", "no elements"),
        ("(TiO2]", r"lacks a closing bracket '\)'"),
        ("(" * 150, "lacks a closing bracket"),
        ("(" * 10_000, "10000 letters, more than 200"),
        ("TiO1000000000", "amount 1000000000 in formula 'TiO1000000000' is above 999"),
        ("Ti" + "9" * 150, "above 999"),
        ("0TiO2", "amount 0"),
        ("Ti02", "amount 02 in formula 'Ti02' begins with the digit zero; did you mean TiO2"),
        ("CuSO4 5H2O", "at '5H2O'; a number stands behind an element.*CuSO4·5H2O"),
        ("CaSO4·1½H2O", "cannot read formula"),
        ("TIO2", "unknown element 'T' in formula 'TIO2'; did you mean TiO2"),
        ("nacl", "did you mean NaCl"),
        ("NACL", "did you mean NaCl"),
        ("co", "did you mean CO or Co"),
        ("caco3", "did you mean CaCO3 or CaCo3"),
        ("cuso4·5h2o", "did you mean CuSO4·5H2O"),
        ("Ca(oh)2", r"did you mean Ca\(OH\)2"),
    ],
)
def test_no_formula(text: str, message: str) -> None:
    with pytest.raises(CompositionError, match=message):
        read_text(text)


def test_every_element_is_read() -> None:
    for symbol in ELEMENTS:
        assert read_text(symbol).counts == {symbol: 1}
