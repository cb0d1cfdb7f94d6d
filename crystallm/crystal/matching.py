"""Whether two crystals are the same: the one door to pymatgen's structure matcher."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Structure

PREDICTION_TOLERANCES = {"stol": 0.5, "ltol": 0.3, "angle_tol": 10.0}
"""Of the published structure-prediction benchmarks (CDVAE, DiffCSP, CrystaLLM)."""

DUPLICATE_TOLERANCES = {"stol": 0.3, "ltol": 0.2, "angle_tol": 5.0}
"""pymatgen's defaults: what is merged as one and the same crystal."""

TIME_LIMIT_S = 10.0
"""Default limit for one comparison; nearly all take milliseconds, a few hang."""


def matcher(*, stol: float = 0.5, ltol: float = 0.3, angle_tol: float = 10.0) -> StructureMatcher:
    """A structure matcher that compares primitive cells scaled to equal volume; angles in degrees."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(stol=stol, ltol=ltol, angle_tol=angle_tol)


def unreduced_matcher() -> StructureMatcher:
    """The same for cells that are primitive already.

    The other looks for a primitive cell at a tolerance of 0.25 angstrom; now and then it takes one of two nearly equal
    crystals for a smaller one, and finds no match.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(**PREDICTION_TOLERANCES, primitive_cell=False)


def rms_distance(first: Structure, second: Structure, *, by: StructureMatcher | None = None) -> float | None:
    """Root mean square distance of matched atoms over (volume / atoms)^(1/3); None where the two do not match.

    Nothing limits its time: run it in a `Worker` on structures that nobody vouches for.
    """
    if first.composition.reduced_formula != second.composition.reduced_formula:
        return None
    found = (by or matcher()).get_rms_dist(first, second)
    return None if found is None or not math.isfinite(found[0]) else float(found[0])
