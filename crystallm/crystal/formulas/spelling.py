"""The formulas that letters in the wrong case may stand for: `tio2` is TiO2, `caco3` CaCO3 or CaCo3."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

from pymatgen.core import Composition, Element

from crystallm.crystal.formulas.elements import ELEMENTS, LAST_WITH_CRYSTALS

MOST_OFFERED = 6
LONGEST_WORD = 6
"""Letters in a row without capitals or digits; longer ones are names, such as `titania`."""

MOST_ATOMS = 400
"""Atoms of a reduced formula whose charges are balanced."""

SYMBOLS = frozenset(ELEMENTS[:LAST_WITH_CRYSTALS])
UNLIKELY = frozenset(
    {"He", "Ne", "Ar", "Kr", "Tc", "Pm", "Po", "At", "Rn", "Fr", "Ra", "Ac", "Pa", *ELEMENTS[92:LAST_WITH_CRYSTALS]}
)


def spellings(text: str) -> list[str]:
    """The formulas that the letters of a text spell if their case is open, the most likely first.

    Capitals are kept as beginnings of elements where that leaves any. Likely are formulas without rare elements, with
    balanced charges (common oxidation states, by pymatgen), of few elements.

    Example:
        >>> spellings("caco3")
        ['CaCO3', 'CaCo3', 'CAcO3']
    """
    if re.fullmatch(rf"[a-z]{{{LONGEST_WORD + 1},}}", text):
        return []
    found = list(_spelled(text, keep_capitals=text.upper() != text)) or list(_spelled(text, keep_capitals=False))
    return sorted(dict.fromkeys(found), key=_unlikeliness)[:MOST_OFFERED]


def balanced_alternative(text: str) -> str | None:
    """What a formula in capitals only was probably meant to be, though it can be read as it stands: SiO2 for SIO2.

    Returns:
        The likeliest other spelling, if it has balanced charges and no rare element and the text has not; else None.
    """
    if len(re.findall("[A-Z]", text)) < 3 or re.search("[a-z]", text):
        return None
    others = [one for one in spellings(text) if one != text and len(_elements(one)) > 1]
    best = next((one for one in others if _unlikeliness(one)[:2] == (0, False)), None)
    return best if best is not None and _unlikeliness(best) < _unlikeliness(text) else None


def _spelled(text: str, *, keep_capitals: bool) -> Iterator[str]:
    """Depth first, at most a thousand: each has as many as there are ways to cut its runs of letters."""
    stack, made = [("", text)], 0
    while stack and made < 1000:
        done, rest = stack.pop()
        if not rest:
            made += 1
            yield done
            continue
        if not rest[0].isalpha():
            stack.append((done + rest[0], rest[1:]))
            continue
        for length in (1, 2):
            symbol, tail = rest[:length].capitalize(), rest[1:length]
            if symbol in SYMBOLS and len(rest) >= length and not (keep_capitals and tail.isupper()):
                stack.append((done + symbol, rest[length:]))


def _elements(text: str) -> list[str]:
    return re.findall(r"[A-Z][a-z]?", text)


def _unlikeliness(text: str) -> tuple[int, bool, int, str]:
    symbols = set(_elements(text))
    return len(symbols & UNLIKELY), not _is_balanced(text), len(symbols), text


def _is_balanced(text: str) -> bool:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No Pauling electronegativity")  # pymatgen, for each noble gas
        try:
            formula = Composition(re.sub(r"[^A-Za-z0-9()\[\]{}]", "", text)).reduced_composition
        except ValueError:
            return False
    if not formula.valid or len(formula) < 2 or formula.num_atoms > MOST_ATOMS:
        return False
    # As pymatgen's `oxi_state_guesses`, which looks at all combinations and needs minutes for 21 atoms of carbon.
    sums = {0}
    for element, amount in formula.items():
        known = Element(element.symbol)
        states = known.icsd_oxidation_states or known.common_oxidation_states
        for _ in range(round(amount)):
            sums = {charge + state for charge in sums for state in states}
    return 0 in sums
