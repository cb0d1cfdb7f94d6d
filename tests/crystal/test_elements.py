"""The table of elements."""

from crystallm.crystal.formulas.elements import ELEMENTS, LAST_WITH_CRYSTALS, NONMETALS, symbol_of


def test_lawrencium_is_the_last() -> None:
    assert symbol_of(LAST_WITH_CRYSTALS) == "Lr"
    assert set(ELEMENTS) > NONMETALS
