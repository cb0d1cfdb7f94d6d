"""The composition filter of CDVAE: charge neutrality and electronegativity, with the tables of SMACT 2.2.1.

CDVAE (Xie et al., ICLR 2022) counts a crystal as valid only if its composition passes `smact_validity`; DiffCSP, FlowMM
and CrystaLLM count matches of valid crystals only. Later versions of SMACT hold other oxidation states, so the tables
of the version in CDVAE's environment file are kept beside this module (smact_2_2_1.txt, MIT). With them 3732 of the
3785 test compositions of Perov-5 pass, as published.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import gcd
from pathlib import Path

TABLE = Path(__file__).with_name("smact_2_2_1.txt")
TABLE_NAME = "SMACT 2.2.1 (oxidation states smact14), form of CDVAE"


@dataclass(frozen=True)
class ElementRow:
    """What the filter knows of an element."""

    electronegativity: float | None
    """Pauling's; None where SMACT has none."""
    is_metal: bool
    oxidation_states: tuple[int, ...]


@cache
def smact_elements() -> Mapping[str, ElementRow]:
    """The table of SMACT 2.2.1 by element symbol, in order of atomic number, H to Lr."""
    rows = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            symbol, electronegativity, metal, *states = line.split()
            known = None if electronegativity == "-" else float(electronegativity)
            rows[symbol] = ElementRow(known, metal == "m", tuple(map(int, states)))
    return rows


def smact_valid(amounts: Mapping[str, int]) -> bool:
    """Whether a composition (element symbol -> atoms) passes the filter of CDVAE.

    Single elements and compounds of metals only pass. Others need one neutral combination of the tabulated oxidation
    states, one for each element, in which every cation is less electronegative than every anion. Elements that SMACT
    does not know fail.
    """
    divisor = gcd(*amounts.values())
    return _valid(tuple(sorted((symbol, amount // divisor) for symbol, amount in amounts.items())))


@cache
def _valid(amounts: tuple[tuple[str, int], ...]) -> bool:
    if len(amounts) == 1:
        return True
    table = smact_elements()
    if any(symbol not in table for symbol, _ in amounts):
        return False
    # In order of atomic number, as CDVAE does: with unknown electronegativities the verdict depends on it.
    counts = dict(amounts)
    symbols = [symbol for symbol in table if symbol in counts]
    rows = [table[symbol] for symbol in symbols]
    if all(row.is_metal for row in rows):
        return True
    states = [row.oxidation_states for row in rows]
    amounts_of = [counts[symbol] for symbol in symbols]
    return any(
        _can_be_neutral(allowed, amounts_of) for allowed in _allowed(states, [row.electronegativity for row in rows])
    )


def _allowed(
    states: Sequence[Sequence[int]], electronegativities: Sequence[float | None]
) -> Iterator[list[Sequence[int]]]:
    """Choices of states for each element of which every combination passes `cations_less_electronegative`; together
    they hold all combinations that pass.

    With all electronegativities known, cations and anions pass if some value lies between theirs. The test takes pairs
    in order and ends at the first with an unknown one: at that of the first element with the first unknown, which must
    differ in sign. What comes after it is free; what comes before obeys the rule with the first element alone.
    """
    unknown = next((place for place, value in enumerate(electronegativities) if value is None), None)
    if unknown is None:
        known = [value for value in electronegativities if value is not None]
        for highest_cation in {-1.0, *known}:
            yield [
                [state for state in some if (state >= 0 if value <= highest_cation else state <= 0)]
                for some, value in zip(states, known, strict=True)
            ]
        return
    # An unknown first element ends the test at its pair with the second.
    partner = max(unknown, 1)
    for first in states[0]:
        choices: list[Sequence[int]] = [[first]]
        for place in range(1, len(states)):
            allowed: Sequence[int] = states[place]
            if place == partner:
                allowed = [state for state in allowed if state * first < 0]
            elif place < partner:
                pair = (electronegativities[0], electronegativities[place])
                allowed = [state for state in allowed if cations_less_electronegative((first, state), pair)]
            choices.append(allowed)
        yield choices


def _can_be_neutral(states: Sequence[Sequence[int]], amounts: Sequence[int]) -> bool:
    """Whether one state of each element can be chosen so that charges add up to nothing.

    The charges that some elements can have together are few, however many ways lead to them.
    """
    charges = {0}
    for some, amount in zip(states, amounts, strict=True):
        charges = {charge + state * amount for charge in charges for state in some}
    return 0 in charges


def cations_less_electronegative(states: Sequence[int], electronegativities: Sequence[float | None]) -> bool:
    """Pauling's test as SMACT 2.2.1 and CDVAE together make it, pair by pair.

    Where a cation or an anion has no electronegativity, SMACT raises TypeError and CDVAE takes that as passed; where a
    pair of equal sign has none, SMACT says no.
    """
    pairs = itertools.combinations(zip(states, electronegativities, strict=True), 2)
    for (state, value), (other_state, other_value) in pairs:
        opposite = state * other_state < 0
        if value is None or other_value is None:
            return opposite
        if opposite and (value - other_value) * state >= 0:
            return False
    return True
