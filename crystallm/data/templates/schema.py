"""Columns of a library of known crystals."""

from __future__ import annotations

import pyarrow as pa

from crystallm.crystal.formulas.element_similarity import Kind

TEMPLATES = pa.schema(
    [
        ("kind", pa.string()),
        ("elements", pa.binary()),
        ("formula_units", pa.int16()),
        ("space_group", pa.int16()),
        ("id", pa.string()),
        ("formula", pa.string()),
        ("text", pa.string()),
    ]
)
"""What templates need; all that a library of version 0.1 has."""

FACTS = pa.schema(
    [
        ("exact", pa.binary()),  # what the text leaves out of its numbers (`exact.residuals`)
        ("exact_text", pa.string()),  # instead of it, where the text is too far from the source (`exact.EXACT`)
        ("observed", pa.bool_()),  # null: not known
        ("measured", pa.bool_()),  # null: not known
        ("dft_above_hull", pa.int32()),  # this and the following in steps of 1e-4 eV/atom
        ("energy", pa.int32()),
        ("relaxed_energy", pa.int32()),
        ("copies", pa.string()),  # ids of database entries that were merged into this row, with spaces between
        ("copy_of", pa.string()),  # id of the row of this library that the crystal is a copy of
    ]
)
"""What is known of a crystal itself; every one may be null."""

SCHEMA = pa.schema([*TEMPLATES, *FACTS])

TEMPLATE_COLUMNS: list[str] = TEMPLATES.names

TEMPLATE_FACTS = ("observed", "dft_above_hull")
"""What is read of a crystal itself for its templates, where the library holds it."""

ENERGY_STEPS = 10_000
"""Steps in one eV of the energies in a file."""


def kind_name(kind: Kind) -> str:
    """How a kind is written in the file."""
    return " ".join(map(str, kind))
