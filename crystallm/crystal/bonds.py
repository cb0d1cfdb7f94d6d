"""The bond-length score of CrystaLLM: the share of a crystal's bonds whose length fits the radii of the two atoms."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from pymatgen.core import PeriodicSite, Structure

from crystallm.crystal.radii import LONGEST_BOND, expected_length

SHORTEST_BOND = 0.68
"""A bond may be 0.32 of the sum of the two radii shorter or longer than it."""

HYDROGEN_FACTOR = 2.5
"""A bond to hydrogen is only ever too long: beyond this multiple of the sum of the radii."""

HEAVIEST_WITH_RADIUS = 96
"""Curium: beyond it neither pymatgen's atomic nor its covalent radii go on, and CrystalNN cannot work."""

NO_RADIUS = "no radius"
"""Reason where nothing can be judged because an element has no tabulated radius."""


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


def bond_lengths(structure: Structure) -> BondLengths | NoBondLengths:
    """Judge every bond that CrystalNN finds, as CrystaLLM (Antunes et al. 2024, `bond_length_reasonableness_score`).

    The published rule skips bonds of a site with its own images. A cell in which there are no others (one atom in the
    primitive cell) is judged by those instead, where the published code divides by zero.
    """
    heavy = sorted({site.specie.symbol for site in structure if site.specie.Z > HEAVIEST_WITH_RADIUS})
    if heavy:
        return NoBondLengths(NO_RADIUS, f"no radius is tabulated for {', '.join(heavy)}")
    # Imported only now: they take a second, and sampling needs no more of this module than the rule.
    from pymatgen.analysis.local_env import CrystalNN
    from scipy.spatial import QhullError

    finder = CrystalNN()
    between: list[tuple[PeriodicSite, PeriodicSite]] = []
    own_images: list[tuple[PeriodicSite, PeriodicSite, tuple[int, ...]]] = []
    for index, site in enumerate(structure):
        try:
            with warnings.catch_warnings():
                # CrystalNN warns at each call that it got no oxidation states; no state is the published setting.
                warnings.simplefilter("ignore")
                neighbours = finder.get_nn_info(structure, index)
        except (ValueError, RuntimeError, QhullError, ZeroDivisionError) as error:
            # Voronoi cells that do not close, coinciding atoms and flat arrangements: properties of the crystal.
            return NoBondLengths("no neighbours found", f"CrystalNN at site {index} ({site.specie}): {error}"[:200])
        for neighbour in neighbours:
            other = int(neighbour["site_index"])
            if other != index:
                between.append((site, neighbour["site"]))
            else:
                own_images.append((site, site, tuple(neighbour["image"])))
    pairs = [(a, b, a.distance(b)) for a, b in between]
    return _judge(pairs or [(a, b, a.distance(b, jimage=image)) for a, b, image in own_images])


def _judge(pairs: list[tuple[PeriodicSite, PeriodicSite, float]]) -> BondLengths | NoBondLengths:
    reasonable = 0
    worst, furthest = "", 0.0
    for first, second, length in pairs:
        expected = expected_length(first.specie, second.specie)
        if expected is None:
            return NoBondLengths(NO_RADIUS, f"no radius is tabulated for {first.specie} or {second.specie}")
        ratio = length / expected
        if is_reasonable(ratio, hydrogen="H" in (first.specie.symbol, second.specie.symbol)):
            reasonable += 1
        elif abs(ratio - 1) > furthest:
            furthest = abs(ratio - 1)
            worst = f"{first.specie}-{second.specie} {length:.2f} A, expected {expected:.2f}"
    return BondLengths(reasonable, len(pairs), worst)


def is_reasonable(ratio: float, *, hydrogen: bool) -> bool:
    """Whether a bond of `ratio` times the expected length is accepted."""
    if hydrogen:
        return ratio < HYDROGEN_FACTOR
    return SHORTEST_BOND < ratio < LONGEST_BOND
