"""Reading CIF text into a cell."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.cell import Cell, Reason, Rejection
from crystallm.crystal.wyckoff import different_points

MERGE_ANGSTROM = 0.1
"""Images of one site closer than this are one atom on a special position: people write 0.333 for 1/3."""

FULL_OCCUPANCY = 0.999


def read_cif(text: str) -> Cell | Rejection:
    """All atoms of the first structure in a CIF, in the cell it states.

    Any symmetry form is understood (operators, Hall or Hermann-Mauguin symbol, number); the asymmetric unit is
    expanded. Partial occupancy, isotopes and dummy atoms are refused with a reason, never guessed.
    """
    block = _atom_block(text)
    return block if isinstance(block, Rejection) else _cell_of(block)


def read_cif_with_items(
    text: str, *, trust_atoms: bool = False
) -> tuple[Cell, str, dict[str, str | list[str]]] | Rejection:
    """The cell of `read_cif`, and the name and items of its block: tag -> text, or texts of a column.

    trust_atoms: as in `read_cif`; the checks of validity read so, since they judge formula and multiplicities by name.
    """
    block = _atom_block(text)
    if isinstance(block, Rejection):
        return block
    cell = _cell_of(block)
    if isinstance(cell, Rejection):
        return cell
    items: dict[str, str | list[str]] = {}
    for item in block:
        pair: Any = item.pair
        if pair is not None:
            items[pair[0]] = gemmi.cif.as_string(pair[1])
        elif item.loop is not None:
            width, values = item.loop.width(), item.loop.values
            for column, tag in enumerate(item.loop.tags):
                items[tag] = [gemmi.cif.as_string(value) for value in values[column::width]]
    return cell, block.name, items


def _atom_block(text: str) -> gemmi.cif.Block | Rejection:
    try:
        document = gemmi.cif.read_string(text)
    except (ValueError, RuntimeError) as error:  # how gemmi reports a syntax error
        return Rejection(Reason.UNREADABLE, " ".join(str(error).split())[:200])
    block = next((b for b in document if b.find_values("_atom_site_fract_x")), None)
    return Rejection(Reason.EMPTY, "no _atom_site_fract_x in the file") if block is None else block


def _cell_of(block: gemmi.cif.Block) -> Cell | Rejection:
    # gemmi takes 1 angstrom and coordinate 0 for what is missing; only for angles has the dictionary a default (90).
    for item in ("_cell_length_a", "_cell_length_b", "_cell_length_c"):
        if block.find_value(item) is None:
            return Rejection(Reason.BAD_CELL, f"no {item} in the file")
    for item in ("_atom_site_fract_y", "_atom_site_fract_z"):
        if not block.find_values(item):
            return Rejection(Reason.UNREADABLE, f"no {item} in the file")
    try:
        small = gemmi.make_small_structure_from_block(block)
        small.determine_and_set_spacegroup("S.H2N")
        operations = _operations(small)
    except (ValueError, RuntimeError) as error:
        return Rejection(Reason.UNREADABLE, " ".join(str(error).split())[:200])
    if isinstance(operations, Rejection):
        return operations
    if not small.sites:
        return Rejection(Reason.EMPTY, "the atom list is empty")
    cell = small.cell
    if not np.isfinite(cell.volume) or cell.volume < 1.0 or min(cell.a, cell.b, cell.c) < 0.5:
        return Rejection(Reason.BAD_CELL, f"cell {cell.parameters} has no sensible volume")
    lattice = np.array(cell.orth.mat.tolist()).T
    rotations, translations = operations
    positions: list[NDArray[np.float64]] = []
    numbers: list[int] = []
    for site in small.sites:
        refusal = _refusal(site)
        if refusal is not None:
            return refusal
        fractional = np.array(site.fract.tolist())
        if not np.isfinite(fractional).all():
            return Rejection(Reason.UNREADABLE, f"site {site.label}: coordinates {fractional.tolist()}")
        orbit = merge_images(rotations @ fractional + translations, lattice)
        positions.append(orbit)
        numbers.extend([site.element.atomic_number] * len(orbit))
    return Cell(lattice, np.concatenate(positions), np.array(numbers, dtype=np.int64))


def merge_images(images: NDArray[np.float64], lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distinct points (M, 3) among fractional images (N, 3) of one site, first representative first."""
    images = images - np.floor(images)
    if len(images) > 1:
        images = images[different_points(images)]
    if len(images) == 1:
        return images
    delta = images[:, None] - images[None]
    delta -= np.rint(delta)
    moved = delta @ lattice
    near = np.einsum("ijk,ijk->ij", moved, moved) < MERGE_ANGSTROM**2
    # A point is kept if no earlier point is its twin.
    first = near.argmax(axis=1)
    return np.asarray(images[first == np.arange(len(images))])


def _operations(small: gemmi.SmallStructure) -> tuple[NDArray[np.float64], NDArray[np.float64]] | Rejection:
    """Rotations (G, 3, 3) and translations (G, 3) of the symmetry that the CIF states; P1 if it states none."""
    group: gemmi.SpaceGroup | None = small.spacegroup
    if small.symops:
        return _matrices(tuple(small.symops))
    if group is not None:
        triplets = list(group.operations())
    elif small.spacegroup_hall or small.spacegroup_hm or small.spacegroup_number > 1:
        stated = small.spacegroup_hall or small.spacegroup_hm or small.spacegroup_number
        return Rejection(Reason.UNREADABLE, f"unknown space group {stated!r} and no symmetry operators")
    else:
        triplets = [gemmi.Op()]
    return _matrices(tuple(op.triplet() for op in triplets))


@lru_cache(maxsize=256)
def _matrices(triplets: tuple[str, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotations (G, 3, 3) and translations (G, 3) of operators such as 'x,-y,z+1/2'."""
    operations = [gemmi.Op(text) for text in triplets]
    rotations = np.array([op.rot for op in operations], dtype=np.float64) / gemmi.Op.DEN
    translations = np.array([op.tran for op in operations], dtype=np.float64) / gemmi.Op.DEN
    return rotations, translations


def _refusal(site: gemmi.SmallStructure.Site) -> Rejection | None:
    symbol = site.type_symbol or site.label
    if site.element.atomic_number == 0 or site.element.name == "D":
        return Rejection(Reason.UNKNOWN_SPECIES, f"site {site.label!r} of type {symbol!r}")
    if not FULL_OCCUPANCY <= site.occ <= 2 - FULL_OCCUPANCY or site.disorder_group != 0:
        return Rejection(Reason.DISORDERED, f"site {site.label!r} has occupancy {site.occ:g}")
    return None
