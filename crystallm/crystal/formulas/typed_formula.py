"""What a typed formula says: parts joined by dots, brackets, amounts. Exact numbers; nothing is reduced here.

The rule of the dot: a middle dot or an asterisk always joins two parts. A full stop joins two parts if no digit follows
it, or if a space stands beside it, or if compounds stand on both of its sides: two or more elements each, the first
ending in a nonmetal or a bracket, the second with whole amounts. Every other full stop is a decimal point.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from crystallm.base.errors import CompositionError
from crystallm.crystal.formulas.elements import ELEMENTS, NONMETALS
from crystallm.crystal.formulas.spelling import spellings
from crystallm.crystal.formulas.unordered import refuse_charges, refuse_partial_occupancy

MAX_ATOMS_PER_FORMULA = 999
MAX_LETTERS = 200

DOT = "·"
DOTS = "·•⋅∙‧・*∗⁎"
"""U+00B7, 2022, 22C5, 2219, 2027, 30FB, the asterisk, U+2217 and 204E: all are typed for the dot of a hydrate."""

BRACKETS = {"(": ")", "[": "]", "{": "}"}

EXAMPLE = "write for example TiO2 or Ca(OH)2"

_DASHES = dict.fromkeys(map(ord, "‐‑‒–—−"), "-")
_TOKEN = re.compile(r" *(?:(?P<element>[A-Z][a-z]?)|(?P<open>[(\[{])|(?P<close>[)\]}])) *(?P<amount>[0-9.]*)")
_FACTOR = re.compile(r" *(?P<number>\d+(?:\.\d+)?(?:/\d+)?)(?=[ A-Z(\[{])")
_ELEMENT = re.compile(r"[A-Z][a-z]?")


@dataclass(frozen=True)
class Reading:
    """A formula as it was typed."""

    text: str
    """With plain digits and brackets, and one kind of dot between its parts."""
    counts: Mapping[str, Fraction]
    """Atoms of each element, in the order in which they come first; D is counted as H."""
    fractional: str | None
    """The first amount of an element or a bracket that is no whole number; None if all are."""
    guessed_dot: bool
    """Whether a full stop between digits was read as a dot between two parts."""
    has_deuterium: bool


def read_text(typed: str) -> Reading:
    """Read a formula without reducing it.

    Args:
        typed: what a person wrote, such as `CuSO4·5H2O`, `TiO₂` or `Ba Ti O3`.

    Returns:
        Atoms of each element as exact fractions: amounts such as 0.5 are read, not judged.

    Raises:
        CompositionError: for what is no formula of one ordered, neutral crystal: unknown elements, wrong case (with
            the right spelling), charges, partial occupancy (with an ordered end member), amounts of zero or above 999.

    Example:
        >>> dict(read_text("CuSO4.5H2O").counts)["O"]
        Fraction(9, 1)
    """
    text = cleaned(typed)
    if not text:
        raise CompositionError("the formula is empty; write for example TiO2")
    if len(text) > MAX_LETTERS:
        raise CompositionError(f"the formula {text[:20]!r}... has {len(text)} letters, more than {MAX_LETTERS}")
    refuse_partial_occupancy(text, typed, is_formula=_is_whole)
    refuse_charges(text, typed)
    joined, guessed = join_parts(text)
    parts = _Parts(typed.strip(), joined, offers=True)
    for part in joined.split(DOT):
        parts.add(part)
    return Reading(joined, parts.counts, parts.fractional, guessed, parts.has_deuterium)


def cleaned(typed: str) -> str:
    """Plain digits, letters and brackets for subscripts, full-width signs, TeX subscripts and spaces of any kind.

    Superscripts become `^`, dashes of any length `-`, and all dots but the full stop the middle dot.
    """
    text = re.sub(r"_\{?(\d+(?:\.\d+)?)\}?", r"\1", typed)
    text = re.sub(r"(?<=\d)(?=[¼½¾⅓⅔])", " ", text)  # so that 1½ does not become 11/2
    text = re.sub(r"(?=[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻])", "^", text)
    text = unicodedata.normalize("NFKC", text).replace("\N{FRACTION SLASH}", "/")
    text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf").translate(_DASHES)
    text = re.sub(f"[{re.escape(DOTS)}]", DOT, text)
    text = re.sub(r"(?<=\d),(?=\d)", ".", text)  # a decimal comma
    return re.sub(r"\s+", " ", text).strip()


def join_parts(text: str) -> tuple[str, bool]:
    """A cleaned formula with a middle dot for each full stop that joins two parts, by the rule of the dot.

    Returns:
        The formula, and whether that was decided for a full stop that might be a decimal point.

    Example:
        >>> join_parts("CaSO4.0.5H2O")
        ('CaSO4·0.5H2O', True)
    """
    guessed, depth = False, 0
    for place, letter in enumerate(text):
        depth += (letter in BRACKETS) - (letter in BRACKETS.values())
        if letter != "." or depth:
            continue
        before, after = text[:place], text[place + 1 :]
        left = before[before.rfind(DOT) + 1 :]
        if re.match(r"[ A-Z(\[{]", after) or before.endswith(" "):
            text = before + DOT + after
        elif _is_compound_with_anion(left) and _begins_with_factor_and_compound(after):
            text, guessed = before + DOT + after, True
    return text, guessed


def _is_compound_with_anion(left: str) -> bool:
    symbols = _ELEMENT.findall(left)
    ends_well = re.search(r"(?:[A-Z][a-z]?|[)\]}]) *(?:[1-9]\d*)?$", left) is not None
    in_brackets = re.search(r"[)\]}] *\d*$", left) is not None
    return len(set(symbols)) > 1 and ends_well and (in_brackets or symbols[-1] in NONMETALS)


def _begins_with_factor_and_compound(after: str) -> bool:
    found = re.match(rf"\d+(?:\.\d+)?(?P<rest>[^.{DOT}]*)", after)
    if found is None:
        return False
    symbols, amounts = _ELEMENT.findall(found["rest"]), re.findall(r"\d+", found["rest"])
    known = all(symbol in ELEMENTS or symbol == "D" for symbol in symbols)
    return len(set(symbols)) > 1 and known and all(int(amount) for amount in amounts)


class _Parts:
    """Counts that grow part by part. offers: whether errors offer other spellings, which are read in turn."""

    def __init__(self, typed: str, text: str, *, offers: bool) -> None:
        self.typed, self.text, self.offers = typed, text, offers
        self.counts: dict[str, Fraction] = {}
        self.fractional: str | None = None
        self.has_deuterium = False

    def add(self, part: str) -> None:
        """Read a part: a number in front multiplies it."""
        factor = Fraction(1)
        if number := _FACTOR.match(part):
            factor = self._number(number["number"])
            part = part[number.end() :]
        for symbol, count in self._counted(part).items():
            self.counts[symbol] = self.counts.get(symbol, Fraction(0)) + count * factor

    def _counted(self, rest: str) -> dict[str, Fraction]:
        levels: list[tuple[str, dict[str, Fraction]]] = [("", {})]
        while rest.strip():
            match = _TOKEN.match(rest)
            if match is None:
                raise self._unreadable(rest.strip())
            closing, counts = levels[-1]
            if match["open"]:
                levels.append((BRACKETS[match["open"]], {}))
                rest = rest[match.end("open") :]
                continue
            rest = rest[match.end() :]
            if match["close"]:
                if not closing:
                    raise CompositionError(f"formula {self.typed!r} closes a bracket that was never opened")
                if match["close"] != closing:
                    raise CompositionError(f"formula {self.typed!r} lacks a closing bracket {closing!r}")
                levels.pop()
                if not counts:
                    raise CompositionError(f"no elements in a bracket of formula {self.typed!r}; {EXAMPLE}")
                amount, outer = self._amount(match["amount"]), levels[-1][1]
                for symbol, count in counts.items():
                    outer[symbol] = outer.get(symbol, Fraction(0)) + count * amount
                continue
            symbol = self._element(match["element"])
            counts[symbol] = counts.get(symbol, Fraction(0)) + self._amount(match["amount"])
        if len(levels) > 1:
            raise CompositionError(f"formula {self.typed!r} lacks a closing bracket")
        if not levels[0][1]:
            raise CompositionError(f"no elements in formula {self.typed!r}; {EXAMPLE}")
        return levels[0][1]

    def _element(self, symbol: str) -> str:
        if symbol == "D":
            self.has_deuterium = True
            return "H"
        if symbol not in ELEMENTS:
            remedy = self._spelled_right() or "use the symbols of the periodic table, capital first, such as Ca or O"
            raise CompositionError(f"unknown element {symbol!r} in formula {self.typed!r}; {remedy}")
        return symbol

    def _unreadable(self, rest: str) -> CompositionError:
        remedy = self._spelled_right()
        if remedy is None and rest[0].isdigit():
            remedy = "a number stands behind an element, in front of the whole, or after a dot, as in CuSO4·5H2O"
        return CompositionError(f"cannot read formula {self.typed!r} at {rest!r}; {remedy or EXAMPLE}")

    def _spelled_right(self) -> str | None:
        if not self.offers:
            return None
        found = [text for text in spellings(self.text) if _is_whole(text)]
        return f"did you mean {' or '.join(found)}?" if found else None

    def _amount(self, text: str) -> Fraction:
        if not text:
            return Fraction(1)
        value = self._number(text)
        if value.denominator > 1:
            self.fractional = self.fractional or text
        elif len(text) > 1 and text[0] == "0" and text[1] != ".":
            meant = self.text.replace(text, "O" + text.lstrip("0"))
            remedy = f"did you mean {meant}?" if self.offers and _is_whole(meant) else "leave out the zeros before it"
            raise CompositionError(f"amount {text} in formula {self.typed!r} begins with the digit zero; {remedy}")
        return value

    def _number(self, text: str) -> Fraction:
        try:
            value = Fraction(text)
        except (ValueError, ZeroDivisionError):
            raise CompositionError(f"cannot read amount {text!r} in formula {self.typed!r}") from None
        if value <= 0:
            raise CompositionError(
                f"amount {text} in formula {self.typed!r}: amounts are positive whole numbers; leave out what is not "
                "there"
            )
        if value > MAX_ATOMS_PER_FORMULA:
            raise CompositionError(f"amount {text} in formula {self.typed!r} is above {MAX_ATOMS_PER_FORMULA}")
        return value


def _is_whole(text: str) -> bool:
    """Whether a cleaned text can be read and all its amounts are whole."""
    parts = _Parts(text, text, offers=False)
    try:
        for part in join_parts(text)[0].split(DOT):
            parts.add(part)
    except CompositionError:
        return False
    return parts.fractional is None
