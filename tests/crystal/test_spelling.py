"""Letters in the wrong case."""

import pytest

from crystallm.crystal.formulas.spelling import balanced_alternative, spellings


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("tio2", ["TiO2"]),
        ("TIO2", ["TiO2"]),
        ("nacl", ["NaCl"]),
        ("co", ["CO", "Co"]),
        ("caco3", ["CaCO3", "CaCo3", "CAcO3"]),  # actinium last
        ("Sno2", ["SnO2", "SNO2", "SNo2"]),
        ("xx2o3", []),
        ("titania", []),  # a name
    ],
)
def test_spellings(text: str, found: list[str]) -> None:
    assert spellings(text) == found


def test_capitals_begin_elements() -> None:
    assert spellings("Cao") == ["CaO"]  # not CAO, whatever A is
    assert "CaCo3" not in spellings("CaCO3")


@pytest.mark.parametrize(
    ("text", "meant"),
    [("SIO2", "SiO2"), ("NIO", "NiO"), ("CUSO4", "CuSO4"), ("KNO3", None), ("HCN", None), ("CO", None), ("TiO2", None)],
)
def test_capitals_that_can_be_read(text: str, meant: str | None) -> None:
    assert balanced_alternative(text) == meant


@pytest.mark.parametrize(("text", "meant"), [("C21n", "C21N"), ("c400h999o999n", "C400H999O999N")])
def test_many_atoms_of_an_element_take_no_time(text: str, meant: str) -> None:
    assert meant in spellings(text)  # all combinations of 21 oxidation states of carbon would take half an hour


def test_charges_balance_where_an_element_has_two_oxidation_states() -> None:
    assert spellings("fe3o4")[0] == "Fe3O4"
    assert balanced_alternative("FE3O4") == "Fe3O4"
