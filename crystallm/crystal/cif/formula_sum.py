"""Formulas as CIFs state them, with the uncertainty that their digits leave."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import gcd, isfinite

from crystallm.crystal.formulas.elements import NUMBERS
from crystallm.crystal.formulas.typed_formula import join_parts

_TOKEN = re.compile(
    r"\s*(?:(?P<element>[A-Z][a-z]?)|(?P<open>[(\[{])|(?P<close>[)\]}]))\s*(?P<amount>\d+/\d+|\d*\.?\d*)(?:\(\d+\))?"
)
_CHARGE = re.compile(r"\s+\d*[+-]\d*(?=[\s,)\]]|$)|\d*[+-]\s*$")
_FULL_STOP_AS_DOT = re.compile(r"\.(?=\s|[A-Z(\[{])")
_FACTOR = re.compile(r"\s*(\d+\.?\d*|\.\d+)(?=\s*[A-Z(\[{])")
_VARIABLE = re.compile(r"(?<![A-Za-z])[nxyzwuv](?![A-Za-z])|(?<=[A-Z])[xyzwv](?![A-Za-z])|(?<=[A-Z][a-z])[xyzw]")
_ONE_ELEMENT = re.compile(r"[A-Z]{1,2}\d*\.?\d*")
_COUNTED = re.compile(r"([A-Z][a-z]?)(\d*)")
_PLAIN = re.compile(r"(?:[A-Z][a-z]?\d* ?)+")
"""Formulas of whole amounts without brackets."""


@dataclass(frozen=True)
class StatedFormula:
    """Atoms of each element in one formula unit."""

    text: str
    least: Mapping[int, float]
    """Smallest amount that the digits allow, by atomic number."""
    most: Mapping[int, float]

    @property
    def elements(self) -> frozenset[int]:
        """Atomic numbers."""
        return frozenset(self.most)

    @property
    def divisor(self) -> int:
        """The greatest common divisor of the amounts, 1 where they are no whole numbers."""
        if any(self.least[number] != self.most[number] for number in self.most):
            return 1
        return gcd(*(round(amount) for amount in self.most.values())) or 1


@lru_cache(maxsize=1024)
def stated_formula(text: str) -> StatedFormula | None:
    """The formula that an item such as `_chemical_formula_sum` states, None where it cannot be read.

    Whole amounts are exact. A decimal amount may have been rounded, and with two digits or more cut off: `Al0.66 O`
    fits Al2O3. `D` is counted as H. Brackets, charges at the end, hydrates and moieties that
    commas separate are understood; amounts such as `x` are not.

    Args:
        text: such as `H2 Mg O2`, `(Al.25 Si.75)4 Na O8`, `Cu O4 S, 5(H2 O)`.

    Returns:
        The amounts of each element, at least and at most.

    Example:
        >>> formula = stated_formula("Al0.33 O0.5")
        >>> [(number, round(formula.least[number], 2), round(formula.most[number], 2)) for number in formula.most]
        [(8, 0.45, 0.55), (13, 0.32, 0.34)]
    """
    cleaned = " ".join(text.replace("~", " ").replace("_", " ").split())
    if len(cleaned) > 1000:
        return None
    if not any(letter.islower() for letter in cleaned):
        words = cleaned.split()
        if len(words) > 1 and all(_ONE_ELEMENT.fullmatch(word) for word in words):
            cleaned = " ".join(word.capitalize() for word in words)  # 'CA C O3' of files in capitals
    if _PLAIN.fullmatch(cleaned):
        return _plain(text, cleaned)
    least: dict[int, float] = {}
    most: dict[int, float] = {}
    if " " not in cleaned:  # a formula as people write it, such as CuSO4.5H2O; in a spaced one .5 is a half
        cleaned, _ = join_parts(cleaned)
    for part in re.split(r"[,·*;]", _FULL_STOP_AS_DOT.sub("·", _CHARGE.sub("", cleaned))):
        counted = _counted(part)
        if counted is None:
            return None
        for number, (low, high) in counted.items():
            least[number] = least.get(number, 0.0) + low
            most[number] = most.get(number, 0.0) + high
    present = sorted(number for number, amount in most.items() if amount > 0 and isfinite(amount))
    if not present:
        return None
    return StatedFormula(text, {n: max(least[n], 0.0) for n in present}, {n: most[n] for n in present})


def _plain(text: str, cleaned: str) -> StatedFormula | None:
    counts: dict[int, float] = {}
    for symbol, amount in _COUNTED.findall(cleaned):
        number = 1 if symbol == "D" else NUMBERS.get(symbol)
        if number is None:
            return None
        counts[number] = counts.get(number, 0.0) + float(amount or 1)
    counts = {number: amount for number, amount in sorted(counts.items()) if amount > 0 and isfinite(amount)}
    return StatedFormula(text, counts, counts) if counts else None


def elements_named(text: str) -> frozenset[int]:
    """The elements that a formula names, amounts aside; none where it holds other words.

    Example:
        >>> sorted(elements_named("(Na,K)1-x Cl")), sorted(elements_named("Me3 N"))
        ([11, 17, 19], [])
    """
    words = re.findall(r"[A-Za-z]+", _VARIABLE.sub(" ", text))
    symbols = [symbol for word in words for symbol in re.findall(r"[A-Z][a-z]?|[a-z]", word)]
    known = [NUMBERS.get(symbol) for symbol in symbols]
    return frozenset() if None in known else frozenset(number for number in known if number is not None)


def _counted(part: str) -> dict[int, tuple[float, float]] | None:
    factor = 1.0
    if found := _FACTOR.match(part):
        factor = float(found[1])
        part = part[found.end() :]
    levels: list[dict[int, tuple[float, float]]] = [{}]
    end = 0
    part = part.rstrip()
    while end < len(part):
        match = _TOKEN.match(part, end)
        if match is None:
            return None
        if match["open"]:
            levels.append({})
            end = match.end("open")
            continue
        end = match.end()
        low, high = _amount(match["amount"])
        if match["close"]:
            if len(levels) < 2:
                return None
            for number, (least, most) in levels.pop().items():
                _add(levels[-1], number, least * low, most * high)
            continue
        known = 1 if match["element"] == "D" else NUMBERS.get(match["element"])
        if known is None:
            return None
        _add(levels[-1], known, low, high)
    if len(levels) != 1:
        return None
    return {number: (low * factor, high * factor) for number, (low, high) in levels[0].items()}


def _add(counts: dict[int, tuple[float, float]], number: int, low: float, high: float) -> None:
    before = counts.get(number, (0.0, 0.0))
    counts[number] = (before[0] + low, before[1] + high)


def _amount(text: str) -> tuple[float, float]:
    """The least and the most that an amount may be."""
    if text in ("", "."):
        return 1.0, 1.0
    if "/" in text:
        above, below = map(int, text.split("/"))
        return (above / below, above / below) if below else (0.0, 0.0)
    amount = float(text)
    _, _, decimals = text.partition(".")
    if not decimals.strip("0"):  # 2.00 is two
        return amount, amount
    uncertain = 0.05 if len(decimals) == 1 else 10.0 ** -len(decimals)
    return amount - uncertain, amount + uncertain
