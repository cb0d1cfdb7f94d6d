"""One entry to one row of prepared text, or the reason why not. Pure: no files, no clocks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.cell import Cell, Reason, Rejection, refuse_large
from crystallm.crystal.cif import read_cif
from crystallm.crystal.description import Description, describe
from crystallm.crystal.formulas.composition import format_formula
from crystallm.data.config import SPLITS, PrepareConfig
from crystallm.data.sources.optimade import read_optimade
from crystallm.data.sources.readers import Entry, Form
from crystallm.data.sources.screening import atomic_number, sensible_cell
from crystallm.tokenizer.layout import get_layout

OTHER_SPLIT = "another split"
"""Drop reason of rows that the split column sends neither to train, val nor test."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What is needed to tell whether two crystals may be the same."""

    reduced_formula: str
    space_group: int
    n_sites: int
    """Atoms in the primitive cell."""
    skeleton: str
    """Everything in the description that is not a measured number: equal for equal crystals, save rare ties."""
    numbers: tuple[float, ...]
    """a, b, c in angstrom, alpha, beta, gamma in degrees, then the free fractional coordinates."""
    volume_per_atom: float
    """Cubic angstrom."""


@dataclass(frozen=True)
class Row:
    """One crystal as prepared text."""

    text: str
    n_tokens: int
    traits: Traits


def convert(entry: Entry, config: PrepareConfig) -> Row | Rejection:
    """Read, screen, describe and write one crystal."""
    cell = read_entry(entry, trust_atoms=config.trust_atoms)
    if isinstance(cell, Rejection):
        return cell
    refusal = screen(cell, config.min_distance_angstrom)
    if refusal is not None:
        return refusal
    description = describe(cell)
    if isinstance(description, Rejection):
        return description
    n_sites = description.n_sites
    if n_sites > config.max_sites:
        return Rejection(Reason.TOO_MANY_SITES, f"{n_sites} atoms in the primitive cell, limit {config.max_sites}")
    layout = get_layout(config.layout)
    tokens = layout.tokens_of(cell, description)
    if isinstance(tokens, Rejection):
        return tokens
    if len(tokens) > config.max_tokens:
        return Rejection(Reason.TOO_LONG, f"{len(tokens)} tokens, limit {config.max_tokens}")
    checked = layout.checked(tokens)
    if isinstance(checked, Rejection):
        return checked
    traits = Traits(
        reduced_formula=format_formula(description.amounts),
        space_group=description.space_group,
        n_sites=n_sites,
        skeleton=skeleton(description),
        numbers=(*description.cell, *(number for site in description.sites for number in site.free)),
        volume_per_atom=cell.volume / len(cell),
    )
    return Row(layout.text(tokens), len(tokens), traits)


def is_other_split(entry: Entry, config: PrepareConfig) -> bool:
    """Whether the split column sends the entry nowhere."""
    return config.split_column is not None and entry.split not in SPLITS


def read_entry(entry: Entry, *, trust_atoms: bool = False) -> Cell | Rejection:
    """The cell of an entry, whatever its form; `trust_atoms` as in `read_cif`."""
    if entry.form is Form.CIF:
        return read_cif(entry.text, trust_atoms=trust_atoms)
    if entry.form is Form.STRUCTURE:
        return read_structure(json.loads(entry.text))
    if entry.form is Form.OPTIMADE:
        return read_optimade(json.loads(entry.text), trust_atoms=trust_atoms)
    return Rejection(Reason.UNREADABLE, entry.text)


def read_structure(structure: Mapping[str, Any]) -> Cell | Rejection:
    """The cell in a pymatgen structure dictionary, read without building the Structure, which would be slow."""
    try:
        if not all(structure["lattice"].get("pbc", (True,))):
            return Rejection(Reason.UNREADABLE, "not periodic in three directions")
        lattice = np.array(structure["lattice"]["matrix"], dtype=np.float64)
        numbers: list[int] = []
        abc: list[Any] = []
        for index, site in enumerate(structure["sites"]):
            if len(site["species"]) != 1 or abs(site["species"][0]["occu"] - 1) > 1e-3:
                return Rejection(Reason.DISORDERED, f"site {index} holds {site['species']}")
            symbol = site["species"][0]["element"]
            number = atomic_number(symbol)
            if number is None:
                return Rejection(Reason.UNKNOWN_SPECIES, f"site {index} of type {symbol!r}")
            numbers.append(number)
            abc.append(site["abc"])
        positions = np.array(abc, dtype=np.float64).reshape(-1, 3)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Rejection(Reason.UNREADABLE, f"not a structure dictionary: {type(error).__name__} {error}")
    refusal = sensible_cell(lattice, positions, numbers)
    if refusal is not None:
        return refusal
    return Cell(lattice, positions, np.array(numbers, dtype=np.int64))


def screen(cell: Cell, min_distance_angstrom: float) -> Rejection | None:
    """Refuse cells that are too large to work on or hold atoms on top of each other."""
    if (too_large := refuse_large(cell)) is not None:
        return too_large
    close = closer_than(cell, min_distance_angstrom)
    if close is None:
        return None
    i, j, distance = close
    return Rejection(Reason.ATOMS_TOO_CLOSE, f"sites {i} and {j} are {distance:.3f} angstrom apart")


def closer_than(cell: Cell, threshold_angstrom: float) -> tuple[int, int, float] | None:
    """The first pair of sites closer than the threshold, images of one site included, and its distance; or None.

    A pair that close differs by at most threshold / height along each axis, where the heights are the distances between
    opposite faces; so as long as all heights exceed twice the threshold, one image of each pair can be that close.
    """
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell.lattice), axis=0)
    reach = np.floor(threshold_angstrom / heights + 0.5).astype(int)
    shifts = np.array(list(np.ndindex(*(2 * reach + 1)))) - reach
    vectors = shifts @ cell.lattice
    for first in range(0, len(cell), _BLOCK):
        delta = cell.positions[first : first + _BLOCK, None] - cell.positions[None]
        wrapped = (delta - np.round(delta)) @ cell.lattice
        for shift, vector in zip(shifts, vectors, strict=True):
            squared: NDArray[np.float64] = ((wrapped + vector) ** 2).sum(-1)
            if not shift.any():
                squared[np.arange(len(squared)), first + np.arange(len(squared))] = np.inf
            if squared.min() < threshold_angstrom**2:
                i, j = np.unravel_index(squared.argmin(), squared.shape)
                return first + int(i), int(j), float(np.sqrt(squared[i, j]))
    return None


_BLOCK = 256


def skeleton(description: Description) -> str:
    """The discrete part of a description as one string."""
    sites = " ".join(f"{site.element}{site.letter}" for site in description.sites)
    return f"{description.space_group} {description.formula_units} {sites}"
