"""Formulas of what is no ordered, neutral crystal: refused, with an ordered one near it where there is one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice, product

from crystallm.base.errors import CompositionError
from crystallm.crystal.formulas.elements import ELEMENTS

MOST_OFFERED = 4

_SHARED_SITE = re.compile(r"([(\[{])([^()\[\]{}]*,[^()\[\]{}]*)[)\]}]")
_VARIABLE = r"[xyznδ]"
_SHIFT = re.compile(rf"(?P<whole>[\d.]*) ?[-+] ?[\d.]*(?:{_VARIABLE}|d(?![a-z]))")
_UNKNOWN_AMOUNT = re.compile(rf"(?P<what>[A-Z][a-z]?|[)\]}}]) ?[\d.]*{_VARIABLE}(?![a-z])")
_UNKNOWN_PART = re.compile(rf"[·.] ?(?P<amount>\d*{_VARIABLE}) ?(?=[A-Z(\[{{])[^·.]*")
_CHARGE = re.compile(r"\^.*|[(\[{]\d*[-+][)\]}].*|(?:\d+[-+]|[-+]\d*)$")


def refuse_partial_occupancy(text: str, typed: str, *, is_formula: Callable[[str], bool]) -> None:
    """Raise CompositionError, with ordered end members, for several elements on a site, dopants, or unknown amounts.

    Args:
        text: the formula cleaned. typed: as it was typed.
        is_formula: tells whether what would be offered can be read.
    """
    if ":" in text:
        why, members = "a dopant", iter([text.split(":")[0].strip()])
    elif "," in text:
        why, members = "several elements on one site", _members_of_shared_sites(text)
    elif unknown := _unknown(text):
        why, members = f"an amount {unknown!r} that is no number", iter([_without_unknown(text)])
    else:
        return
    offered = [member for member in dict.fromkeys(islice(members, 20)) if is_formula(member)][:MOST_OFFERED]
    remedy = f"ask for an ordered end member: {' or '.join(offered)}" if offered else "write an ordered formula"
    raise CompositionError(f"formula {typed.strip()!r} has {why}; partial occupancy is not supported, {remedy}")


def refuse_charges(text: str, typed: str) -> None:
    """Raise CompositionError for charges, superscripts and sums."""
    if "+" in text and (found := re.search(r"\+ ?[A-Z(\[{0-9].*", text)) and re.search("[A-Z]", found.group()):
        raise CompositionError(f"cannot read formula {typed.strip()!r} at {found.group()!r}; write one formula")
    if found := _CHARGE.search(text):
        raise CompositionError(
            f"cannot read formula {typed.strip()!r} at {found.group()!r}; a crystal is neutral: leave charges out and "
            "write all its ions, such as FeCl3 or Na2SO4"
        )


def _members_of_shared_sites(text: str) -> Iterator[str]:
    sites = list(_SHARED_SITE.finditer(text))
    choices = [[re.sub(r"[\d.]+$", "", one.strip()) for one in site[2].split(",")] for site in sites]
    for chosen in product(*choices):
        pieces, end = [], 0
        for site, element in zip(sites, chosen, strict=True):
            bare = element in ELEMENTS
            pieces += [text[end : site.start()], element if bare else f"({element})"]
            end = site.end()
        yield "".join([*pieces, text[end:]])


def _unknown(text: str) -> str | None:
    if part := _UNKNOWN_PART.search(text):
        return part["amount"]
    if shift := _SHIFT.search(text):
        return shift.group().strip()
    found = next(_unknown_amounts(text), None)
    return None if found is None else found.group()[len(found["what"]) :].strip()


def _unknown_amounts(text: str) -> Iterator[re.Match[str]]:
    """Not the second letter of an element, as the n of Zn; nor letters in the wrong case, as in `Sno2`."""
    for found in _UNKNOWN_AMOUNT.finditer(text):
        what, rest = found["what"], text[found.end() :]
        is_element = what in ELEMENTS and f"{what}{found.group()[-1]}" not in ELEMENTS and not rest[:1].islower()
        if is_element or what in (")", "]", "}"):
            yield found


def _without_unknown(text: str) -> str:
    """The formula without parts of unknown amount, and with x = 0 where it says 1-x, else x = 1."""
    text = _UNKNOWN_PART.sub("", text)
    is_shift = _SHIFT.search(text) is not None
    text = _SHIFT.sub(lambda found: "" if found["whole"] == "1" else found["whole"], text)
    for found in reversed(list(_unknown_amounts(text))):
        keep = found["what"] if not is_shift or found["what"] in (")", "]", "}") else ""
        text = text[: found.start()] + keep + text[found.end() :]
    return text
