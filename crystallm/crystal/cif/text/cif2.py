"""CIF 2.0 rewritten as CIF 1.1, which is what gemmi parses: triple quotes, lists and tables become plain values."""

from __future__ import annotations

import re

HEADER = re.compile(r"\ufeff?#\\#CIF_2\.0\s")
CONSTRUCTS = re.compile(r"\[|\{|'''|\"\"\"")

_TOKEN = re.compile(
    r"""
      (?P<field>(?:(?<=\n)|\A);.*?\n;)         # a text field begins and ends with a semicolon at the start of a line
    | (?P<triple>'{3}.*?'{3}|"{3}.*?"{3})
    | (?P<quoted>'[^'\n]*'|"[^"\n]*")
    | (?P<comment>\#[^\n]*)
    | (?P<space>\s+)
    | (?P<name>(?<!\S)(?:data_|save_|_)[^\s]+)  # brackets belong to a name
    | (?P<open>[\[{])
    | (?P<close>[\]}])
    | (?P<bare>[^\s\[\]{}]+)
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def is_cif2(text: str) -> bool:
    """Whether a text says in its first line that it is CIF 2.0.

    Example:
        >>> is_cif2("#\\\\#CIF_2.0\\ndata_x\\n")
        True
    """
    return HEADER.match(text) is not None


def as_cif1(text: str) -> str:
    """The same items in CIF 1.1: a list or table becomes one text, a triple-quoted string a text field.

    The grammar is that of Bernstein et al., J. Appl. Cryst. 49 (2016) 277. What cannot be read is left as it stands,
    for the parser to refuse.

    Args:
        text: CIF 2.0, with or without its header.

    Returns:
        CIF 1.1 with the same data names.

    Example:
        >>> as_cif1("data_x _a [1 2] _b '''it's'''").split("\\n")[:4]
        ['data_x _a ', ';[1 2]', ';', ' _b ']
    """
    written: list[str] = []
    inside: list[str] = []
    depth = 0
    for token in _TOKEN.finditer(text):
        kind, value = token.lastgroup, token.group()
        if kind == "open":
            depth += 1
        if depth:
            inside.append(" " if kind == "comment" else value)
            if kind == "close":
                depth -= 1
                if not depth:
                    written.append(_field("".join(inside)))
                    inside = []
        elif kind == "triple":
            written.append(_field(value[3:-3]))
        elif kind == "quoted":
            written.append(value + " ")
        elif kind != "comment":
            written.append(value)
    return "".join([*written, *inside])


def _field(value: str) -> str:
    return "\n;" + value.replace("\n;", "\n ;") + "\n;\n"
