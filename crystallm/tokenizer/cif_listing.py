"""A crystal as a CIF lists it: the conventional cell, and one full set of coordinates for each orbit.

This is the form of the published CrystaLLM texts (Antunes, Butler and Grau-Crespo 2024), which pymatgen's CifWriter
wrote: spglib's standard cell, its choice of origin, its order of sites.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import gcd
from typing import TypeGuard

import moyopy
import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.cell import (
    Cell,
    Reason,
    Rejection,
    angles_close,
    lattice_from_parameters,
    parameters_of,
)
from crystallm.crystal.description import Description, Site, free_coordinates
from crystallm.crystal.formulas.composition import ELEMENTS, element_order, reduce_amounts, symbol_of
from crystallm.crystal.symmetry import equivalent_atoms, refine
from crystallm.crystal.wyckoff import GRID, SpaceGroup, WyckoffPosition, space_group

Parameters = tuple[float, float, float, float, float, float]
Point = tuple[float, float, float]

CONFORMING = 1e-3
"""Largest difference in angstrom or degrees of cell parameters that a crystal system makes equal."""


@dataclass(frozen=True)
class ListedSite:
    """One line of the atom list; `multiplicity` counts atoms of the conventional cell."""

    element: str
    multiplicity: int
    point: Point


@dataclass(frozen=True)
class Listing:
    """What a CIF says of a crystal, before it is put into words."""

    counts: tuple[tuple[str, int], ...]
    """Atoms of the conventional cell by element, in the order `listed_order`."""
    space_group: int
    cell: Parameters
    """In angstrom and degrees."""
    volume: float
    """Cubic angstrom."""
    sites: tuple[ListedSite, ...]


@cache
def listed_order(symbol: str) -> tuple[float, str]:
    """Sort key of an element in pymatgen's formulas: Pauling electronegativity, then the symbol."""
    return element_order(symbol)[0], symbol


def listing_of(cell: Cell) -> Listing | Rejection:
    """The listing of a crystal as CifWriter makes it with symprec 0.1: what the published models were trained on."""
    found = refine(_as_parsed(cell))
    if isinstance(found, Rejection):
        return found
    number, refined = found
    refined = _in_order(refined)
    equivalent = equivalent_atoms(refined)
    if isinstance(equivalent, Rejection):
        return equivalent
    sites = []
    for first in np.unique(equivalent):
        members = [point_of(refined.positions[i]) for i in np.flatnonzero(equivalent == first)]
        chosen = min(members, key=lambda point: tuple(map(abs, point)))
        sites.append(ListedSite(symbol_of(int(refined.numbers[first])), len(members), chosen))
    # Elements of equal electronegativity stand mixed: the symbol is not part of the key.
    sites.sort(key=lambda site: (listed_order(site.element)[0], -site.multiplicity, site.point))
    counts = {symbol_of(z): n for z, n in refined.amounts.items()}
    ordered = tuple((symbol, counts[symbol]) for symbol in sorted(counts, key=listed_order))
    return Listing(ordered, number, parameters_of(refined.lattice), refined.volume, tuple(sites))


def _as_parsed(cell: Cell) -> Cell:
    """The cell as pymatgen's CifParser hands it to spglib, to the last bit: rounding decides between equal choices."""
    from pymatgen.core import Lattice

    # spglib's origin depends on the order of atoms; CifParser sorts them.
    cell = _in_order(cell)
    # Parameters of a CIF have few decimals: what a basis adds to them is noise.
    parameters = (round(value, 10) for value in parameters_of(cell.lattice))
    # A CIF's basis is right-handed: inverted, basis and coordinates, the crystal keeps its own handedness.
    positions = cell.positions.copy() if np.linalg.det(cell.lattice) > 0 else -cell.positions % 1.0
    for third in (1 / 3, 2 / 3):
        positions[np.abs(positions / third - 1) <= 1e-4] = third
    return Cell(np.array(Lattice.from_parameters(*parameters).matrix), positions, cell.numbers)


def _in_order(cell: Cell) -> Cell:
    """The cell with its atoms in the order of their elements."""
    symbols = [symbol_of(number) for number in cell.numbers.tolist()]
    order = sorted(range(len(cell)), key=lambda i: listed_order(symbols[i]))
    return Cell(cell.lattice, cell.positions[order], cell.numbers[order])


def point_of(values: NDArray[np.float64]) -> Point:
    """Three coordinates as a tuple."""
    x, y, z = values.tolist()
    return x, y, z


def listing_of_description(description: Description) -> Listing:
    """The listing of a description, its sites in their order, each orbit represented as the description does."""
    group = space_group(description.space_group)
    shift = origin_shift(group.number)
    sites = []
    for site in description.sites:
        position = group.positions[site.letter]
        point = (position.point(site.free) - shift) % 1.0
        point[point > 1 - 0.5e-4] = 0.0
        sites.append(ListedSite(site.element, position.multiplicity, point_of(point)))
    factor = description.formula_units * group.centring_order
    amounts = {symbol: amount * factor for symbol, amount in description.amounts}
    counts = tuple((symbol, amounts[symbol]) for symbol in sorted(amounts, key=listed_order))
    volume = abs(float(np.linalg.det(lattice_from_parameters(description.cell))))
    return Listing(counts, group.number, description.cell, volume, tuple(sites))


def description_of(listing: Listing) -> Description | Rejection:
    """The crystal that a listing with coordinates of four decimals holds; a Rejection where it contradicts itself."""
    group = space_group(listing.space_group)
    if not conforms(listing.cell, group.crystal_system):
        return Rejection(
            Reason.UNREADABLE, f"the cell {listing.cell} is not {group.crystal_system}, as group {group.number} asks"
        )
    if min(listing.cell[:3]) <= 0 or not angles_close(*listing.cell[3:]):
        return Rejection(Reason.UNREADABLE, f"the cell parameters {listing.cell} do not close to a cell")
    placed: dict[str, int] = {}
    sites = []
    for listed in listing.sites:
        site = site_at(group, listed)
        if site is None:
            return Rejection(
                Reason.UNREADABLE,
                f"no position of multiplicity {listed.multiplicity} at {listed.point} in group {group.number}",
            )
        sites.append(site)
        placed[listed.element] = placed.get(listed.element, 0) + listed.multiplicity
    wanted = dict(listing.counts)
    if placed != wanted:
        return Rejection(Reason.UNREADABLE, f"the sites hold {placed} atoms, the formula asks for {wanted}")
    units, rest = divmod(gcd(*wanted.values()), group.centring_order)
    if rest:
        return Rejection(Reason.UNREADABLE, f"the centring of group {group.number} does not divide the atoms {wanted}")
    return Description(reduce_amounts(wanted), units, group.number, listing.cell, tuple(sites))


def conforms(cell: Parameters, crystal_system: str) -> bool:
    """Whether cell parameters obey the rules of a crystal system, hexagonal axes for trigonal groups."""
    a, b, c, *angles = cell
    wanted: dict[str, tuple[float | None, ...]] = {
        "triclinic": (None, None, None),
        "monoclinic": (90.0, None, 90.0),
        "trigonal": (90.0, 90.0, 120.0),
        "hexagonal": (90.0, 90.0, 120.0),
    }
    equal = {"tetragonal": (a - b,), "trigonal": (a - b,), "hexagonal": (a - b,), "cubic": (a - b, a - c)}
    differences = [
        *equal.get(crystal_system, ()),
        *(
            angle - value
            for angle, value in zip(angles, wanted.get(crystal_system, (90.0,) * 3), strict=True)
            if value is not None
        ),
    ]
    return all(abs(difference) < CONFORMING for difference in differences)


def exact_fraction(value: float) -> float:
    """The fraction of 24 that four decimals stand for (0.3333 for 1/3), else the value itself.

    Every constant of a Wyckoff position is such a fraction, and dependent coordinates are multiples: 2 * 0.1667 is not
    what stands beside 1/6.
    """
    nearest = round(value * GRID) / GRID
    return nearest if abs(value - nearest) < 0.6e-4 else value


def site_at(group: SpaceGroup, listed: ListedSite) -> Site | None:
    """The site of a group that a line of the atom list states; None if there is none of its multiplicity there."""
    point = np.array([exact_fraction(value) for value in listed.point]) + origin_shift(group.number)
    found = [position for position in group.positions.values() if position.multiplicity == listed.multiplicity]
    for position in sorted(found, key=lambda position: position.n_free):
        free = free_coordinates(group, position, point[None])
        if _lies_on(free, position):
            chosen = free[0][~np.isnan(free[0]).any(axis=-1)][0] if position.n_free else free[0, 0]
            return Site(listed.element, position.letter, tuple(chosen.tolist()))
    return None


def _lies_on(free: NDArray[np.float64], position: WyckoffPosition) -> TypeGuard[NDArray[np.float64]]:
    return bool(free.shape[1]) and not (position.n_free and np.isnan(free[0]).any(axis=-1).all())


@cache
def origin_shift(number: int) -> NDArray[np.float64]:
    """Origin (3,) of spglib's default setting in our standard one: a point there plus the shift is a point here.

    Zero but for the 24 groups with two origins, where spglib takes the one without inversion.
    """
    group = space_group(number)
    operations = moyopy.operations_from_number(number, setting=moyopy.Setting.spglib())
    rotations = np.rint(np.array(operations.rotations)).astype(np.int64)
    translations = np.rint(np.array(operations.translations) * GRID).astype(np.int64)
    own = {tuple(rotation.ravel()): set[tuple[int, ...]]() for rotation in np.rint(group.rotations).astype(np.int64)}
    for rotation, translation in zip(group.rotations, group.translations, strict=True):
        own[tuple(np.rint(rotation).astype(np.int64).ravel())].add(
            tuple(np.rint(translation * GRID).astype(np.int64) % GRID)
        )
    for steps in np.ndindex(8, 8, 8):
        shift = np.array(steps) * (GRID // 8)
        # (W, w) there is (W, w + s - W s) here.
        moved = (translations + shift - rotations @ shift) % GRID
        if all(
            tuple(translation) in own[tuple(rotation.ravel())]
            for rotation, translation in zip(rotations, moved, strict=True)
        ):
            return np.asarray(shift / GRID)
    raise AssertionError(f"spglib's setting of group {number} differs by more than its origin")


NOBLE_RADII = {"He": 1.40, "Ne": 1.54, "Ar": 1.88, "Kr": 2.02, "Xe": 2.16}
"""Van der Waals radii in angstrom where pymatgen has no atomic radius."""

ALLEN = {"He": 4.16, "Ne": 4.79, "Ar": 3.24}
"""Allen electronegativities where there is none on Pauling's scale."""


@cache
def atom_properties(symbol: str) -> tuple[str, str, str]:
    """Electronegativity, atomic radius and average ionic radius (angstrom) of an element, as the texts write them."""
    from pymatgen.core import Element

    element = Element(symbol)
    pauling, radius = listed_order(symbol)[0], element.atomic_radius
    return (
        str(ALLEN[symbol]) if symbol in ALLEN else f"{pauling:.4f}",
        str(NOBLE_RADII[symbol]) if radius is None else f"{float(radius):.4f}",
        f"{float(element.average_ionic_radius):.4f}",
    )


@cache
def formula_and_units(counts: tuple[tuple[str, int], ...]) -> tuple[str, int]:
    """Pymatgen's reduced formula of the cell, 'Ca3(PO4)2', and Z: half of it for O2, N2 and the like, rounded down."""
    import warnings

    from pymatgen.core import Composition

    assert all(symbol in ELEMENTS for symbol, _ in counts)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No Pauling electronegativity")
        formula, factor = Composition(dict(counts)).get_reduced_formula_and_factor()
    return str(formula), int(factor)
