"""A CIF file of several structures as several texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from crystallm.base.input_files import Unread
from crystallm.base.provenance import readable
from crystallm.crystal.cell import Reason, Rejection
from crystallm.crystal.cif.text.document import structures

_HEADING = re.compile(r"^[ \t\ufeff]*data_\S", re.IGNORECASE | re.MULTILINE)


def named_parts(name: str, text: str | Unread) -> Iterator[tuple[str, str | Rejection]]:
    """The structures of a file, or why it gave no text.

    Args:
        name: of the file.
        text: of the file.

    Yields:
        Name and text of each structure, with that of its block behind the file's where there are several.
    """
    if isinstance(text, Unread):
        yield name, Rejection(Reason.EMPTY if text.empty else Reason.UNREADABLE, text.reason)
        return
    for block, part in one_by_one(text):
        yield f"{name}#{readable(block)}" if block else name, part


def one_by_one(text: str) -> list[tuple[str, str]]:
    """The structures of a file as texts of their own.

    Args:
        text: of a CIF file.

    Returns:
        Name of the block and text of each block with atoms, in the order of the file; names that come again are
        numbered. Where there is one structure, or none can be read, one pair: no name, and the text as it is.

    Example:
        >>> one = "_atom_site_fract_x 0 "
        >>> [name for name, _ in one_by_one(f"data_a {one}" + chr(10) + f"data_b {one}")]
        ['a', 'b']
    """
    if len(_HEADING.findall(text)) < 2:
        return [("", text)]
    found = structures(text)
    if isinstance(found, Rejection) or len(found) < 2:
        return [("", text)]
    seen: Counter[str] = Counter()
    parts = []
    for block in found:
        seen[block.name] += 1
        number = seen[block.name]
        parts.append((block.name if number == 1 else f"{block.name}-{number}", block.items.as_text()))
    return parts
