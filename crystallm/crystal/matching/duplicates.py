"""Which crystals are one and the same, by the verdict of pymatgen's structure matcher on few pairs of them.

The matcher's verdict is on the largest displacement, which is no less than the root mean square displacement. That is
found for all pairs at once (`displacement.py`), from crystals reduced once; only where it is within tolerance has the
matcher itself to be asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pymatgen.core import Structure

from crystallm.base.workers import Lost, Worker
from crystallm.crystal.cell import Cell
from crystallm.crystal.matching.matcher import TIME_LIMIT_S, matcher
from crystallm.crystal.matching.reduced_crystal import Prepared, prepare
from crystallm.crystal.matching.tolerances import DUPLICATE
from crystallm.crystal.matching.warm_up import warm_up_matcher

Question = Cell | tuple[list[Prepared], Prepared] | tuple[Structure, Structure]
"""A crystal to be reduced; some that are to be compared with another; two that are to be matched."""

Answer = Prepared | list[bool] | bool


@dataclass(frozen=True)
class Duplicates:
    """Which structures are equal, as far as that could be found out."""

    groups: list[list[int]]
    """Indices of equal structures, each group led by its first member, groups in order of their leaders."""
    undecided: frozenset[int] = frozenset()
    """Those that lead a group of their own because a comparison with an earlier one gave no answer in time."""


def group_duplicates(
    structures: Sequence[Structure], *, time_limit_s: float = TIME_LIMIT_S, apart: int = 0
) -> Duplicates:
    """Which structures are equal by pymatgen's matcher: each joins the first group whose leader it matches.

    Args:
        structures: To be grouped, in the order of preference.
        time_limit_s: Seconds for one comparison. What takes longer is undecided: the structure stays apart, and is
            named. Loops are compiled before the clock starts.
        apart: Of the first so many nobody asks which are equal, only which of the others are equal to them; those that
            no other can match, by the number of their sites, are groups of their own.

    Example:
        >>> rock_salt = Structure.from_spacegroup(225, Lattice.cubic(5.64), ["Na", "Cl"], [[0] * 3, [0.5] * 3])
        >>> group_duplicates([rock_salt, rock_salt.copy()]).groups
        [[0, 1]]
    """
    if len(structures) < 2:
        return Duplicates([[index] for index in range(len(structures))])
    groups: list[list[int]] = []
    leaders: dict[str, list[tuple[int, Prepared]]] = {}
    unreduced: set[str] = set()
    """Formulas with a structure that could not be reduced in time: any other of it may be equal to it."""
    undecided: set[int] = set()
    with Worker(_answer, warm_up=warm_up_matcher) as worker:

        def matched(index: int, prepared: Prepared, rivals: list[tuple[int, Prepared]]) -> int | None:
            """The first group whose leader a crystal matches."""
            near, lost = _near(prepared, rivals, worker, time_limit_s)
            for group in near:
                pair = structures[groups[group][0]], structures[index]
                verdict = worker.call(pair, time_limit_s=time_limit_s)
                if verdict is True:
                    return group
                lost = lost or isinstance(verdict, Lost)
            if lost:
                undecided.add(index)
            return None

        reduced = [worker.call(Cell.from_structure(one), time_limit_s=time_limit_s) for one in structures]
        sizes = {len(prepared) for prepared in reduced[apart:] if isinstance(prepared, Prepared)}
        for index, (structure, prepared) in enumerate(zip(structures, reduced, strict=True)):
            if index < apart and not (isinstance(prepared, Prepared) and len(prepared) in sizes):
                groups.append([index])
                if isinstance(prepared, Lost):
                    unreduced.add(structure.composition.reduced_formula)
                continue
            formula = structure.composition.reduced_formula
            rivals = leaders.setdefault(formula, [])
            group = matched(index, prepared, rivals) if isinstance(prepared, Prepared) else None
            if group is not None:
                groups[group].append(index)
                continue
            if formula in unreduced or (rivals and isinstance(prepared, Lost)):
                undecided.add(index)
            if isinstance(prepared, Prepared):
                rivals.append((len(groups), prepared))
            else:
                unreduced.add(formula)
            groups.append([index])
    return Duplicates(groups, frozenset(undecided))


def _near(
    crystal: Prepared, rivals: list[tuple[int, Prepared]], worker: Worker[Question, Answer], time_limit_s: float
) -> tuple[list[int], bool]:
    """The groups whose leaders are within tolerance on average, and whether one could not be compared in time."""
    if not rivals:
        return [], False
    near = worker.call(([leader for _, leader in rivals], crystal), time_limit_s=time_limit_s)
    lost = False
    if isinstance(near, Lost):  # one of them was too much; the others may be decided
        alone = [worker.call(([leader], crystal), time_limit_s=time_limit_s) for _, leader in rivals]
        lost = any(isinstance(answer, Lost) for answer in alone)
        near = [answer == [True] for answer in alone]
    assert isinstance(near, list)
    return [group for (group, _), is_near in zip(rivals, near, strict=True) if is_near], lost


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
    from crystallm.crystal.matching.displacement import (
        rms_of_many,  # it needs numba, and most who import this compare nothing
    )

    return [rms is not None for (rms,) in rms_of_many(crystals, other, [DUPLICATE])]
