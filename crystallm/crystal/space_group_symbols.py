"""Space groups by the names that people give them: every spelling is one or more settings of the tables.

The tables are those of gemmi (564 settings) and of moyopy (the 530 of spglib, with full symbols and e-glides).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache

import gemmi
import moyopy

from crystallm.base.errors import SymmetryError

Tiers = tuple[tuple["Setting", ...], ...]
"""Settings that a name may mean, the first group by the rules of the tables, later ones only where those fail."""


@dataclass(frozen=True)
class Setting:
    """One setting of a space group: axes and origin are fixed.

    triplets: all operators of the conventional cell, centring included, as 'x,y,z+1/2'.
    """

    number: int
    name: str
    triplets: tuple[str, ...]


def settings_of_symbol(text: str) -> Tiers:
    """The settings that a Hermann-Mauguin symbol may mean; empty if it is no symbol.

    Understood are short and full symbols in every tabulated setting, e-glides and their older letters, cubic symbols
    without the bar, `:1 :2 :H :R` and the codes of axes behind a colon, ICSD's trailing S, Z, H, R, PDB's H 3 2.

    Args:
        text: The symbol, with or without spaces and underscores.

    Returns:
        Groups of settings. A symbol without origin or axes means several. A monoclinic symbol without ones means unique
        axis b (first group), or, where a cell shows that it cannot be b, another axis (later groups).

    Example:
        >>> [setting.name for setting in settings_of_symbol("Fd3m")[0]]
        ['F d -3 m:1', 'F d -3 m:2']
        >>> settings_of_symbol("P 21/c")[0][0].name
        'P 1 21/c 1'
    """
    if tuple(text.lower().split()) in NEITHER:
        return ()
    return _settings_of(_condensed(text))


NEITHER = frozenset({("p", "31", "2"), ("p", "32", "1"), ("p", "3", "2")})
"""Spaces that contradict the only symbol with these letters: 'P 31 2' is not P 3 1 2, and P 31 1 2 or P 31 2 1."""


def settings_of_number(number: int, code: str = "") -> Tiers:
    """The settings that a number of the International Tables may mean; empty if it is none.

    Args:
        number: 1 to 230.
        code: `_space_group_IT_coordinate_system_code`, such as '2', 'h', 'b1', '1cab'; empty if not stated.

    Returns:
        First the standard setting: both origins, hexagonal and rhombohedral axes where the tables have both; then all.
    """
    every = _by_number().get(number, ())
    if not every:
        return ()
    every = tuple(entry for entry in every if code and code.lower() in _codes(entry)) or every
    reference = gemmi.find_spacegroup_by_number(number).hm
    standard = tuple(entry for entry in every if entry.hm == reference)
    return _tiers(standard, tuple(entry for entry in every if entry.hm != reference))


@lru_cache(maxsize=512)
def setting_of_hall(text: str) -> Setting | None:
    """The setting that a Hall symbol states, None if it is none."""
    try:
        operations = gemmi.symops_from_hall(text.replace("=", '"').replace("''", '"').strip())
    except (RuntimeError, ValueError):  # how gemmi refuses
        return None
    found = gemmi.find_spacegroup_by_ops(operations)
    name = found.xhm() if found is not None else f"Hall symbol {text.strip()}"
    return Setting(found.number if found is not None else 0, name, tuple(op.triplet() for op in operations))


def number_of(text: str) -> int:
    """Number of a space group given as number, Hermann-Mauguin or Hall symbol in any spelling.

    Raises:
        SymmetryError: for anything else.

    Example:
        >>> number_of("Cmca"), number_of("P 4_2/m n m"), number_of("136")
        (64, 136, 136)
    """
    plain = text.strip()
    if plain.isdecimal() and plain.isascii() and 1 <= int(plain[:4]) <= 230:
        return int(plain)
    numbers = {setting.number for group in settings_of_symbol(plain)[:1] for setting in group}
    if len(numbers) != 1:
        numbers = {entry.number for entry in gemmi.spacegroup_table() if entry.hall == plain}
    if len(numbers) != 1:
        raise SymmetryError(
            f"unknown space group {text!r}; give a number from 1 to 230 or a Hermann-Mauguin symbol such as P4_2/mnm"
        )
    return numbers.pop()


SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉−–‐", "0123456789---")


@lru_cache(maxsize=4096)
def _condensed(text: str) -> str:
    """A symbol in lower case without spaces, underscores and marks of typesetting."""
    plain = re.sub(r"</?su[bp]>|[\\$^{}~*]", "", text.translate(SUBSCRIPTS)).lower()
    plain = re.sub(r"([1-6])[\u0304\u0305]", r"-\1", plain)
    plain = re.sub(r"([1-6])\s*bar|bar\s*([1-6])|overline([1-6])", r"-\1\2\3", plain)
    plain = re.sub(r"sub(?=\d)", "", plain)
    plain = re.sub(r"(?<=[1-6])\(([1-5])\)", r"\1", plain)  # 6(3) is 63
    return re.sub(r"[\s_'\"]", "", plain)


CODES = {"s": "1", "z": "2"}
"""ICSD's letters for the first origin and for the one at a centre of symmetry ("Zentrum")."""

APPENDED = (
    (re.compile(r"[,;(\[]*uniqueaxis([abc])[)\]]*$"), r":\1"),
    (re.compile(r"[,;(\[:]*(?:hexagonal|hex\.?)(?:axes|setting)?[)\]]*$"), ":h"),
    (re.compile(r"[,;(\[:]*(?:rhombohedral|rhomb?\.?|trigonal)(?:axes|setting)?[)\]]*$"), ":r"),
    (re.compile(r"[,;(\[:]*(?:originchoice|origin|choice|[(\[:]o?)([12])[)\]]*$"), r":\1"),
    (re.compile(r"[,;]?(?:[(\[](?:no\.?|nr\.?|#)?|no\.?|nr\.?|#)\d{1,3}[)\]]?$"), ""),
)
"""What people write behind a symbol, and the code that it stands for: '(origin choice 2)', '(No. 14)'."""


@lru_cache(maxsize=4096)
def _settings_of(key: str) -> Tiers:
    if key.isdecimal() and key.isascii():
        return settings_of_number(int(key[:4]))
    if "=" in key:  # spglib's 'C 2/c = B 1 1 2/b = B 2/b': the group, then its setting
        return _settings_of(key.split("=")[1])
    for symbol, code in _ways(key):
        for entries in (_names().get(symbol), _shortened(symbol)):
            if entries:
                first = tuple(entry for entry in entries[0] if code in _codes(entry)) if code else ()
                if first:
                    return _tiers(first)
                return _tiers(*entries)
    found = gemmi.find_spacegroup_by_name(key)
    return _tiers((found,)) if found is not None else ()


def _ways(key: str) -> list[tuple[str, str]]:
    """A condensed symbol as (symbol, code of axes or origin): as it stands, then with what is appended taken off."""
    trimmed = key
    for pattern, code in APPENDED:
        trimmed = pattern.sub(code, trimmed)
    base, colon, code = trimmed.partition(":")
    ways = [(key, ""), (base, CODES.get(code, code))]
    if not colon and base[-1:] in ("s", "z", "h", "r"):
        ways.append((base[:-1], CODES.get(base[-1], base[-1])))
    return ways


def _shortened(symbol: str) -> tuple[tuple[gemmi.SpaceGroup, ...], ...] | None:
    """The settings of a full symbol, by the short one that it stands for; the tables list few of them."""
    for pattern, short in FULL_SYMBOLS:
        match = pattern.fullmatch(symbol)
        if match is not None:
            return _names().get(match.expand(short))
    return None


FULL_SYMBOLS = (
    (re.compile(r"([pabcfi])21?/([a-z])21?/([a-z])21?/([a-z])"), r"\1\2\3\4"),
    (re.compile(r"([pifac])([46][1-5]?)/([a-z])21?/([a-z])21?/([a-z])"), r"\1\2/\3\4\5"),
    (re.compile(r"([pr])-?3(1?)21?/([a-z])(1?)"), r"\1-3\2\3\4"),
    (re.compile(r"([pfi])[24][1-3]?/([a-z])-?3"), r"\1\2-3"),
    (re.compile(r"([pfi])[24][1-3]?/([a-z])-?32/([a-z])"), r"\1\2-3\3"),
)
"""Full symbols and what they are in short; '4/m 3 2/m' without the bar is an older form."""


def _tiers(*groups: tuple[gemmi.SpaceGroup, ...]) -> Tiers:
    return tuple(tuple(_setting(entry.number, entry.xhm(), entry.hall) for entry in group) for group in groups if group)


@cache
def _setting(number: int, name: str, hall: str) -> Setting:
    return Setting(number, name, tuple(op.triplet() for op in gemmi.symops_from_hall(hall)))


def _codes(entry: gemmi.SpaceGroup) -> tuple[str, ...]:
    """How the setting of an entry is called behind a colon or by `_space_group_IT_coordinate_system_code`."""
    origin, axes = entry.ext.strip("\0").lower(), entry.qualifier or ("abc" if 16 <= entry.number <= 74 else "")
    return tuple(filter(None, (origin, axes, origin + axes, axes + origin, axes.rstrip("123"))))


@cache
def _by_number() -> dict[int, tuple[gemmi.SpaceGroup, ...]]:
    found: dict[int, list[gemmi.SpaceGroup]] = {}
    for entry in gemmi.spacegroup_table_itb():  # without the shifted origins of CCP4: nobody means them by a number
        found.setdefault(entry.number, []).append(entry)
    return {number: tuple(entries) for number, entries in found.items()}


@cache
def _names() -> dict[str, tuple[tuple[gemmi.SpaceGroup, ...], ...]]:
    """Condensed symbol -> settings: those it stands for, then those it may mean on other axes."""
    first: dict[str, dict[str, gemmi.SpaceGroup]] = {}
    later: dict[str, dict[str, gemmi.SpaceGroup]] = {}

    def add(symbol: str, entry: gemmi.SpaceGroup, into: dict[str, dict[str, gemmi.SpaceGroup]] = first) -> None:
        into.setdefault(_condensed(symbol), {}).setdefault(entry.hall, entry)

    table = list(gemmi.spacegroup_table())
    for entry in table:
        symbols = [entry.hm, entry.xhm(), *(f"{entry.hm}:{code}" for code in _codes(entry))]
        if not 3 <= entry.number <= 15 or entry.monoclinic_unique_axis() == "b":
            symbols.append(entry.short_name())
        for symbol in symbols:
            add(symbol, entry)
            if entry.number >= 195:
                add(symbol.replace("-3", "3"), entry)
    for entry in table:
        if 3 <= entry.number <= 15:
            short = re.sub(r" 1(?= |$)", "", entry.hm)
            add(short, entry, first if entry.monoclinic_unique_axis() == "b" else later)
            add(entry.short_name(), entry, later)
    by_hall = {entry.hall: entry for entry in table}
    standard = {number: moyopy.SpaceGroupType(number).hm_short for number in range(1, 231)}
    for number in range(1, 531):
        known = moyopy.HallSymbolEntry(number)
        match = by_hall.get(known.hall_symbol.replace("=", '"'))
        if match is not None:
            other_axes = known.setting not in ("", "1", "2", "H", "R") and known.hm_short == standard[known.number]
            for symbol in (known.hm_full, *(() if 3 <= known.number <= 15 else (known.hm_short,))):
                add(symbol, match, later if other_axes else first)  # C m m e is C m m a, and C m m b on other axes
    names = {}
    for key in {*first, *later}:
        groups = [list(first.get(key, {}).values()), list(later.get(key, {}).values())]
        groups[1] = [entry for entry in groups[1] if entry.hall not in first.get(key, {})]
        if groups[1]:  # a symbol that does not fix the axes: all other settings of the group come last
            named = {*first.get(key, {}), *later[key]}
            number = (groups[0] or groups[1])[0].number
            groups.append([entry for entry in _by_number()[number] if entry.hall not in named])
        names[key] = tuple(tuple(group) for group in groups if group)
    return names
