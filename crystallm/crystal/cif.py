"""Reading CIF text into a cell, and writing a description as a complete standard CIF."""

from __future__ import annotations

import gemmi
import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.cell import Cell, Reason, Rejection

MERGE_ANGSTROM = 0.1
"""Images of one site closer than this are the same atom on a special position (coordinates such as 0.333 are rounded)."""

FULL_OCCUPANCY = 0.999


def read_cif(text: str) -> Cell | Rejection:
    """All atoms of the first structure in a CIF, in the cell it states.

    Any symmetry form is understood (operators, Hall or Hermann-Mauguin symbol, number); the asymmetric unit is
    expanded. Partial occupancy, isotopes and dummy atoms are refused with a reason, never guessed.
    """
    try:
        document = gemmi.cif.read_string(text)
    except (ValueError, RuntimeError) as error:  # how gemmi reports a syntax error
        return Rejection(Reason.UNREADABLE, " ".join(str(error).split())[:200])
    block = next((b for b in document if b.find_values("_atom_site_fract_x")), None)
    if block is None:
        return Rejection(Reason.EMPTY, "no _atom_site_fract_x in the file")
    try:
        small = gemmi.make_small_structure_from_block(block)
        small.determine_and_set_spacegroup("S.H2")
        operations = _operations(small)
    except (ValueError, RuntimeError) as error:
        return Rejection(Reason.UNREADABLE, " ".join(str(error).split())[:200])
    if isinstance(operations, Rejection):
        return operations
    if not small.sites:
        return Rejection(Reason.EMPTY, "the atom list is empty")
    cell = small.cell
    if not np.isfinite(cell.volume) or cell.volume < 1.0 or min(cell.a, cell.b, cell.c) < 1.0:
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
    if len(images) == 1:
        return images
    delta = images[:, None] - images[None]
    delta -= np.round(delta)
    near = ((delta @ lattice) ** 2).sum(-1) < MERGE_ANGSTROM**2
    # A point is kept if no earlier point is its twin.
    first = near.argmax(axis=1)
    return np.asarray(images[first == np.arange(len(images))])


def _operations(small: gemmi.SmallStructure) -> tuple[NDArray[np.float64], NDArray[np.float64]] | Rejection:
    """Rotations (G, 3, 3) and translations (G, 3) of the symmetry that the CIF states; P1 if it states none."""
    if small.symops:
        triplets = [gemmi.Op(text) for text in small.symops]
    elif small.spacegroup is not None:
        triplets = list(small.spacegroup.operations())
    elif small.spacegroup_hall or small.spacegroup_hm or small.spacegroup_number > 1:
        stated = small.spacegroup_hall or small.spacegroup_hm or small.spacegroup_number
        return Rejection(Reason.UNREADABLE, f"unknown space group {stated!r} and no symmetry operators")
    else:
        triplets = [gemmi.Op()]
    denominator = gemmi.Op.DEN
    rotations = np.array([op.rot for op in triplets], dtype=np.float64) / denominator
    translations = np.array([op.tran for op in triplets], dtype=np.float64) / denominator
    return rotations, translations


def _refusal(site: gemmi.SmallStructure.Site) -> Rejection | None:
    symbol = site.type_symbol or site.label
    if site.element.atomic_number == 0 or site.element.name == "D":
        return Rejection(Reason.UNKNOWN_SPECIES, f"site {site.label!r} of type {symbol!r}")
    if site.occ < FULL_OCCUPANCY or site.disorder_group != 0:
        return Rejection(Reason.DISORDERED, f"site {site.label!r} has occupancy {site.occ:g}")
    return None
