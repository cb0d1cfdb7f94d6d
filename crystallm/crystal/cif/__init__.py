"""CIF text to cells, and descriptions to CIF text."""

from crystallm.crystal.cif.reading import FULL_OCCUPANCY, MERGE_ANGSTROM, merge_images, read_cif, read_cif_with_items
from crystallm.crystal.cif.writing import CELL_ITEMS, operators, write_cif

__all__ = [
    "CELL_ITEMS",
    "FULL_OCCUPANCY",
    "MERGE_ANGSTROM",
    "merge_images",
    "operators",
    "read_cif",
    "read_cif_with_items",
    "write_cif",
]
