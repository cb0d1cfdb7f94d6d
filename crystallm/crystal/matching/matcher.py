"""Whether two crystals are the same: the one door to pymatgen's structure matcher."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from crystallm.crystal.matching.tolerances import STANDARD, Tolerances

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Structure

TIME_LIMIT_S = 10.0
"""Default limit for one comparison; nearly all take milliseconds, a few hang."""


def matcher(tolerances: Tolerances = STANDARD) -> StructureMatcher:
    """A structure matcher that compares primitive cells scaled to equal volume."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(**asdict(tolerances))


def unreduced_matcher() -> StructureMatcher:
    """The same for cells that are primitive already.

    The other looks for a primitive cell at a tolerance of 0.25 angstrom; now and then it takes one of two nearly equal
    crystals for a smaller one, and finds no match.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(**asdict(STANDARD), primitive_cell=False)


def rms_distance(first: Structure, second: Structure, *, by: StructureMatcher | None = None) -> float | None:
    """Root mean square distance of matched atoms over (volume / atoms)^(1/3); None where the two do not match.

    Nothing limits its time: run it in a `Worker` on structures that nobody vouches for.
    """
    if first.composition.reduced_formula != second.composition.reduced_formula:
        return None
    found = (by or matcher()).get_rms_dist(first, second)
    return None if found is None or not math.isfinite(found[0]) else float(found[0])
