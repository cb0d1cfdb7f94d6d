"""Partial occupancy, dopants and charges."""

import pytest

from crystallm.base.errors import CompositionError
from crystallm.crystal.formulas.typed_formula import read_text


@pytest.mark.parametrize(
    ("text", "why", "offered"),
    [
        ("TiO2-x", "an amount '2-x' that is no number", "TiO2"),
        ("YBa2Cu3O7-δ", "an amount '7-δ'", "YBa2Cu3O7"),
        ("YBa2Cu3O7-d", "an amount '7-d'", "YBa2Cu3O7"),
        ("YBa₂Cu₃O₇₋ₓ", "an amount '7-x'", "YBa2Cu3O7"),
        ("La1-xSrxMnO3", "an amount '1-x'", "LaMnO3"),
        ("Li1+xMn2O4", "an amount", "LiMn2O4"),
        ("NaxCoO2", "an amount 'x'", "NaCoO2"),
        ("CuSO4·xH2O", "an amount 'x'", "CuSO4"),
        ("WO3.nH2O", "an amount 'n'", "WO3"),
        ("(Mg,Fe)2SiO4", "several elements on one site", "Mg2SiO4 or Fe2SiO4"),
        ("(Mg0.9,Fe0.1)2SiO4", "several elements on one site", "Mg2SiO4 or Fe2SiO4"),
        ("Pb(Zr,Ti)O3", "several elements", "PbZrO3 or PbTiO3"),
        ("Mg2SiO4:Eu", "a dopant", "Mg2SiO4"),
        ("Y3Al5O12:Ce3+", "a dopant", "Y3Al5O12"),
    ],
)
def test_partial_occupancy(text: str, why: str, offered: str) -> None:
    with pytest.raises(CompositionError, match=f"has {why}.*partial occupancy is not supported.*member: {offered}$"):
        read_text(text)


@pytest.mark.parametrize("text", ["Fe3+", "Na+", "Cl-", "SO4^2-", "SO₄²⁻", "Fe+3", "Fe(3+)", "[Fe(CN)6]4-", "TiO-2"])
def test_charges(text: str) -> None:
    with pytest.raises(CompositionError, match="a crystal is neutral: leave charges out"):
        read_text(text)


def test_sums() -> None:
    with pytest.raises(CompositionError, match=r"at '\+ O2'; write one formula"):
        read_text("TiO2 + O2")


@pytest.mark.parametrize("text", ["Zn", "Zn2SiO4", "Ho", "Dy2O3", "Cd", "In2O3", "Mn", "Sn", "Rn", "Cn"])
def test_symbols_are_no_variables(text: str) -> None:
    assert read_text(text).fractional is None
