"""Chemical formulas: what people type as reduced amounts, and the order of elements."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

from crystallm.base.errors import CompositionError
from crystallm.crystal.formulas.elements import ELEMENTS, NUMBERS, element_order, symbol_of
from crystallm.crystal.formulas.typed_formula import MAX_ATOMS_PER_FORMULA, MAX_LETTERS, Reading, read_text

__all__ = [
    "ELEMENTS",
    "MAX_ATOMS_PER_FORMULA",
    "Amounts",
    "Formula",
    "element_order",
    "format_formula",
    "parse_formula",
    "read_formula",
    "reduce_amounts",
    "symbol_of",
    "unseen_elements",
]

Amounts = tuple[tuple[str, int], ...]
"""Reduced formula as (element, amount) in order of electronegativity; amounts without common divisor."""

_COUNTED = re.compile(r"([A-Z][a-z]?)([1-9]\d{0,2})?")
_PLAIN = re.compile(rf"(?:{_COUNTED.pattern})+")
"""Formulas as this package writes them: symbols and whole amounts, nothing else."""

LARGE = 200
"""Atoms of a whole-number formula above which a rounded one is offered beside it."""


@dataclass(frozen=True)
class Formula:
    """A formula that a person typed."""

    amounts: Amounts
    multiple: int
    """How many reduced formulas were typed: 6 for C6H6."""
    written: str
    """As typed, elements in that order, in whole amounts, without brackets: `C6H6`."""
    notes: tuple[str, ...] = ()
    """Sentences on what was not taken as it stands."""


def reduce_amounts(counts: dict[str, int]) -> Amounts:
    """Counts per element as a reduced formula in order of electronegativity."""
    divisor = gcd(*counts.values())
    return tuple((symbol, counts[symbol] // divisor) for symbol in sorted(counts, key=element_order))


def parse_formula(text: str) -> Amounts:
    """Reduced amounts of a formula such as 'TiO2', 'Ca(OH)2', 'CuSO4·5H2O' or 'Ba Ti O3'.

    Raises CompositionError naming what is wrong: an unknown element, an amount that is not a positive whole number,
    or text that is no formula.
    """
    if len(text) <= MAX_LETTERS and _PLAIN.fullmatch(text):  # most formulas, read ten times as fast
        counts: dict[str, int] = {}
        for symbol, amount in _COUNTED.findall(text):
            counts[symbol] = counts.get(symbol, 0) + int(amount or 1)
        if counts.keys() <= NUMBERS.keys():
            return reduce_amounts(counts)
    return read_formula(text).amounts


def read_formula(text: str) -> Formula:
    """Read a formula as chemists write it; docs/reference/formulas.md lists what can be typed.

    Args:
        text: such as `CuSO4·5H2O`, `C6H6`, `TiO₂`.

    Returns:
        The reduced amounts, how many of them were typed, and notes on what was not taken as it stands.

    Raises:
        CompositionError: for what is no formula, and for amounts such as 0.5 of an element or a bracket, with the
            smallest integer formula. Fractions before a part, as in `CaSO4·0.5H2O`, are multiplied out.

    Example:
        >>> read_formula("C6H6").multiple
        6
    """
    reading = read_text(text)
    counts = reading.counts
    if reading.fractional is not None:
        raise CompositionError(
            f"amount {reading.fractional} in formula {text.strip()!r}: amounts are positive whole numbers, and partial "
            f"occupancy is not supported; {_offer(counts)}"
        )
    scale = lcm(*(count.denominator for count in counts.values()))
    whole = {symbol: int(count * scale) for symbol, count in counts.items()}
    divisor = gcd(*whole.values())
    multiple = 1 if divisor % scale else divisor // scale
    reduced = {symbol: count // divisor for symbol, count in whole.items()}
    written = _written({symbol: count * multiple for symbol, count in reduced.items()})
    return Formula(reduce_amounts(whole), multiple, written, _notes(reading, text, scale, written))


def _notes(reading: Reading, text: str, scale: int, written: str) -> tuple[str, ...]:
    notes = []
    if reading.has_deuterium:
        notes.append("D (deuterium) is taken as H: the model knows elements, not isotopes")
    if reading.guessed_dot:
        notes.append(f"{text.strip()} is read as {reading.text}, that is {written}")
    if scale > 1:
        notes.append(f"{reading.text} is taken {scale} times, {written}, so that all amounts are whole numbers")
    return tuple(notes)


def _offer(counts: Mapping[str, Fraction]) -> str:
    offer = _smallest(counts)
    told = f"the smallest integer formula is {_written(offer)}"
    if sum(offer.values()) <= LARGE:
        return told
    near = {symbol: count.limit_denominator(6) for symbol, count in counts.items()}
    return f"{told}, and near it lies {_written(_smallest({s: count for s, count in near.items() if count}))}"


def _smallest(counts: Mapping[str, Fraction]) -> dict[str, int]:
    """The least whole numbers in the proportion of the counts."""
    scale = lcm(*(count.denominator for count in counts.values()))
    divisor = gcd(*(int(count * scale) for count in counts.values()))
    return {symbol: int(count * scale) // divisor for symbol, count in counts.items()}


def _written(counts: Mapping[str, int]) -> str:
    return format_formula(tuple(counts.items()))


def format_formula(amounts: Amounts) -> str:
    """Formula without spaces, amounts of one left out: (('Ti', 1), ('O', 2)) -> 'TiO2'."""
    return "".join(f"{symbol}{amount if amount > 1 else ''}" for symbol, amount in amounts)


def unseen_elements(amounts: Amounts, seen: Collection[str]) -> tuple[str, ...]:
    """The elements of a formula that are not among those seen, such as those of a model's training crystals.

    Example:
        >>> unseen_elements((("Md", 2), ("O", 3)), {"O", "Ti"})
        ('Md',)
    """
    return tuple(symbol for symbol, _ in amounts if symbol not in seen)
