"""The bond-length score of CrystaLLM: the share of a crystal's bonds whose length fits the radii of the two atoms."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass

from pymatgen.core import PeriodicSite, Structure

from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.checks.radii import LONGEST_BOND, expected_length
from crystallm.crystal.symmetry import equivalent_atoms

SHORTEST_BOND = 0.68
"""A bond may be 0.32 of the sum of the two radii shorter or longer than it."""

HYDROGEN_FACTOR = 2.5
"""A bond to hydrogen is only ever too long: beyond this multiple of the sum of the radii."""

HEAVIEST_WITH_RADIUS = 96
"""Curium: beyond it neither pymatgen's atomic nor its covalent radii go on, and CrystalNN cannot work."""

NO_RADIUS = "no radius"
"""Reason where nothing can be judged because an element has no tabulated radius."""

COINCIDENT_ANGSTROM = 0.1
"""Two atoms nearer than this stand in one place: no cell can be drawn around either, so no bond can be found. Images of
one site that are so near are read as one atom."""

COINCIDENT = "atoms coincide"
"""Reason where nothing can be judged because two atoms stand in one place. The published code never comes to judge
such bonds: pymatgen's reader merges sites within 1e-4 angstrom, and raises an error where they are of two elements."""

NO_BONDS = "no bonds"
"""Reason where no atom has a bond."""

EQUAL_ANGSTROM = 1e-3
"""Atoms that symmetry makes equal to within this have equal bonds; the first of them is asked for all."""


@dataclass(frozen=True)
class BondLengths:
    """How many of the bonds that were found have a reasonable length."""

    reasonable: int
    counted: int
    worst: str = ""
    """The bond furthest off, for people: `Na-Cl 4.10 A, expected 2.81`."""

    @property
    def score(self) -> float | None:
        """Share of reasonable bonds; None where there is no bond to judge."""
        return self.reasonable / self.counted if self.counted else None


@dataclass(frozen=True)
class NoBondLengths:
    """Why bonds could not be found or judged."""

    reason: str
    detail: str


def bond_lengths(structure: Structure, *, by_symmetry: bool = True) -> BondLengths | NoBondLengths:
    """Judge every bond that CrystalNN finds, as CrystaLLM (Antunes et al. 2024, `bond_length_reasonableness_score`).

    The published rule skips bonds of a site with its own images. A cell in which there are no others (one atom in the
    primitive cell) is judged by those instead, where the published code divides by zero.

    Args:
        structure: All atoms of a cell, no two of them in one place.
        by_symmetry: Ask CrystalNN for one atom of those that symmetry makes equal (spglib, 0.001 angstrom), and count
            its bonds as often; False asks for every atom.

    Returns:
        How many bonds have a reasonable length, or why none could be judged.

    Example:
        >>> bond_lengths(Structure.from_spacegroup(225, Lattice.cubic(5.64), ["Na", "Cl"], [[0] * 3, [0.5] * 3])).score
        1.0
    """
    heavy = sorted({site.specie.symbol for site in structure if site.specie.Z > HEAVIEST_WITH_RADIUS})
    if heavy:
        return NoBondLengths(NO_RADIUS, f"no radius is tabulated for {', '.join(heavy)}")
    # Imported only now: they take a second, and sampling needs no more of this module than the rule.
    from pymatgen.analysis.local_env import CrystalNN
    from scipy.spatial import QhullError

    finder = CrystalNN()
    between: list[_Bond] = []
    own_images: list[_Bond] = []
    for index, count in _asked(structure, by_symmetry=by_symmetry).items():
        site = structure[index]
        try:
            with warnings.catch_warnings():
                # CrystalNN warns at each call that it got no oxidation states; no state is the published setting.
                warnings.simplefilter("ignore")
                neighbours = finder.get_nn_info(structure, index)
        except (ValueError, RuntimeError, QhullError, ZeroDivisionError) as error:
            # Voronoi cells that do not close, coinciding atoms and flat arrangements: properties of the crystal.
            return NoBondLengths("no neighbours found", f"CrystalNN at site {index} ({site.specie}): {error}"[:200])
        for neighbour in neighbours:
            if int(neighbour["site_index"]) != index:
                between.append((site, neighbour["site"], site.distance(neighbour["site"]), count))
            else:
                own_images.append((site, site, site.distance(site, jimage=tuple(neighbour["image"])), count))
    return _judge(between or own_images)


_Bond = tuple[PeriodicSite, PeriodicSite, float, int]
"""Both sites, the length in angstrom, and how many bonds of the cell are equal to it."""


def _asked(structure: Structure, *, by_symmetry: bool) -> dict[int, int]:
    """The atoms that CrystalNN is asked for, and how many of the cell each stands for."""
    equal = equivalent_atoms(Cell.from_structure(structure), symprec_angstrom=EQUAL_ANGSTROM) if by_symmetry else None
    if equal is None or isinstance(equal, Rejection):
        return dict.fromkeys(range(len(structure)), 1)
    return dict(Counter(equal.tolist()))


def _judge(bonds: list[_Bond]) -> BondLengths | NoBondLengths:
    counted = reasonable = 0
    worst, furthest = "", 0.0
    for first, second, length, count in bonds:
        counted += count
        expected = expected_length(first.specie, second.specie)
        if expected is None:
            return NoBondLengths(NO_RADIUS, f"no radius is tabulated for {first.specie} or {second.specie}")
        ratio = length / expected
        if is_reasonable(ratio, hydrogen="H" in (first.specie.symbol, second.specie.symbol)):
            reasonable += count
        elif abs(ratio - 1) > furthest:
            furthest = abs(ratio - 1)
            worst = f"{first.specie}-{second.specie} {length:.2f} A, expected {expected:.2f}"
    return BondLengths(reasonable, counted, worst)


def is_reasonable(ratio: float, *, hydrogen: bool) -> bool:
    """Whether a bond of `ratio` times the expected length is accepted."""
    if hydrogen:
        return ratio < HYDROGEN_FACTOR
    return SHORTEST_BOND < ratio < LONGEST_BOND
