"""CIF text to cells, and descriptions to CIF text."""

from crystallm.crystal.cif.atoms import FULL_OCCUPANCY, MERGE_ANGSTROM, merge_images
from crystallm.crystal.cif.cell_items import CELL_ITEMS
from crystallm.crystal.cif.reading import read_cif, read_first, read_structures, read_with_reasons
from crystallm.crystal.cif.writing import operators, write_cif

__all__ = [
    "CELL_ITEMS",
    "FULL_OCCUPANCY",
    "MERGE_ANGSTROM",
    "merge_images",
    "operators",
    "read_cif",
    "read_first",
    "read_structures",
    "read_with_reasons",
    "write_cif",
]
