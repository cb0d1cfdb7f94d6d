"""The elements: their symbols, and the order in which a formula lists them."""

from __future__ import annotations

from functools import cache

from pymatgen.core import Element

ELEMENTS: tuple[str, ...] = tuple(Element.from_Z(z).symbol for z in range(1, 119))

NUMBERS = {symbol: number for number, symbol in enumerate(ELEMENTS, start=1)}
"""Atomic numbers by symbol."""

LAST_WITH_CRYSTALS = 103
"""Atomic number of lawrencium. Of heavier elements single atoms have been made, never a crystal."""

NONMETALS = frozenset({"H", "C", "N", "O", "F", "P", "S", "Cl", "Se", "Br", "I"})


@cache
def element_order(symbol: str) -> tuple[float, int]:
    """Sort key of an element: Pauling electronegativity, then atomic number; elements without a value come last.

    Source of the values: pymatgen's periodic table.
    """
    element = Element(symbol)
    # pymatgen answers NaN (with a warning) where no value is known: most noble gases and superheavy elements.
    value = element.data.get("X")
    number = float(value) if isinstance(value, int | float) else float("nan")
    return (number if number == number else 1e3), element.Z


@cache
def symbol_of(number: int) -> str:
    """Element symbol of an atomic number, 1 to 118."""
    return ELEMENTS[number - 1]
