"""What the checks compile, import and read only once is done before any clock starts."""

from __future__ import annotations

from functools import cache

import numpy as np

from crystallm.crystal.cell import Cell
from crystallm.crystal.matching.warm_up import FIRST, carbon, warm_up_matcher


@cache
def warm_up_checks() -> None:
    """Import and read what the checks of validity need, those of the reference path included.

    Example:
        >>> warm_up_checks()
    """
    from crystallm.crystal.checks.fast_bonds import judge_bonds
    from crystallm.crystal.checks.validity import check_structure

    crystal = carbon(FIRST)
    judge_bonds(crystal)
    check_structure(crystal)


@cache
def warm_up_fast_checks() -> None:
    """The same for the fast path alone: neither CrystalNN nor what it needs is imported."""
    from crystallm.crystal.checks.cif_statements import Claims
    from crystallm.crystal.checks.fast_validity import FAST_CHECKS
    from crystallm.crystal.checks.subject import Subject

    # Two atoms that are clearly bonded: no Voronoi cell is made, and nothing imported that a check may not need.
    bonded = Cell(np.eye(3) * 2.5, np.array([(0.0, 0.0, 0.0), (0.35, 0.35, 0.35)]), np.full(2, 6, dtype=np.int64))
    subject = Subject(bonded, Claims(space_group_number="2"))
    for check in FAST_CHECKS.values():
        check(subject)


@cache
def warm_up_counting() -> None:
    """The loops that count symmetry operations: compiled in the first run after installation."""
    from crystallm.crystal.checks.fast_symmetry import is_written_in

    is_written_in(carbon(FIRST), 1)


@cache
def warm_up_all() -> None:
    """The matcher and the fast checks: what judges the draws of a model that is being trained."""
    warm_up_matcher()
    warm_up_fast_checks()
