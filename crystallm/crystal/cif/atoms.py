"""The atom list of a CIF: which sites hold which atom, where, and why a list cannot be used."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite

import gemmi
import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.cell import Reason, Rejection
from crystallm.crystal.cif.species import Kind, Species, species_of_label, species_of_type
from crystallm.crystal.cif.text.document import Items
from crystallm.crystal.formulas.elements import symbol_of
from crystallm.crystal.wyckoff import different_points

FULL_OCCUPANCY = 0.999

MERGE_ANGSTROM = 0.1
"""Images of one site closer than this are one atom on a special position: people write 0.333 for 1/3."""

TOO_NEAR_ANGSTROM = 0.6
"""No two atoms of a crystal are this close; images that are lie apart by the rounding of their coordinates."""

LARGEST_COORDINATE = 1000.0
"""In units of an axis; beyond it a number is none that a program meant, and has lost the digits after its point."""

_COORDINATES = ("_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z")
_DECIMALS = re.compile(r"[-+0-9. ]*")
_FRACTION = re.compile(r"([+-]?\d+)/(\d+)")
_LETTERED = re.compile(r"([A-Z][a-z]?)[B-Z]\d*'*$")
_NO_GROUP = frozenset(("", "0"))


@dataclass(frozen=True, eq=False)
class Sites:
    """The sites of an asymmetric unit, all of them fully occupied by one atom."""

    labels: tuple[str, ...]
    readings: tuple[tuple[int, ...], ...]
    """Atomic numbers that each site may have, the plainest first; several only where the amounts have to decide."""
    positions: NDArray[np.float64]
    """Fractional coordinates (S, 3)."""
    written: tuple[tuple[str, ...], ...] = ()
    """The same as the file writes them, three texts for each site."""
    multiplicities: tuple[str, ...] = ()
    """As stated, for each site or not at all; the empty text where the file is silent."""
    attached_hydrogens: tuple[float, ...] = ()
    """Hydrogen atoms that are bonded to the atom of a site and are not in the list; for each site or not at all."""
    water_without_formula: tuple[str, ...] = ()
    """Labels that name the oxygen of water."""
    has_deuterium: bool = False
    """Whether the file writes D for some of the hydrogen."""
    notes: tuple[str, ...] = ()
    """Sentences on what was left out or read by a rule."""

    def __len__(self) -> int:
        return len(self.labels)


def read_sites(items: Items, present: frozenset[int] | None = None, *, trust_labels: bool = False) -> Sites | Rejection:
    """The atom list of a block, or the first reason why it holds no ordered crystal.

    Dummy sites (calculation flag or type `dum`) are left out. An occupancy that is not stated is 1. Partial occupancy,
    disorder groups and assemblies, mixtures, vacancies and unknown species are refused. Coordinates may be fractions.

    Args:
        items: of one block.
        present: atomic numbers of the elements in the crystal, where the file says so, for labels without types.
        trust_labels: whether a label that names none of these elements is read as if nothing was said of them.

    Returns:
        The sites in the order of the file.
    """
    columns = [items.column(name) for name in _COORDINATES]
    count = len(columns[0])
    for name, column in zip(_COORDINATES, columns, strict=True):
        if len(column) != count:
            return Rejection(Reason.UNREADABLE, f"no {name} in the file")
    labels = _column(items, "_atom_site_label", count)
    types = _column(items, "_atom_site_type_symbol", count)
    if not any(types) and not any(labels):
        return Rejection(Reason.UNREADABLE, "the atoms have neither type symbols nor labels")
    series = frozenset() if all(types) else frozenset(label.rstrip("0123456789'") for label in labels)
    species = [
        species_of_type(symbol) if symbol else _named(label, present, series, trust_labels)
        for label, symbol in zip(labels, types, strict=True)
    ]
    kept = _without_dummies(items, species)
    if not all(labels):
        kept = [k for k in kept if labels[k] or types[k] or any(column[k] for column in columns)]
    if len(kept) < count:
        labels, types = [labels[k] for k in kept], [types[k] for k in kept]
        species = [species[k] for k in kept]
        columns = [[column[k] for k in kept] for column in columns]
    if not kept:
        return Rejection(Reason.EMPTY, "the atom list has dummy sites only")
    refusal = _why_no_atom(labels, types, species, present) or _why_disordered(items, labels, kept)
    if refusal is not None:
        return refusal
    positions = _positions(columns)
    bad = ~(np.abs(positions) < LARGEST_COORDINATE).all(axis=1)
    if bad.any():
        site = int(bad.argmax())
        stated = [column[site] or "?" for column in columns]
        return Rejection(Reason.UNREADABLE, f"site {labels[site]!r}: coordinates {' '.join(stated)}")
    attached = _numbers(items, "_atom_site_attached_hydrogens", kept, missing=0.0)
    has_deuterium = any(
        name[:1] in ("D", "d") and name.rstrip("0123456789+-").upper() == "D" for name in (*set(types), *labels)
    )
    notes = [f"{count - len(kept)} dummy sites left out"] if len(kept) < count else []
    if has_deuterium:
        notes.append("D is read as hydrogen")
    if not all(types):
        notes += _read_by_elements(labels, types, species, present)
    return Sites(
        labels=tuple(label or symbol for label, symbol in zip(labels, types, strict=True)),
        readings=tuple(one.numbers for one in species),
        positions=positions,
        written=tuple(zip(*columns, strict=True)),
        multiplicities=_stated(items, "_atom_site_symmetry_multiplicity", kept),
        attached_hydrogens=tuple(attached) if any(attached) else (),
        water_without_formula=tuple(label for label, one in zip(labels, species, strict=True) if one.is_water),
        has_deuterium=has_deuterium,
        notes=tuple(notes),
    )


def orbit(
    site: int,
    sites: Sites,
    rotations: NDArray[np.float64],
    translations: NDArray[np.float64],
    lattice: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The distinct images (M, 3) of a site under operators, the site itself first.

    A site whose images fall together within MERGE_ANGSTROM lies on a special position and is moved onto it: 0.333 and
    0.33 become 1/3. Where images are still closer than atoms can be, and the digits of the coordinates explain it, the
    same is done within what the digits leave open.

    Args:
        site: place in `sites`.
        sites: the asymmetric unit.
        rotations: (G, 3, 3), acting on columns of fractional coordinates.
        translations: (G, 3).
        lattice: basis rows (3, 3) in angstrom.

    Returns:
        Fractional coordinates in [0, 1).
    """
    point = sites.positions[site]
    if len(rotations) == 1:
        return np.asarray((point - np.floor(point))[None])
    moved = _on_special_position(point, rotations, translations, lattice, MERGE_ANGSTROM)
    images = rotations @ moved + translations
    last_places = np.array([_last_place(text) for text in sites.written[site]]) if sites.written else np.zeros(3)
    written = float((last_places @ np.abs(lattice)).max())
    if written > MERGE_ANGSTROM / 4:
        nearest = distances(images - moved, lattice)
        if ((nearest > 1e-3) & (nearest < TOO_NEAR_ANGSTROM)).any():
            within = min(4.0 * written, TOO_NEAR_ANGSTROM)
            moved = _on_special_position(point, rotations, translations, lattice, within)
            images = rotations @ moved + translations
    return merge_images(images, lattice)


def merge_images(images: NDArray[np.float64], lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distinct points (M, 3) among fractional images (N, 3) of one site, first representative first."""
    images = images - np.floor(images)
    if len(images) > 1:
        images = images[different_points(images)]
    if len(images) == 1:
        return images
    near = distances(images[:, None] - images[None], lattice) < MERGE_ANGSTROM
    # A point is kept if no earlier point is its twin.
    first = near.argmax(axis=1)
    return np.asarray(images[first == np.arange(len(images))])


def _on_special_position(
    point: NDArray[np.float64],
    rotations: NDArray[np.float64],
    translations: NDArray[np.float64],
    lattice: NDArray[np.float64],
    within: float,
) -> NDArray[np.float64]:
    """The mean of the images of a point that fall beside it: the operators that do so leave it where it is."""
    for _ in range(3):
        shifts = rotations @ point + translations - point
        shifts -= np.rint(shifts)
        beside = distances(shifts, lattice) < within
        shift = shifts[beside].mean(axis=0) if beside.any() else np.zeros(3)
        point = point + shift
        if np.abs(shift).max() < 1e-12:
            break
    return point


def distances(differences: NDArray[np.float64], lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lengths in angstrom of fractional differences (..., 3), each component taken to the nearest lattice vector."""
    wrapped = (differences - np.rint(differences)) @ lattice
    return np.asarray(np.sqrt(np.einsum("...k,...k->...", wrapped, wrapped)))


def _named(label: str, present: frozenset[int] | None, series: frozenset[str], trust_labels: bool) -> Species:
    named = species_of_label(label, present)
    if named.kind in (Kind.MIXTURE, Kind.OPEN) and (found := _LETTERED.match(label)) and f"{found[1]}A" in series:
        named = species_of_label(found[1], present)  # BeB beside BeA is no mixture with boron
    if trust_labels and present is not None and named.kind is Kind.OPEN:
        return species_of_label(label)
    return named


def _read_by_elements(
    labels: Sequence[str], types: Sequence[str], species: Sequence[Species], present: frozenset[int] | None
) -> list[str]:
    """Labels that mean what they mean only because the elements of the crystal are known."""
    if present is None:
        return []
    return [
        f"label {label!r} is read as {' or '.join(symbol_of(number) for number in one.numbers)}"
        for label, symbol, one in zip(labels, types, species, strict=True)
        if not symbol and species_of_label(label).numbers[:1] != one.numbers
    ]


def _without_dummies(items: Items, species: Sequence[Species]) -> Sequence[int]:
    places = range(len(species))
    if "_atom_site_calc_flag" not in items and all(one.kind is Kind.ATOM for one in species):
        return places
    flags = _column(items, "_atom_site_calc_flag", len(species))
    return [k for k in places if species[k].kind is not Kind.DUMMY and flags[k][:3].lower() != "dum"]


def _why_no_atom(
    labels: Sequence[str], types: Sequence[str], species: Sequence[Species], present: frozenset[int] | None
) -> Rejection | None:
    for label, symbol, one in zip(labels, types, species, strict=True):
        if one.kind is Kind.ATOM:
            continue
        named = f"site {label!r} of type {symbol!r}" if symbol else f"site {label!r}, which has no type symbol"
        if one.kind is Kind.MIXTURE:
            return Rejection(Reason.DISORDERED, f"{named}: {one.readings} on one site")
        if one.kind is Kind.UNKNOWN or not one.readings:
            return Rejection(Reason.UNKNOWN_SPECIES, named)
        if present is None:
            return Rejection(Reason.AMBIGUOUS, f"{named}, may be {one.readings}; state _atom_site_type_symbol")
        return Rejection(Reason.CONTRADICTORY, f"{named}: {one.readings} is not among the elements the file states")
    return None


def _why_disordered(items: Items, labels: Sequence[str], kept: Sequence[int]) -> Rejection | None:
    for name in ("_atom_site_disorder_group", "_atom_site_disorder_assembly"):
        if name in items:
            for label, group in zip(labels, _stated(items, name, kept), strict=False):
                if group not in _NO_GROUP:
                    kind = name.removeprefix("_atom_site_").replace("_", " ")
                    return Rejection(Reason.DISORDERED, f"site {label!r} is in {kind} {group!r}")
    if "_atom_site_occupancy" in items:
        for label, occupancy in zip(labels, _numbers(items, "_atom_site_occupancy", kept, missing=1.0), strict=False):
            if not isfinite(occupancy):
                return Rejection(Reason.UNREADABLE, f"site {label!r}: the occupancy is no number")
            if not FULL_OCCUPANCY <= occupancy <= 2 - FULL_OCCUPANCY:
                return Rejection(Reason.DISORDERED, f"site {label!r} has occupancy {occupancy:g}")
    return None


def _column(items: Items, name: str, count: int) -> list[str]:
    """A column of the atom list, of empty texts where the file has none."""
    column = items.column(name)
    return column if len(column) == count else [""] * count


def _stated(items: Items, name: str, kept: Sequence[int]) -> tuple[str, ...]:
    """The texts of a column at the kept sites; nothing where the file has no such column."""
    column = items.column(name)
    if not kept or len(column) <= kept[-1] or not any(column):
        return ()
    return tuple(column) if len(kept) == len(column) else tuple(column[k] for k in kept)


def _numbers(items: Items, name: str, kept: Sequence[int], *, missing: float) -> list[float]:
    texts = _stated(items, name, kept)
    if len(known := set(texts)) == 1:  # as a rule all are 1, or all 0
        (text,) = known
        return [_number(text) if text else missing] * len(texts)
    return [_number(text) if text else missing for text in texts]


def _positions(columns: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    every = [text for column in columns for text in column]
    try:
        numbers = list(map(float, every)) if _DECIMALS.fullmatch(" ".join(every)) else list(map(_number, every))
    except ValueError:  # 1.2.3 is made of digits and points, too
        numbers = list(map(_number, every))
    return np.array(numbers, dtype=np.float64).reshape(len(columns), -1).T


def _number(text: str) -> float:
    """A number with or without its standard uncertainty, or a fraction; NaN for anything else."""
    number = float(gemmi.cif.as_number(text))
    if number != number and (fraction := _FRACTION.fullmatch(text)) and int(fraction[2]):
        return int(fraction[1]) / int(fraction[2])
    return number


@lru_cache(maxsize=4096)
def _last_place(text: str) -> float:
    """One unit in the last place of a coordinate; 0 for what is exact (0.5) or has four decimals or more."""
    decimals = text.partition(".")[2].partition("(")[0]
    return 10.0 ** -len(decimals) if decimals.isdigit() and 2 <= len(decimals) < 4 else 0.0
