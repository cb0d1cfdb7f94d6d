"""CIFs in a few words, and what is made of them."""

import gemmi

from crystallm.crystal.cell import Cell, Reason, Rejection
from crystallm.crystal.cif import read_cif

TAGS = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")

CUBIC = (5.64, 5.64, 5.64, 90, 90, 90)
BRUCITE_CELL = (3.142, 3.142, 4.766, 90, 90, 120)
PORTLANDITE_CELL = (3.589, 3.589, 4.911, 90, 90, 120)
ROCK_SALT = "_space_group_name_H-M_alt 'F m -3 m'"
BRUCITE = "_space_group_name_H-M_alt 'P -3 m 1'"


def cif(symmetry: str, columns: str, sites: str, cell: tuple[float, ...] = CUBIC, content: str = "") -> str:
    """A CIF; columns: what the sites have besides the label and before x, y, z, and after, split by a bar."""
    before, _, after = columns.partition("|")
    names = ["label", *before.split(), "fract_x", "fract_y", "fract_z", *after.split()]
    lines = [f"_cell_{tag} {value}" for tag, value in zip(TAGS, cell, strict=True)]
    return "\n".join(["data_x", *lines, symmetry, content, "loop_", *(f"_atom_site_{n}" for n in names), sites, ""])


def read(text: str, *, trust_atoms: bool = False) -> dict[str, int]:
    found = read_cif(text, trust_atoms=trust_atoms)
    assert isinstance(found, Cell), found
    return {gemmi.Element(number).name: count for number, count in found.amounts.items()}


def refused(text: str, reason: Reason, *words: str) -> None:
    found = read_cif(text)
    assert isinstance(found, Rejection), found.amounts
    assert found.reason is reason, found
    for word in words:
        assert word in found.detail, found.detail


def rock_salt(
    *, content: str = "", columns: str = "type_symbol", sites: str = "Na1 Na 0 0 0\nCl1 Cl 0.5 0.5 0.5"
) -> str:
    return cif(ROCK_SALT, columns, sites, content=content)
