"""Chemical formulas: parsing what people type, and the order of elements."""

from __future__ import annotations

import re
from functools import cache
from math import gcd

from pymatgen.core import Element

from crystallm.errors import CompositionError

Amounts = tuple[tuple[str, int], ...]
"""Reduced formula as (element, amount) in order of electronegativity; amounts without common divisor."""

ELEMENTS: tuple[str, ...] = tuple(Element.from_Z(z).symbol for z in range(1, 119))

MAX_ATOMS_PER_FORMULA = 999


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


def reduce_amounts(counts: dict[str, int]) -> Amounts:
    """Counts per element as a reduced formula in order of electronegativity."""
    divisor = gcd(*counts.values())
    return tuple((symbol, counts[symbol] // divisor) for symbol in sorted(counts, key=element_order))


def parse_formula(text: str) -> Amounts:
    """Reduced amounts of a formula such as 'TiO2', 'Ca(OH)2' or 'Ba Ti O3'.

    Raises CompositionError naming what is wrong: an unknown element, an amount that is not a positive whole number,
    or text that is no formula.
    """
    stripped = text.strip()
    if not stripped:
        raise CompositionError("the formula is empty; write for example TiO2")
    counts, rest = _group(stripped, stripped)
    if rest:
        raise CompositionError(f"cannot read formula {text!r} at {rest!r}; write for example TiO2 or Ca(OH)2")
    return reduce_amounts(counts)


_TOKEN = re.compile(r"\s*(?:(?P<element>[A-Z][a-z]?)|(?P<open>[(\[])|(?P<close>[)\]]))\s*(?P<amount>[0-9.]*)")


def _group(rest: str, whole: str, depth: int = 0) -> tuple[dict[str, int], str]:
    counts: dict[str, int] = {}
    while rest.strip():
        match = _TOKEN.match(rest)
        if match is None:
            raise CompositionError(
                f"cannot read formula {whole!r} at {rest.strip()!r}; write for example TiO2 or Ca(OH)2"
            )
        rest = rest[match.end("open") :] if match["open"] else rest[match.end() :]
        if match["open"]:
            inner, rest = _group(rest, whole, depth + 1)
            closing = _TOKEN.match(rest)
            if closing is None or not closing["close"]:
                raise CompositionError(f"formula {whole!r} lacks a closing bracket")
            factor = _amount(closing["amount"], whole)
            rest = rest[closing.end() :]
            for symbol, count in inner.items():
                counts[symbol] = counts.get(symbol, 0) + count * factor
            continue
        if match["close"]:
            if depth == 0:
                raise CompositionError(f"formula {whole!r} closes a bracket that was never opened")
            return counts, match.group(0).lstrip() + rest
        symbol = match["element"]
        if symbol not in ELEMENTS:
            remedy = "use the symbols of the periodic table, capital first, such as Ca or O (H for deuterium)"
            raise CompositionError(f"unknown element {symbol!r} in formula {whole!r}; {remedy}")
        counts[symbol] = counts.get(symbol, 0) + _amount(match["amount"], whole)
    if depth:
        raise CompositionError(f"formula {whole!r} lacks a closing bracket")
    if not counts:
        raise CompositionError(f"no elements in formula {whole!r}; write for example TiO2")
    return counts, rest


def _amount(text: str, whole: str) -> int:
    if not text:
        return 1
    try:
        value = float(text)
    except ValueError:
        raise CompositionError(f"cannot read amount {text!r} in formula {whole!r}") from None
    if value <= 0 or value != int(value):
        raise CompositionError(
            f"amount {text} in formula {whole!r}: amounts are positive whole numbers; "
            "multiply the formula until they are (Fe0.5Ni0.5 becomes FeNi)"
        )
    if value > MAX_ATOMS_PER_FORMULA:
        raise CompositionError(f"amount {text} in formula {whole!r} is above {MAX_ATOMS_PER_FORMULA}")
    return int(value)


def format_formula(amounts: Amounts) -> str:
    """Formula without spaces, amounts of one left out: (('Ti', 1), ('O', 2)) -> 'TiO2'."""
    return "".join(f"{symbol}{amount if amount > 1 else ''}" for symbol, amount in amounts)
