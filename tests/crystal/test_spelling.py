"""Letters in the wrong case."""

import pytest

from crystallm.crystal.spelling import balanced_alternative, spellings


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
