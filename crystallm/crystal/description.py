"""A crystal as its asymmetric unit: what is free, and nothing that follows by computation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.cell import Cell, Reason, Rejection, lattice_from_parameters
from crystallm.crystal.formulas.composition import Amounts, element_order, symbol_of
from crystallm.crystal.symmetry import SYMPREC_ANGSTROM, standardize, standardize_number
from crystallm.crystal.wyckoff import ALPHABET, SpaceGroup, WyckoffPosition, space_group

SAME_FRACTION = 1e-4
"""Two fractional coordinates closer than this are one number when equivalent descriptions are compared."""


@dataclass(frozen=True)
class Site:
    """One site of the asymmetric unit: element, Wyckoff letter, free fractional coordinates in [0, 1)."""

    element: str
    letter: str
    free: tuple[float, ...]


@dataclass(frozen=True)
class Description:
    """One crystal as its asymmetric unit, in the standard setting of its space group (International Tables A).

    Args:
        amounts: Reduced formula as (symbol, amount) in order of electronegativity.
        formula_units: Z of the primitive cell.
        space_group: Number in the International Tables.
        cell: a, b, c in angstrom and alpha, beta, gamma in degrees of the conventional cell.
        sites: Element, Wyckoff letter and free fractional coordinates of each site.

    Example:
        >>> from crystallm import known
        >>> halite = known("NaCl")[0].description
        >>> halite.space_group, [(site.element, site.letter) for site in halite.sites]
        (225, [('Na', 'a'), ('Cl', 'b')])
    """

    amounts: Amounts
    formula_units: int
    space_group: int
    cell: tuple[float, float, float, float, float, float]
    sites: tuple[Site, ...]

    @property
    def n_sites(self) -> int:
        """Atoms in the primitive cell."""
        return self.formula_units * sum(amount for _, amount in self.amounts)


def describe(cell: Cell, *, symprec_angstrom: float = SYMPREC_ANGSTROM) -> Description | Rejection:
    """The canonical description of a crystal: equal crystals give equal descriptions, whatever cell they come in.

    Origin, orbit representatives and order of sites are fixed by a rule: the alphabetically first Wyckoff letters, then
    the smallest coordinates, over the Euclidean normalizer (handedness kept); along polar axes the first site is at 0.
    Symmetry is found by moyopy, normalizers are those of the International Tables A.

    Args:
        cell: Any cell of the crystal, primitive or not.
        symprec_angstrom: Largest displacement, in angstrom, that counts as none.

    Returns:
        The description, or the reason why there is none.

    Example:
        >>> import numpy as np
        >>> from crystallm import Cell, describe
        >>> doubled = Cell(np.diag([3.35, 3.35, 6.7]), np.array([[0.1, 0, 0], [0.1, 0, 0.5]]), np.array([84, 84]))
        >>> found = describe(doubled)
        >>> found.space_group, round(found.cell[2], 2), found.sites[0].letter
        (221, 3.35, 'a')
    """
    description = _describe_once(cell, symprec_angstrom)
    for _ in range(MAX_REFINEMENTS):
        if isinstance(description, Rejection):
            break
        refined = expand(description)
        if standardize_number(refined, symprec_angstrom=symprec_angstrom) == description.space_group:
            break
        # Refining moved the atoms onto positions of still higher symmetry: describe the refined crystal instead.
        description = _describe_once(refined, symprec_angstrom)
    return description


MAX_REFINEMENTS = 3


def _describe_once(cell: Cell, symprec_angstrom: float) -> Description | Rejection:
    standard = standardize(cell, symprec_angstrom=symprec_angstrom)
    if isinstance(standard, Rejection):
        return standard
    group = space_group(standard.space_group)
    counts: dict[str, int] = {}
    points: list[NDArray[np.float64]] = []
    sites: list[tuple[str, str]] = []
    for number, letter, point in standard.orbits:
        if letter not in group.positions:
            return Rejection(Reason.SYMMETRY_FAILED, f"no Wyckoff letter {letter!r} in space group {group.number}")
        symbol = symbol_of(number)
        counts[symbol] = counts.get(symbol, 0) + group.positions[letter].multiplicity // group.centring_order
        sites.append((symbol, letter))
        points.append(point)
    units = gcd(*counts.values())
    amounts = tuple((symbol, counts[symbol] // units) for symbol in sorted(counts, key=element_order))
    chosen = _canonical_sites(group, sites, np.array(points))
    if chosen is None:
        return Rejection(Reason.SYMMETRY_FAILED, f"a site does not lie on its Wyckoff position in group {group.number}")
    return Description(amounts, units, group.number, standard.parameters, chosen)


def canonical(description: Description) -> Description:
    """The canonical description among all equivalent ones."""
    group = space_group(description.space_group)
    sites = [(site.element, site.letter) for site in description.sites]
    chosen = _canonical_sites(group, sites, _points(group, description.sites))
    assert chosen is not None, description  # the points were computed from their positions
    return replace(description, sites=chosen)


def augment(description: Description, rng: np.random.Generator) -> Description:
    """An equivalent description drawn at random: origin, orbit representatives, order of the sites of an element."""
    group = space_group(description.space_group)
    which = int(rng.integers(len(group.normalizer)))
    rotation, translation = group.normalizer[which]
    order = sorted(rng.permutation(len(description.sites)), key=lambda i: element_order(description.sites[i].element))
    points = _points(group, description.sites) @ rotation.T + translation
    letters = letter_map(group.number, which)
    sites: list[Site] = []
    for index in order:
        site = description.sites[index]
        position = group.positions[letters[site.letter]]
        choices = _representatives(group, position, points[index])
        free = choices[int(rng.integers(len(choices)))]
        if not sites and group.polar_axes:  # the first site fixes the origin along polar axes
            axes = [position.free_axes.index(axis) for axis in group.polar_axes]
            points[:, group.polar_axes] -= free[axes]
            free[axes] = 0.0
        sites.append(Site(site.element, position.letter, tuple(free.tolist())))
    return replace(description, sites=tuple(sites))


def expand(description: Description) -> Cell:
    """All atoms of the conventional cell, orbit by orbit in the order of the sites."""
    group = space_group(description.space_group)
    orbits = [site_orbit(group, site) for site in description.sites]
    numbers = [
        np.full(len(orbit), element_order(site.element)[1])
        for site, orbit in zip(description.sites, orbits, strict=True)
    ]
    return Cell(lattice_from_parameters(description.cell), np.concatenate(orbits), np.concatenate(numbers))


def first_atoms(description: Description) -> list[int]:
    """Places in `expand` at which the atoms of each site begin; the others of a site are equivalent to its first.

    Example:
        >>> first_atoms(rutile)  # two titanium, four oxygen  # doctest: +SKIP
        [0, 2]
    """
    positions = space_group(description.space_group).positions
    counts = [positions[site.letter].multiplicity for site in description.sites]
    return [sum(counts[:place]) for place in range(len(counts))]


def site_orbit(group: SpaceGroup, site: Site) -> NDArray[np.float64]:
    """Fractional coordinates (M, 3) in [0, 1) of all equivalent points of a site, M its multiplicity."""
    position = group.positions[site.letter]
    rotations, translations = group.orbit_maps(site.letter)
    images = rotations @ position.point(site.free) + translations
    return np.asarray(images - np.floor(images))


def free_coordinates(group: SpaceGroup, position: WyckoffPosition, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Free coordinates (S, C, F) with which points (S, 3) on a Wyckoff position can be written; NaN where an image
    does not lie on the representative. F = 0 gives shape (S, 1, 0) if the first point lies on it, else (S, 0, 0)."""
    images = np.einsum("gij,sj->sgi", group.rotations, points) + (group.translations - position.offset)
    if position.n_free == 3:
        return np.asarray(_wrap(images))
    # What is left of an image after its free part must be a lattice vector.
    free = images @ position.inverse.T
    residual = images - free @ position.matrix.T if position.n_free else images
    on = (np.abs(residual - np.round(residual)) < 10 * SAME_FRACTION).all(-1)
    if position.n_free == 0:
        return np.zeros((len(points), int(bool(on.any(axis=1).all())), 0))
    free = _wrap(free)
    free[~on] = np.nan
    return np.asarray(free)


def _representatives(group: SpaceGroup, position: WyckoffPosition, point: NDArray[np.float64]) -> NDArray[np.float64]:
    """All free coordinates (C, F) with which one point (3,) can be written."""
    free = free_coordinates(group, position, point[None])[0]
    return np.asarray(free[~np.isnan(free).any(axis=-1)] if position.n_free else free)


def _wrap(values: NDArray[np.float64]) -> NDArray[np.float64]:
    values = values - np.floor(values)
    values[values > 1.0 - SAME_FRACTION / 2] = 0.0
    return values


def _points(group: SpaceGroup, sites: tuple[Site, ...]) -> NDArray[np.float64]:
    return np.array([group.positions[site.letter].point(site.free) for site in sites])


@cache
def letter_map(number: int, which: int) -> dict[str, str]:
    """Wyckoff letter -> letter under one map of the normalizer (the equivalent Wyckoff positions)."""
    group = space_group(number)
    rotation, translation = group.normalizer[which]
    result = {}
    generic = np.array([0.1327, 0.2719, 0.3941])
    for letter, position in group.positions.items():
        moved = rotation @ position.point(generic[list(position.free_axes)]) + translation
        for other in group.positions.values():
            if (other.multiplicity, other.n_free) != (position.multiplicity, position.n_free):
                continue
            free = free_coordinates(group, other, moved[None])
            if free.shape[1] and not (free.size and np.isnan(free).all()):
                result[letter] = other.letter
                break
    return result


@cache
def _relabellings(number: int) -> tuple[list[dict[str, str]], list[int]]:
    """The different letter maps of a normalizer, and for each of its maps which of them it has."""
    distinct: list[dict[str, str]] = []
    which = []
    for place in range(len(space_group(number).normalizer)):
        letters = letter_map(number, place)
        if letters not in distinct:
            distinct.append(letters)
        which.append(distinct.index(letters))
    return distinct, which


def _canonical_sites(
    group: SpaceGroup, sites: list[tuple[str, str]], points: NDArray[np.float64]
) -> tuple[Site, ...] | None:
    """The sites of the canonical description; None if a point does not lie on the position named."""
    relabellings, relabelling_of = _relabellings(group.number)
    orders = [element_order(element) for element, _ in sites]
    classes = [
        [(order, ALPHABET.index(letters[letter])) for order, (_, letter) in zip(orders, sites, strict=True)]
        for letters in relabellings
    ]
    keys = [sorted(one) for one in classes]
    best_key = min(keys)
    best: list[tuple[tuple[object, ...], Site]] | None = None
    for which, relabelling in enumerate(relabelling_of):
        if keys[relabelling] != best_key:
            continue
        rotation, translation = group.normalizer[which]
        moved = points @ rotation.T + translation
        letters = relabellings[relabelling]
        firsts = [i for i, c in enumerate(classes[relabelling]) if c == best_key[0]] if group.polar_axes else [0]
        for shifted in _fixed_origins(group, moved, [(first, letters[sites[first][1]]) for first in firsts]):
            candidate = _sites_at_origin(group, sites, letters, shifted)
            if candidate is None:
                return None
            if best is None or [k for k, _ in candidate] < [k for k, _ in best]:
                best = candidate
    return None if best is None else tuple(site for _, site in best)


def _fixed_origins(
    group: SpaceGroup, points: NDArray[np.float64], firsts: list[tuple[int, str]]
) -> Iterator[NDArray[np.float64]]:
    """The points (S, 3) with the origin along polar axes put on each site that may be written first."""
    if not group.polar_axes:
        yield points
        return
    for index, letter in firsts:
        position = group.positions[letter]
        axes = [position.free_axes.index(axis) for axis in group.polar_axes]
        heights = _representatives(group, position, points[index])[:, axes]
        for height in np.unique(heights.round(6) % 1.0, axis=0):
            shifted = points.copy()
            shifted[:, group.polar_axes] -= height
            yield shifted


def _sites_at_origin(
    group: SpaceGroup, sites: list[tuple[str, str]], letters: dict[str, str], points: NDArray[np.float64]
) -> list[tuple[tuple[object, ...], Site]] | None:
    """Sites with their sort keys, each orbit written by its smallest coordinates; polar axes count first."""
    by_letter: dict[str, list[int]] = {}
    for index, (_, letter) in enumerate(sites):
        by_letter.setdefault(letters[letter], []).append(index)
    result: list[tuple[tuple[object, ...], Site]] = []
    for letter, indices in by_letter.items():
        position = group.positions[letter]
        choices = free_coordinates(group, position, points[indices])
        if choices.shape[1] == 0:
            return None
        if position.n_free == 0:
            for element, _ in (sites[index] for index in indices):
                result.append(((element_order(element), ALPHABET.index(letter), 0), Site(element, letter, ())))
            continue
        axes = sorted(range(position.n_free), key=lambda i: position.free_axes[i] not in group.polar_axes)
        # One integer per choice, compared coordinate by coordinate on a grid of 1/1000, whose edges lie between the
        # numbers that four decimals write: a crystal and what its text expands to fall into the same cells of it.
        grid = np.floor(np.where(np.isnan(choices), 9.0, choices)[..., axes] * 1000 + 0.75).astype(np.int64)
        grid[grid == 1000] = 0
        rank = grid @ (10_000 ** np.arange(position.n_free - 1, -1, -1, dtype=np.int64))
        best = rank.argmin(axis=1)
        for row, index in enumerate(indices):
            free = choices[row, best[row]]
            if np.isnan(free).any():
                return None
            element = sites[index][0]
            key = (element_order(element), ALPHABET.index(letter), int(rank[row, best[row]]))
            result.append((key, Site(element, letter, tuple(free.tolist()))))
    result.sort(key=lambda item: (item[0], item[1].free))
    return result
