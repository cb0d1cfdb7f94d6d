"""Texts as people and programs spoil them: lines lost, swapped, doubled; numbers, quotes and tags changed; cuts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

PIECES = (
    *("", "?", ".", "0", "-1", "1e9", "nan", "0.3333", "1/3", "0.5(3)", "99999999999999999999", "'", '"', ";", "\n;\n"),
    *("#", "loop_", "data_", "data_TiO2", "save_", "stop_", "global_", "[1 2]", "'''"),
    *("\ufeff", "\r", "\t", "\x00", "\u00e9"),
    *("H", "D", "O2-", "HO1", "Xx", "Nb,Zr", "dum", "P 1", "F d -3 m :2", "R -3 m H", "'x,y,z'", "'-x,-y,-z'", "x,x,x"),
    *("_cell_length_a", "_cell_angle_gamma", "_atom_site_occupancy", "_atom_site_fract_x", "_space_group_IT_number"),
    *("_symmetry_space_group_name_H-M", "_chemical_formula_sum", "_cell_formula_units_Z", "_atom_site_type_symbol"),
)


@dataclass(frozen=True)
class Edit:
    """One change: where it is made as parts of the text, and what with."""

    kind: str
    first: float
    second: float
    piece: str


def _line(edit: Edit, text: str) -> str:
    lines = text.split("\n")
    one, two = (int(part * len(lines)) for part in (edit.first, edit.second))
    if edit.kind == "drop line":
        del lines[one]
    elif edit.kind == "double line":
        lines.insert(two, lines[one])
    elif edit.kind == "swap lines":
        lines[one], lines[two] = lines[two], lines[one]
    else:
        lines.insert(one, edit.piece)
    return "\n".join(lines)


def _word(edit: Edit, text: str) -> str:
    words = list(re.finditer(r"\S+", text))
    if not words:
        return text
    one, two = (words[int(part * len(words))] for part in (edit.first, edit.second))
    new = two.group() if edit.kind == "copy word" else edit.piece
    return text[: one.start()] + new + text[one.end() :]


def _characters(edit: Edit, text: str) -> str:
    one, two = sorted(int(part * (len(text) + 1)) for part in (edit.first, edit.second))
    if edit.kind == "cut":
        return text[:one]
    if edit.kind == "insert":
        return text[:one] + edit.piece + text[one:]
    if edit.kind == "digit":
        return text[:one] + re.sub(r"\d", "7", text[one:], count=1)
    return text[:one] + text[min(two, one + 8) :]


WAYS: dict[str, Callable[[Edit, str], str]] = {
    **dict.fromkeys(("drop line", "double line", "swap lines", "add line"), _line),
    **dict.fromkeys(("word", "copy word"), _word),
    **dict.fromkeys(("cut", "insert", "digit", "delete"), _characters),
}

_parts = st.floats(0, 1, exclude_max=True, allow_nan=False)
edits = st.lists(
    st.builds(Edit, st.sampled_from(sorted(WAYS)), _parts, _parts, st.sampled_from(PIECES)), min_size=1, max_size=4
)


def spoiled(text: str, changes: Sequence[Edit]) -> str:
    """The text after all changes."""
    for edit in changes:
        text = WAYS[edit.kind](edit, text)
    return text
