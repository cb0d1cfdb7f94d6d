"""Crystals one can check by hand, built by pymatgen from published values, so that nothing of ours is needed for them.

Sources: NaCl, CsCl, C, ZnS, Mg, BaTiO3, MgAl2O4, FeS2, As: Wyckoff, Crystal Structures (1963). TiO2: Abrahams and
Bernstein, J. Chem. Phys. 55, 3206 (1971). Al2O3: Lewis, Schwarzenbach and Flack, Acta Cryst. A38, 733 (1982), rounded.
SiO2: Wyckoff, P3_2 21. ZrO2: Howard, Hill and Reichert, Acta Cryst. B44, 116 (1988). Al2SiO5 (kyanite): Winter and
Ghose, Am. Mineral. 64, 573 (1979), both to three decimals.
"""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crystallm.crystal.cell import Cell
from crystallm.crystal.description import Description, Site
from crystallm.crystal.formulas.composition import reduce_amounts
from crystallm.crystal.wyckoff import ALPHABET, space_group
from crystallm.tokenizer.layout import FREE_PARAMETERS, full_parameters

# pymatgen builds space groups with two origin choices in the first one (diamond at 0, 0, 0); ours is the second.
KYANITE = {
    "Al": [(0.325, 0.704, 0.458), (0.297, 0.699, 0.951), (0.100, 0.386, 0.640), (0.112, 0.917, 0.165)],
    "Si": [(0.296, 0.065, 0.707), (0.291, 0.332, 0.189)],
    "O": [
        *((0.110, 0.147, 0.129), (0.123, 0.686, 0.181), (0.275, 0.455, 0.955), (0.283, 0.935, 0.935)),
        *((0.108, 0.152, 0.667), (0.122, 0.631, 0.639), (0.282, 0.445, 0.429), (0.291, 0.947, 0.466)),
        *((0.501, 0.275, 0.244), (0.501, 0.231, 0.755)),
    ],
}

RECIPES: dict[str, tuple[int, Lattice, dict[str, list[tuple[float, float, float]]]]] = {
    "rock salt": (225, Lattice.cubic(5.6402), {"Na": [(0, 0, 0)], "Cl": [(0.5, 0.5, 0.5)]}),
    "caesium chloride": (221, Lattice.cubic(4.123), {"Cs": [(0, 0, 0)], "Cl": [(0.5, 0.5, 0.5)]}),
    "diamond": (227, Lattice.cubic(3.5668), {"C": [(0, 0, 0)]}),
    "spinel": (
        227,
        Lattice.cubic(8.0832),
        {"Mg": [(0, 0, 0)], "Al": [(0.625, 0.625, 0.625)], "O": [(0.3874, 0.3874, 0.3874)]},
    ),
    "pyrite": (205, Lattice.cubic(5.4067), {"Fe": [(0, 0, 0)], "S": [(0.386, 0.386, 0.386)]}),
    "perovskite": (
        221,
        Lattice.cubic(4.0118),
        {"Ba": [(0, 0, 0)], "Ti": [(0.5, 0.5, 0.5)], "O": [(0.5, 0.5, 0)]},
    ),
    "rutile": (136, Lattice.tetragonal(4.5937, 2.9587), {"Ti": [(0, 0, 0)], "O": [(0.3053, 0.3053, 0)]}),
    "wurtzite": (
        186,
        Lattice.hexagonal(3.811, 6.234),
        {"Zn": [(1 / 3, 2 / 3, 0)], "S": [(1 / 3, 2 / 3, 0.371)]},
    ),
    "magnesium": (194, Lattice.hexagonal(3.2094, 5.2103), {"Mg": [(1 / 3, 2 / 3, 0.25)]}),
    "corundum": (167, Lattice.hexagonal(4.7602, 12.9933), {"Al": [(0, 0, 0.3522)], "O": [(0.3063, 0, 0.25)]}),
    "arsenic": (166, Lattice.hexagonal(3.76, 10.548), {"As": [(0, 0, 0.226)]}),
    "quartz": (
        154,
        Lattice.hexagonal(4.9134, 5.4052),
        {"Si": [(0.465, 0, 2 / 3)], "O": [(0.415, 0.272, 0.7867)]},
    ),
    "baddeleyite": (
        14,
        Lattice.monoclinic(5.1505, 5.2116, 5.3173, 99.23),
        {"Zr": [(0.275, 0.040, 0.208)], "O": [(0.070, 0.332, 0.345), (0.450, 0.757, 0.479)]},
    ),
    "kyanite": (2, Lattice.from_parameters(7.1262, 7.8520, 5.5724, 89.99, 101.11, 106.03), KYANITE),
}


def build(name: str) -> Structure:
    """The conventional cell of a named crystal."""
    number, lattice, sites = RECIPES[name]
    symbols = [symbol for symbol, points in sites.items() for _ in points]
    return Structure.from_spacegroup(number, lattice, symbols, [p for points in sites.values() for p in points])


def mirrored(structure: Structure) -> Structure:
    """The mirror image of a crystal."""
    return Structure(structure.lattice.matrix * [1, 1, -1], structure.species, structure.frac_coords)


@pytest.fixture(scope="session")
def crystals() -> dict[str, Structure]:
    """Conventional cells by name."""
    return {name: build(name) for name in RECIPES} | {"mirrored quartz": mirrored(build("quartz"))}


@pytest.fixture(scope="session")
def cells(crystals: dict[str, Structure]) -> dict[str, Cell]:
    """The same as cells."""
    return {name: Cell.from_structure(structure) for name, structure in crystals.items()}


def shortest_distance(cell: Cell) -> float:
    """Shortest distance in angstrom between two atoms, or images of one, of a cell with edges longer than that."""
    delta = cell.positions[:, None] - cell.positions[None]
    delta -= np.round(delta)
    squared = ((delta @ cell.lattice) ** 2).sum(-1)
    np.fill_diagonal(squared, np.inf)
    return float(np.sqrt(squared.min()))


ELEMENTS_OF_SITES = ("Na", "Ti", "Fe", "O", "S")


def random_description(number: int) -> Description:
    """A crystal of a space group at random, the same each time: general positions of two or three elements, so that
    nothing but this group leaves it in place, and up to two special ones; no two atoms within 0.5 angstrom."""
    from crystallm.crystal.description import expand

    rng = np.random.default_rng(1000 + number)
    group = space_group(number)
    letters = [letter for letter in ALPHABET if letter in group.positions]
    general = 3 if len(group.rotations) <= 8 else 2
    edges = 2.8 * (general * len(group.rotations) + 4) ** (1 / 3) * np.array([0.93, 1.0, 1.13])
    lengths = {axis: round(float(edge), 4) for axis, edge in enumerate(edges)}
    angles = {3: 83.27, 4: 97.31, 5: 88.53}
    free = {p: value for p, value in (lengths | angles).items() if p in FREE_PARAMETERS[group.crystal_system]}
    for _ in range(1000):
        chosen = [letters[-1]] * general + sorted(
            rng.choice(letters[:-1], min(2, len(letters) - 1), replace=False).tolist()
        )
        sites = tuple(
            Site(element, letter, tuple((rng.integers(20, 980, group.positions[letter].n_free) / 1000).tolist()))
            for element, letter in zip(ELEMENTS_OF_SITES, chosen, strict=False)
        )
        counts: dict[str, int] = {}
        for site in sites:
            counts[site.element] = group.positions[site.letter].multiplicity // group.centring_order
        amounts = reduce_amounts(counts)
        units = counts[amounts[0][0]] // amounts[0][1]
        description = Description(amounts, units, number, full_parameters(group.crystal_system, free), sites)
        if shortest_distance(expand(description)) > 0.5:
            return description
    raise AssertionError(f"no crystal of space group {number} without atoms on top of each other")


@pytest.fixture(scope="session")
def random_descriptions() -> dict[int, Description]:
    """A crystal of every space group."""
    return {number: random_description(number) for number in range(1, 231)}
