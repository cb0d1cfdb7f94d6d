"""Data names of CIF dictionaries, and the one form in which the reader looks them up."""

from __future__ import annotations

import re
from functools import lru_cache

ALIASES = {
    "_atom_site_site_symmetry_multiplicity": "_atom_site_symmetry_multiplicity",
    "_atom_site_wyckoff_letter": "_atom_site_wyckoff_symbol",
}
"""Names of one item that differ by more than case and dots. Symmetry items keep their names: each is a statement."""


@lru_cache(maxsize=8192)
def canonical_name(tag: str) -> str:
    """The form in which a data name is looked up: lower case, underscores for dots, one name for each item.

    CIF data names do not distinguish case, and the dotted names of DDLm dictionaries are aliases of the older ones.

    Args:
        tag: A data name as a file writes it, with its leading underscore.

    Returns:
        The canonical name.

    Example:
        >>> canonical_name("_space_group.IT_number"), canonical_name("_ATOM_SITE_FRACT_X")
        ('_space_group_it_number', '_atom_site_fract_x')
    """
    name = tag.lower().replace(".", "_")
    return ALIASES.get(name, name)


CAPITALS = (
    ("_it_", "_IT_"),
    ("_int_tables_", "_Int_Tables_"),
    ("_h-m", "_H-M"),
    ("_hall", "_Hall"),
    ("_units_z", "_units_Z"),
    ("_schoenflies", "_Schoenflies"),
    ("_bns", "_BNS"),
    ("_og", "_OG"),
    ("_uni", "_UNI"),
)


def displayed(name: str) -> str:
    """A canonical name with the capitals that dictionaries give it.

    Example:
        >>> displayed("_space_group_it_number")
        '_space_group_IT_number'
    """
    for lower, capital in CAPITALS:
        name = name.replace(lower, capital) if lower[-1] == "_" else re.sub(f"{lower}(?=_|$)", capital, name)
    return name
