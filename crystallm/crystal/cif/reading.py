"""CIF text to cells: blocks, cell, symmetry, atoms and content put together."""

from __future__ import annotations

from dataclasses import dataclass

from crystallm.crystal.cell import Cell, Reason, Rejection
from crystallm.crystal.cif.atoms import Sites, read_sites
from crystallm.crystal.cif.cell_items import CellItems, read_cell_items
from crystallm.crystal.cif.content import Statements, statements_of
from crystallm.crystal.cif.symmetry.settling import Candidate, settle
from crystallm.crystal.cif.symmetry.statements import Symmetry, read_symmetry
from crystallm.crystal.cif.text.document import Block, structures
from crystallm.crystal.cif.writing import write_atoms


@dataclass(frozen=True, eq=False)
class ReadBlock:
    """A block with all that was made of it; each part is None if reading ended before it."""

    block: Block
    found: Candidate | Rejection
    stated_cell: CellItems | None = None
    symmetry: Symmetry | None = None
    statements: Statements | None = None
    sites: Sites | None = None

    @property
    def cell(self) -> Cell | Rejection:
        """The atoms, or why there are none."""
        return self.found if isinstance(self.found, Rejection) else self.found.cell


def read_cif(text: str, *, trust_atoms: bool = False) -> Cell | Rejection:
    """All atoms of the first structure in a CIF, in the cell it states.

    Every statement of the symmetry in the dictionaries is used or refused, and the asymmetric unit is expanded. Where
    they leave axes or origin open, or disagree, cell and content (formula sum, Z, multiplicities) decide; what cannot
    be decided is refused with both readings named. So are partial occupancy and atoms that contradict the formula.

    Args:
        text: CIF 1.1 or 2.0. Of several structures the first is read; `read_structures` reads all.
        trust_atoms: Take the list of atoms where the statements on the content contradict it.

    Returns:
        The cell with lengths in angstrom, or the reason why there is none.

    Example:
        >>> cubic = "data_ _cell_length_a 4.2 _space_group_IT_number 221 loop_ _atom_site_label"
        >>> sites = " _atom_site_fract_x _atom_site_fract_y _atom_site_fract_z Cs 0 0 0 Cl 0.5 0.5 0.5"
        >>> read_cif(cubic + sites).amounts
        {17: 1, 55: 1}
    """
    read = read_first(text, trust_atoms=trust_atoms)
    return read if isinstance(read, Rejection) else read.cell


def read_structures(text: str, *, trust_atoms: bool = False) -> list[tuple[str, Cell | Rejection]]:
    """All structures of a CIF, each with the name of its block.

    Args:
        text: CIF 1.1 or 2.0.
        trust_atoms: As in `read_cif`.

    Returns:
        At least one pair; a text that is no CIF, or holds no atoms, is one rejection without a name.

    Example:
        >>> read_structures("not a CIF")[0][1].reason.value
        'unreadable'
    """
    blocks = structures(text)
    if isinstance(blocks, Rejection):
        return [("", blocks)]
    return [(block.name, read_block(block, trust_atoms=trust_atoms).cell) for block in blocks]


def read_first(text: str, *, trust_atoms: bool = False) -> ReadBlock | Rejection:
    """The first structure of a CIF with what it was made of.

    trust_atoms: as in `read_cif`; the checks of validity read so, since they judge formula and multiplicities by name.
    """
    blocks = structures(text)
    return blocks if isinstance(blocks, Rejection) else read_block(blocks[0], trust_atoms=trust_atoms)


def trusting_atoms(text: str) -> str:
    """A CIF text that reads without `trust_atoms` as the given one reads with it.

    The text itself, unless its first structure is refused because its content contradicts its atoms: then the list of
    all atoms alone.
    """
    blocks = structures(text)
    if isinstance(blocks, Rejection):
        return text
    found = read_block(blocks[0]).cell
    if isinstance(found, Cell) or found.reason is not Reason.CONTRADICTORY:
        return text
    trusted = read_block(blocks[0], trust_atoms=True).cell
    return text if isinstance(trusted, Rejection) else write_atoms(trusted)


def read_with_reasons(text: str, *, trust_atoms: bool = False) -> list[ReadBlock] | Rejection:
    """All structures of a CIF with what they were made of, for `crystallm text --why`."""
    blocks = structures(text)
    return blocks if isinstance(blocks, Rejection) else [read_block(block, trust_atoms=trust_atoms) for block in blocks]


def read_block(block: Block, *, trust_atoms: bool = False) -> ReadBlock:
    """One structure of a file."""
    if block.refusal is not None:
        return ReadBlock(block, block.refusal)
    symmetry = read_symmetry(block.items)
    if isinstance(symmetry, Rejection):
        return ReadBlock(block, symmetry)
    stated_cell = read_cell_items(block.items)
    if isinstance(stated_cell, Rejection):
        return ReadBlock(block, stated_cell, symmetry=symmetry)
    statements = statements_of(block.items)
    sites = read_sites(block.items, statements.present, trust_labels=trust_atoms)
    if isinstance(sites, Rejection):
        return ReadBlock(block, sites, stated_cell, symmetry, statements)
    found = settle(symmetry, stated_cell, sites, statements, trust_atoms=trust_atoms)
    if isinstance(found, Candidate) and symmetry.only_system and "_cell_formula_units_Z" not in found.content.compared:
        detail = f"the file states the {symmetry.only_system}, but no space group, and no Z to tell how many atoms"
        found = Rejection(Reason.AMBIGUOUS, detail)
    return ReadBlock(block, found, stated_cell, symmetry, statements, sites)
