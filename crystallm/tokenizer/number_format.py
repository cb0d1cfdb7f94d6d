"""How a layout writes numbers: tokens of digits, and the reading of tokens one after another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

DIGITS = tuple("0123456789")
PAIRS = tuple(f"{number:02d}" for number in range(100))
"""Digits are written two at a time (docs/decisions/0003); a single one stands only where an odd number of them ends."""
WRITTEN: Mapping[int, tuple[str, ...]] = {1: DIGITS, 2: PAIRS}
"""Tokens of so many digits."""
_KNOWN = {width: frozenset(tokens) for width, tokens in WRITTEN.items()}


class TextSyntaxError(Exception):
    """A text that does not follow its layout; becomes a Rejection in `Layout.read`."""


class Cursor:
    """The tokens of one text and the place reached in them."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.place = 0

    def peek(self) -> str:
        """The next token, or the empty string at the end."""
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def take(self) -> str:
        """The next token; moves on."""
        token = self.peek()
        self.place += 1
        return token

    def expect(self, token: str) -> None:
        """Move over a token that must stand here."""
        found = self.take()
        if found != token:
            raise TextSyntaxError(f"expected {token.strip()!r}, found {found.strip()!r}")


def digit_tokens(digits: str) -> list[str]:
    """A row of digits as tokens: pairs, and at the end of an odd row a single digit."""
    return [digits[i : i + 2] for i in range(0, len(digits), 2)]


@dataclass(frozen=True)
class NumberFormat:
    """A number at fixed precision: a start that holds the integer part and the point, then digits in pairs."""

    decimals: int
    lower: int
    """Smallest integer part."""
    upper: int
    """Largest integer part."""
    lead: str = ""
    """White space in front."""
    decimals_in_start: int = 0
    """Decimals that the token of the integer part holds too."""

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Digits of each token after the start: pairs, and a single one where an odd number is left."""
        pairs, single = divmod(self.decimals - self.decimals_in_start, 2)
        return (2,) * pairs + (1,) * single

    def vocabulary(self) -> list[str]:
        """Every token that can start a number, in order of value; digits are shared."""
        places = self.decimals_in_start
        unit = 10**places
        numbers = range(self.lower * unit, (self.upper + 1) * unit)
        return [f"{self.lead}{n // unit}." + (f"{n % unit:0{places}d}" if places else "") for n in numbers]

    @cached_property
    def _starts(self) -> frozenset[str]:
        return frozenset(self.vocabulary())

    def tokens(self, value: float) -> list[str]:
        """The tokens of a value."""
        text = self.lead + f"{value:.{self.decimals}f}"
        end_of_start = len(text) - sum(self.widths)
        return [text[:end_of_start], *digit_tokens(text[end_of_start:])]

    def read(self, cursor: Cursor) -> float:
        """The value at the cursor."""
        start = cursor.take()
        digits = [cursor.take() for _ in self.widths]
        known = all(token in _KNOWN[width] for token, width in zip(digits, self.widths, strict=True))
        if start not in self._starts or not known:
            raise TextSyntaxError(f"expected a number, found {(start + ''.join(digits)).strip()!r}")
        return float(start + "".join(digits))


LENGTH = NumberFormat(decimals=4, lower=0, upper=199)
ANGLE = NumberFormat(decimals=2, lower=0, upper=179)
COORDINATE = NumberFormat(decimals=4, lower=0, upper=0, lead=" ", decimals_in_start=2)
