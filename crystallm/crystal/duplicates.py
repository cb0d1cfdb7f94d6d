"""Which crystals are one and the same, by the verdict of pymatgen's structure matcher on few pairs of them.

The matcher's verdict is on the largest displacement, which is no less than the root mean square displacement. That is
found for all pairs at once (`displacement.py`), from crystals reduced once; only where it is within tolerance has the
matcher itself to be asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from pymatgen.core import Structure

from crystallm.crystal.cell import Cell
from crystallm.crystal.displacement import rms_of_many
from crystallm.crystal.limited import Lost, Worker
from crystallm.crystal.matching import TIME_LIMIT_S, matcher
from crystallm.crystal.prepared import Prepared, prepare
from crystallm.crystal.tolerances import DUPLICATE

Question = Cell | tuple[list[Prepared], Prepared] | tuple[Structure, Structure]
"""A crystal to be reduced; some that are to be compared with another; two that are to be matched."""

Answer = Prepared | list[bool] | bool


def group_duplicates(
    structures: Sequence[Structure], *, time_limit_s: float = TIME_LIMIT_S, apart: int = 0
) -> list[list[int]]:
    """Indices of equal structures, each group led by its first member, groups in order of their leaders.

    A structure joins the first group whose leader it matches. What takes longer than the time limit counts as no match.
    apart: of the first so many nobody asks which are equal, only which of the others are equal to them; those that no
    other can match, by the number of their sites, are groups of their own.
    """
    if len(structures) < 2:
        return [[index] for index in range(len(structures))]
    _import_for_workers()
    groups: list[list[int]] = []
    leaders: dict[str, list[tuple[int, Prepared]]] = {}
    with Worker(_answer) as worker:

        def matched(index: int, prepared: Prepared, rivals: list[tuple[int, Prepared]]) -> int | None:
            """The first group whose leader a crystal matches."""
            for group in _near(prepared, rivals, worker, time_limit_s):
                pair = structures[groups[group][0]], structures[index]
                if worker.call(pair, time_limit_s=time_limit_s) is True:
                    return group
            return None

        reduced = [worker.call(Cell.from_structure(one), time_limit_s=time_limit_s) for one in structures]
        sizes = {len(prepared) for prepared in reduced[apart:] if isinstance(prepared, Prepared)}
        for index, (structure, prepared) in enumerate(zip(structures, reduced, strict=True)):
            if index < apart and not (isinstance(prepared, Prepared) and len(prepared) in sizes):
                groups.append([index])
                continue
            rivals = leaders.setdefault(structure.composition.reduced_formula, [])
            group = matched(index, prepared, rivals) if isinstance(prepared, Prepared) else None
            if group is not None:
                groups[group].append(index)
                continue
            if isinstance(prepared, Prepared):
                rivals.append((len(groups), prepared))
            groups.append([index])
    return groups


def _import_for_workers() -> None:
    """Import here what each worker would import anew: it is a copy of this process."""
    import pymatgen.analysis.structure_matcher  # noqa: F401
    import scipy.optimize  # noqa: F401


def _near(
    crystal: Prepared, rivals: list[tuple[int, Prepared]], worker: Worker[Question, Answer], time_limit_s: float
) -> list[int]:
    """The groups whose leaders are within tolerance on average."""
    if not rivals:
        return []
    near = worker.call(([leader for _, leader in rivals], crystal), time_limit_s=time_limit_s)
    if isinstance(near, Lost):  # one of them was too much; the others may be decided
        near = [worker.call(([leader], crystal), time_limit_s=time_limit_s) == [True] for _, leader in rivals]
    assert isinstance(near, list)
    return [group for (group, _), is_near in zip(rivals, near, strict=True) if is_near]


def _answer(question: Question) -> Answer:
    if isinstance(question, Cell):
        return prepare(question)
    one, other = question
    if isinstance(one, Structure):
        return bool(matcher(DUPLICATE).fit(one, other))
    assert isinstance(other, Prepared)
    return are_near(one, other)


def are_near(crystals: Sequence[Prepared], other: Prepared) -> list[bool]:
    """Which of the crystals are within tolerance of another by the root mean square displacement: all that the matcher
    calls the same, and few more."""
    return [rms is not None for (rms,) in rms_of_many(crystals, other, [DUPLICATE])]
