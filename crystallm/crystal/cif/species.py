"""What atom a type symbol or a label of a CIF names.

The rule. A type symbol names the species; a label alone does so by its first component (core dictionary,
`_atom_site_label`), but people also write there what the atom belongs to. So

* a type symbol wins over the label. It may be in capitals (`MG`) and carry a charge (`Fe3+`, `O-2`) or a note
  (`H(SDS)`). `D` is hydrogen. `FeNi` and `Nb,Zr` are mixtures, `dummy` is no atom, `OH` and `NH` are no elements.
* of a label, the letters at its begin count: an element of two letters or of one, and the rest is a name (`O1A`,
  `FeII`). Where the elements of the crystal are known (formula sum, else the list of atom types), only these are read:
  `HO1` is hydrogen in Ca(OH)2 and holmium in Ho2O3. If both are there, the amounts decide (`content.judge`).
* where they are not known, an element written as the periodic table writes it stands (`Ho1`, `Cs1`), and so does what
  has but one reading (`MG1`, `HB2`). Two readings are refused by name: `HO1`, `CO1`, `SI2`, `OH`, `W1` (tungsten or
  water). Elements beyond lawrencium are never read from a label: `NH4` is no nihonium, `CN` no copernicium.
* two elements that share sites in crystals (`SiAl`, `NaCa`, `OF`) are a mixture, and so is what stands between commas
  or slashes. Names of no element (`REE`, `M1`, `Va`, `Cg`) are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from crystallm.crystal.formulas.elements import ELEMENTS, LAST_WITH_CRYSTALS, NUMBERS

OXYGEN, TUNGSTEN = NUMBERS["O"], NUMBERS["W"]

WATER = re.compile(r"(?:OW|Ow|ow|WA|Wa|AQ|Aq|aq)(?![A-Za-z])|(?i:WAT)")
HYDRATE = re.compile(r"H2O|O\d*[wW]")
HYDROXYL = re.compile(r"O-?[hH](?![a-z])")
CLASSES = {"RE": "Re or a rare earth", "TM": "Tm or a transition metal"}
NAMES_OF_NO_ELEMENT = frozenset(
    ["ree", "ln", "me", "an", "va", "vac", "vacancy", "void", "du", "dum", "dummy", "bq", "cg", "cent", "lp", "xx"]
) | frozenset("xqmtarzleg")
ROMAN = re.compile(r"(?:I{1,3}|I?V|VI{0,3}|I?X)(?![A-Za-z])")
WORD = re.compile(r"[A-Z][a-z]{3}")
_AFTER_SEPARATOR = re.compile(r"[,/|&;+:]\s*\(?([A-Z][a-z]?)|[-_]([A-Z][a-z]|[D-HJ-UW-Z])(?![A-Za-z])")
_PART_OF_SITE = re.compile(r"([A-Z][a-z]?)\d*\.\d+([A-Z][a-z]?)")
_TWO_COUNTED = re.compile(r"([A-Z][a-z])\d+([A-Z][a-z])(?![a-z])|([A-Z][a-z]?) +([A-Z][a-z]?)(?![a-z])")
_PART_OF_ATOM = re.compile(r"0?\.\d+")
_WATER_MOLECULE = re.compile(r"H[23]O")
_SYMBOL = re.compile(r"[A-Z][a-z]?")

_NEVER_CATIONS = frozenset({"H", "C", "N", "O", "F", "S", "Cl", "Se", "Br", "I", "He", "Ne", "Ar", "Kr", "Xe", "Rn"})
_SHARING_ANIONS = (frozenset({"O", "F"}), frozenset({"F", "Cl", "Br", "I"}), frozenset({"S", "Se", "Te"}))


class Kind(Enum):
    """What a type symbol or label stands for."""

    ATOM = "atom"
    DUMMY = "dummy"
    """A point in space without an atom."""
    MIXTURE = "mixture"
    """Several elements on one site."""
    OPEN = "open"
    """An atom that could be one of several elements, or a group of atoms."""
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Species:
    """What one type symbol or label names."""

    kind: Kind
    numbers: tuple[int, ...] = ()
    """Atomic numbers that it may mean, the plainest reading first; one unless amounts have to decide."""
    readings: str = ""
    """The readings in words, where there are several or none."""
    is_water: bool = False
    """Whether the name says that the atom is the oxygen of a water molecule."""


@lru_cache(maxsize=4096)
def species_of_type(symbol: str) -> Species:
    """What an `_atom_site_type_symbol` names.

    Args:
        symbol: such as `Fe`, `Fe3+`, `O-2`, `MG`, `D`.

    Returns:
        The species, of kind ATOM with one number where the symbol is that of an element.

    Example:
        >>> species_of_type("Fe3+").numbers, species_of_type("FeNi").kind.name
        ((26,), 'MIXTURE')
    """
    letters, _ = _split(symbol)
    if letters.lower() in ("dummy", "dum"):
        return Species(Kind.DUMMY)
    if shared := _shared_sites(symbol):
        return Species(Kind.MIXTURE, readings=shared)
    if letters.endswith(("val", "va")) and letters not in (
        "Va",
        "Val",
    ):  # scattering factors: Cval
        letters = letters.removesuffix("al").removesuffix("va").removesuffix("v")
    if _WATER_MOLECULE.match(symbol):
        return Species(Kind.UNKNOWN)
    number = _number(letters)
    is_group = letters.isupper() and number is not None and number > LAST_WITH_CRYSTALS
    if number is not None and _PART_OF_ATOM.fullmatch(symbol[len(letters) :]):
        return Species(Kind.MIXTURE, readings=f"{symbol[len(letters) :]} {letters}")
    if number is None or is_group:
        parts = _parts(letters)
        if len(parts) > 1 and _may_share(parts):
            return Species(Kind.MIXTURE, readings=" and ".join(parts))
        return Species(Kind.UNKNOWN)
    return Species(Kind.ATOM, (number,))


@lru_cache(maxsize=4096)
def species_of_label(label: str, present: frozenset[int] | None = None) -> Species:
    """What an `_atom_site_label` names, where there is no type symbol; see the rule above.

    Args:
        label: such as `Fe1`, `HO1`, `Wat2`.
        present: atomic numbers of the elements that the file says are in the crystal, None if it says nothing.

    Returns:
        The species; of kind ATOM with several numbers where the amounts in the formula sum have to decide.

    Example:
        >>> species_of_label("HO1", frozenset({1, 8, 20})).numbers, species_of_label("CA1").readings
        ((1,), 'Ca or C')
    """
    letters, _ = _split(label)
    if shared := _shared_sites(label):
        return Species(Kind.MIXTURE, readings=shared)
    if WATER.match(label):
        return _water(present)
    if not letters or letters.lower() in NAMES_OF_NO_ELEMENT:
        return Species(Kind.UNKNOWN)
    if WORD.match(letters) and present is None:  # Atom1 is no astatine, Carbon1 no calcium
        return Species(Kind.UNKNOWN)
    parts = _parts(letters)
    double, single = _number(letters[:2]) if len(letters) > 1 else None, _number(letters[:1])
    if present is None:
        return _plain(label, parts, double, single)
    if len(parts) > 1 and _may_share(parts) and sum(NUMBERS[part] in present for part in parts) > 1:
        return Species(Kind.MIXTURE, readings=" and ".join(parts))
    readings = [number for number in (double, single) if number is not None and number in present]
    if (letters == "W" or _WATER_MOLECULE.match(label)) and OXYGEN in present:
        readings.append(OXYGEN)
    return (
        Species(Kind.ATOM, tuple(readings)) if readings else Species(Kind.OPEN, readings=_words(double, single, parts))
    )


def _plain(label: str, parts: list[str], double: int | None, single: int | None) -> Species:
    """A label of which nothing else is known: an element if there is but one reading."""
    letters, _ = _split(label)
    words = _words(double, single, parts)
    is_written_as_element = double is not None and letters[:1].isupper() and letters[1:2].islower()
    if letters == "W" or _WATER_MOLECULE.match(label):
        return Species(Kind.OPEN, readings=f"{letters} or the oxygen of water")
    if HYDROXYL.match(label):
        return Species(Kind.OPEN, readings="O or OH")
    if letters in CLASSES:
        return Species(Kind.OPEN, readings=CLASSES[letters])
    if double is not None and double > LAST_WITH_CRYSTALS:
        return Species(Kind.OPEN, readings=words)
    if len(letters) == 2 and letters.isupper() and double is not None and single is not None:
        return Species(Kind.OPEN, readings=words)  # PB is lead or phosphorus in capitals, hardly P with B
    if len(parts) > 1:
        if _may_share(parts):
            return Species(Kind.MIXTURE, readings=" and ".join(parts))
        if double is None and parts[0] in ("H", "O"):  # the oxygen of a phosphorus, the hydrogen of a nitrogen
            return Species(Kind.ATOM, (NUMBERS[parts[0]],))
        if not (is_written_as_element and ROMAN.fullmatch(letters[2:])):
            return Species(Kind.OPEN, readings=words)
    if double is not None and single is not None and not is_written_as_element:
        return Species(Kind.OPEN, readings=words)
    number = single if double is None else double
    if number is None:
        return Species(Kind.UNKNOWN)
    return Species(Kind.ATOM, (number,), is_water=HYDRATE.match(label) is not None)


def _water(present: frozenset[int] | None) -> Species:
    if present is not None and OXYGEN not in present:
        return Species(Kind.OPEN, readings="the oxygen of water")
    return Species(Kind.ATOM, (OXYGEN,), is_water=True)


def _split(name: str) -> tuple[str, str]:
    end = next((place for place, letter in enumerate(name) if not letter.isascii() or not letter.isalpha()), len(name))
    return name[:end], name[end:]


def _number(letters: str) -> int | None:
    """The atomic number of a symbol in any case, D being hydrogen; None if it is none."""
    symbol = letters[:1].upper() + letters[1:].lower()
    return 1 if symbol == "D" else NUMBERS.get(symbol)


def _parts(letters: str) -> list[str]:
    """The symbols that letters are made of as the periodic table writes them, if all of them are; else nothing."""
    parts = _SYMBOL.findall(letters)
    if "".join(parts) != letters or len(parts) < 2 or not all(part in NUMBERS for part in parts):
        return []
    return list(dict.fromkeys(parts)) if len(set(parts)) > 1 else []


def _may_share(parts: list[str]) -> bool:
    """Whether the elements occur on one site of crystals: all cations, or anions of one kind."""
    if all(part not in _NEVER_CATIONS for part in parts):
        return True
    return any(set(parts) <= anions for anions in _SHARING_ANIONS)


def _shared_sites(name: str) -> str:
    """Two elements with a comma, a slash, an amount or the like between them, in words; empty if there are none."""
    parts = _PART_OF_SITE.match(name)
    if parts is not None and parts[1] in NUMBERS and parts[2] in NUMBERS:  # Na0.5K0.5
        return f"{parts[1]} and {parts[2]}"
    counted = _TWO_COUNTED.match(name)  # Fe1Ni1, 'Fe Ni'
    if counted is not None:
        one, other = filter(None, counted.groups())
        if one != other and one in NUMBERS and other in NUMBERS and _may_share([one, other]):
            return f"{one} and {other}"
    found = _AFTER_SEPARATOR.search(name)
    first = _SYMBOL.search(name)
    if found is None or first is None:
        return ""
    one, other = first.group(), found[1] or found[2]
    if one not in NUMBERS or other not in NUMBERS or one == other:
        return ""
    if found[2] and not _may_share([one, other]):  # O_Si1 is an oxygen of silicon, Mg-Fe a mixture
        return ""
    return f"{one} and {other}"


def _words(double: int | None, single: int | None, parts: list[str]) -> str:
    readings = [ELEMENTS[number - 1] for number in (double, single) if number is not None]
    if len(parts) > 1:
        readings.append("a group of " + " and ".join(parts))
    return " or ".join(dict.fromkeys(readings))
