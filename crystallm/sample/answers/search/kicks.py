"""New trials that keep the space group of a crystal: other coordinates, cells, elements and letters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from crystallm.crystal.description import Description, Site
from crystallm.crystal.formulas.composition import element_order
from crystallm.crystal.wyckoff import space_group
from crystallm.energy.relaxation.free_parameters import described, parameters_of_description
from crystallm.sample.grammar.contacts import Surroundings

TRIES = 20
"""How often a move is begun again when atoms come too close."""

TRIES_OF_SITE = 40
"""How often the coordinates of one site are drawn again."""

NEW_STRAIN, KICK_STRAIN = 0.10, 0.03
"""Standard deviations of the strains of a cell that is drawn anew, and of one that is kicked."""

VOLUME_SPREAD = 0.05
"""Standard deviation of the logarithm of a new cell's volume."""

KICK_ANGSTROM = (0.3, 1.0)
"""Root mean square displacement of the free coordinates of a kick."""

ROOM = (1.0, 1.08, 1.16)
"""Volumes that are tried, over the one of the parent, when elements were exchanged."""


def redraw(parent: Description, rng: np.random.Generator, *, contact: float, volume: float) -> Description | None:
    """New free coordinates and a new cell in the protostructure of a crystal.

    Args:
        parent: whose space group and Wyckoff letters are kept.
        rng: what decides.
        contact: sites closer than this part of the expected bond length are refused.
        volume: in cubic angstrom per atom, around which the new one is drawn.

    Returns:
        A crystal; None where none was found that fits.

    Example:
        >>> redraw(rutile, np.random.default_rng(0), contact=0.68, volume=10.4).space_group  # doctest: +SKIP
        136
    """
    for _ in range(TRIES):
        target = volume * float(np.exp(rng.normal(0.0, VOLUME_SPREAD)))
        strained = at_volume(_strained(parent, rng, NEW_STRAIN), target)
        if (sites := _placed(strained, parent.sites, rng, contact)) is not None:
            return replace(strained, sites=sites)
    return None


def displace(parent: Description, rng: np.random.Generator, *, contact: float) -> Description | None:
    """A crystal with its free coordinates kicked by 0.3 to 1 angstrom and its cell strained; None without any."""
    parameters = parameters_of_description(parent)
    n_strains = len(parameters.strains)
    n_moves = len(parameters) - n_strains
    if n_moves == 0:
        return None
    for _ in range(TRIES):
        length = rng.uniform(*KICK_ANGSTROM)
        moves = rng.normal(size=n_moves)
        moves *= length / np.sqrt((moves**2).mean())
        values = np.concatenate([rng.normal(0.0, KICK_STRAIN, n_strains), moves])
        kicked = described(parent, parameters, values)
        if fits(kicked, contact):
            return kicked
    return None


def exchange(parent: Description, rng: np.random.Generator, *, contact: float) -> Description | None:
    """A crystal with the elements of two sites of equal multiplicity, or of all sites of two elements, exchanged."""
    group = space_group(parent.space_group)
    count = [group.positions[site.letter].multiplicity for site in parent.sites]
    places = range(len(parent.sites))
    pairs = [
        {i: parent.sites[j].element, j: parent.sites[i].element}
        for i in places
        for j in places
        if i < j and count[i] == count[j] and parent.sites[i].element != parent.sites[j].element
    ]
    whole = [
        {i: {one: other, other: one}[s.element] for i, s in enumerate(parent.sites) if s.element in (one, other)}
        for k, (one, amount) in enumerate(parent.amounts)
        for other, amount_of_other in parent.amounts[k + 1 :]
        if amount == amount_of_other
    ]
    choices = pairs + whole
    if not choices:
        return None
    for _ in range(3):
        new = choices[int(rng.integers(len(choices)))]
        sites = [replace(site, element=new.get(i, site.element)) for i, site in enumerate(parent.sites)]
        sites.sort(key=lambda site: element_order(site.element))
        for factor in ROOM:
            found = at_volume(replace(parent, sites=tuple(sites)), factor * volume_per_atom(parent))
            if fits(found, contact):
                return found
    return None


def reletter(parent: Description, rng: np.random.Generator, *, contact: float) -> Description | None:
    """A crystal with one site put on another Wyckoff position of equal multiplicity, its coordinates drawn anew."""
    group = space_group(parent.space_group)
    taken = {site.letter for site in parent.sites if group.positions[site.letter].n_free == 0}
    choices = [
        (place, letter)
        for place, site in enumerate(parent.sites)
        for letter, position in group.positions.items()
        if letter != site.letter
        and position.multiplicity == group.positions[site.letter].multiplicity
        and letter not in taken
    ]
    if not choices:
        return None
    for _ in range(TRIES):
        place, letter = choices[int(rng.integers(len(choices)))]
        others = [site for other, site in enumerate(parent.sites) if other != place]
        around = Surroundings(parent.space_group, parent.cell, contact)
        if any(around.place(site) is not None for site in others):
            return None
        if (site := _site_that_fits(around, parent.sites[place].element, letter, rng)) is not None:
            sites = sorted([*others, site], key=lambda one: element_order(one.element))
            return replace(parent, sites=tuple(sites))
    return None


def fits(description: Description, contact: float) -> bool:
    """Whether no two atoms come closer than `contact` times their expected bond length."""
    around = Surroundings(description.space_group, description.cell, contact)
    return all(around.place(site) is None for site in description.sites)


def volume_per_atom(description: Description) -> float:
    """Cubic angstrom per atom."""
    a, b, c, *angles = description.cell
    cosines = np.cos(np.radians(angles))
    unit = float(np.sqrt(max(1 - (cosines**2).sum() + 2 * cosines.prod(), 0.0)))
    return a * b * c * unit / (description.n_sites * space_group(description.space_group).centring_order)


def at_volume(description: Description, volume: float) -> Description:
    """A crystal with its cell scaled to so many cubic angstrom per atom."""
    factor = (volume / volume_per_atom(description)) ** (1 / 3)
    a, b, c, alpha, beta, gamma = description.cell
    return replace(description, cell=(factor * a, factor * b, factor * c, alpha, beta, gamma))


def _strained(parent: Description, rng: np.random.Generator, spread: float) -> Description:
    parameters = parameters_of_description(parent)
    values = np.zeros(len(parameters))
    values[: len(parameters.strains)] = rng.normal(0.0, spread, len(parameters.strains)).clip(-3 * spread, 3 * spread)
    return described(parent, parameters, values)


def _placed(
    strained: Description, sites: tuple[Site, ...], rng: np.random.Generator, contact: float
) -> tuple[Site, ...] | None:
    """The sites with new free coordinates, placed one after the other; None where one finds no place."""
    around = Surroundings(strained.space_group, strained.cell, contact)
    placed: list[Site] = []
    for site in sites:
        if (found := _site_that_fits(around, site.element, site.letter, rng)) is None:
            return None
        placed.append(found)
    return tuple(placed)


def _site_that_fits(around: Surroundings, element: str, letter: str, rng: np.random.Generator) -> Site | None:
    n_free = around.group.positions[letter].n_free
    for _ in range(TRIES_OF_SITE if n_free else 1):
        site = Site(element, letter, tuple(rng.random(n_free).tolist()))
        if around.place(site) is None:
            return site
    return None
