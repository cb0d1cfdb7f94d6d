"""Whether two crystals are the same: the one door to pymatgen's structure matcher."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from crystallm.crystal.limited import Lost, Worker

PREDICTION_TOLERANCES = {"stol": 0.5, "ltol": 0.3, "angle_tol": 10.0}
"""Of the published structure-prediction benchmarks (CDVAE, DiffCSP, CrystaLLM)."""

DUPLICATE_TOLERANCES = {"stol": 0.3, "ltol": 0.2, "angle_tol": 5.0}
"""pymatgen's defaults: what is merged as one and the same crystal."""

TIME_LIMIT_S = 10.0
"""Default limit for one comparison; nearly all take milliseconds, a few hang."""


def matcher(*, stol: float = 0.5, ltol: float = 0.3, angle_tol: float = 10.0) -> StructureMatcher:
    """A structure matcher that compares primitive cells scaled to equal volume; angles in degrees."""
    return StructureMatcher(stol=stol, ltol=ltol, angle_tol=angle_tol)


def unreduced_matcher() -> StructureMatcher:
    """The same for cells that are primitive already.

    The other looks for a primitive cell at a tolerance of 0.25 angstrom; now and then it takes one of two nearly equal
    crystals for a smaller one, and finds no match.
    """
    return StructureMatcher(**PREDICTION_TOLERANCES, primitive_cell=False)


def rms_distance(first: Structure, second: Structure, *, by: StructureMatcher | None = None) -> float | None:
    """Root mean square distance of matched atoms over (volume / atoms)^(1/3); None where the two do not match.

    Nothing limits its time: run it in a `Worker` on structures that nobody vouches for.
    """
    if first.composition.reduced_formula != second.composition.reduced_formula:
        return None
    found = (by or matcher()).get_rms_dist(first, second)
    return None if found is None or not math.isfinite(found[0]) else float(found[0])


def group_duplicates(
    structures: Sequence[Structure],
    *,
    tolerances: dict[str, float] | None = None,
    time_limit_s: float = TIME_LIMIT_S,
) -> list[list[int]]:
    """Indices of equal structures, each group led by its first member, groups in order of their leaders.

    A structure joins the first group whose leader it matches. A comparison that exceeds the time limit counts as no
    match. Only pairs of equal reduced formula are compared, which cannot change the outcome.
    """
    groups: list[list[int]] = []
    leaders: dict[str, list[int]] = {}
    with Worker(_Same(tolerances or DUPLICATE_TOLERANCES)) as worker:
        for index, structure in enumerate(structures):
            rivals = leaders.setdefault(structure.composition.reduced_formula, [])
            for group in rivals:
                same = worker.call((structures[groups[group][0]], structure), time_limit_s=time_limit_s)
                if not isinstance(same, Lost) and same:
                    groups[group].append(index)
                    break
            else:
                rivals.append(len(groups))
                groups.append([index])
    return groups


class _Same:
    """Whether two structures match; a class, so that it can be sent to a spawned process."""

    def __init__(self, tolerances: dict[str, float]) -> None:
        self.tolerances = tolerances

    def __call__(self, pair: tuple[Structure, Structure]) -> bool:
        return bool(matcher(**self.tolerances).fit(*pair))
