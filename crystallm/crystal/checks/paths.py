"""Which path checks a crystal, and which tells whether it has more symmetry than it was written in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from crystallm.crystal.cell import Cell
from crystallm.crystal.checks.validity import CheckName, Checks
from crystallm.crystal.checks.warm_up import warm_up_checks, warm_up_counting, warm_up_fast_checks
from crystallm.crystal.switch import Switch, Way

ChecksPath = Literal["reference", "fast"]


class CheckCif(Protocol):
    """Checks anyone's CIF; an unreadable one fails every check."""

    def __call__(
        self, text: str, *, names: Sequence[CheckName] = tuple(CheckName), p1_is_claim: bool = False
    ) -> Checks:
        """The verdicts by name."""


def _reference() -> CheckCif:
    from crystallm.crystal.checks.validity import check_cif

    return check_cif


def _fast() -> CheckCif:
    from crystallm.crystal.checks.fast_validity import check_cif_fast

    return check_cif_fast


CHECKS_PATHS: Switch[CheckCif] = Switch(
    "path of checks",
    reference=Way("reference", "CrystalNN and spglib", ("pymatgen", "spglib"), _reference, warm_up_checks),
    accelerator=Way(
        "fast", "a neighbour list and moyopy", ("pymatgen", "moyopy", "numba", "scipy"), _fast, warm_up_fast_checks
    ),
)
"""Of the checks of validity. `crystallm eval agreement` measures how often both paths say the same."""


SymmetryPath = Literal["reference", "fast"]

IsWrittenIn = Callable[[Cell, int], bool]
"""Whether a crystal built by the operations of a space group has that one and none of higher symmetry."""


def _finder() -> IsWrittenIn:
    from crystallm.crystal.symmetry import has_space_group

    return has_space_group


def _counted() -> IsWrittenIn:
    from crystallm.crystal.checks.fast_symmetry import is_written_in

    return is_written_in


SYMMETRY_PATHS: Switch[IsWrittenIn] = Switch(
    "path of the symmetry of draws",
    reference=Way("reference", "spglib, for cubic groups moyopy", ("spglib", "moyopy"), _finder),
    accelerator=Way(
        "fast", "operations counted, else a finder", ("spglib", "moyopy", "numba"), _counted, warm_up_counting
    ),
)
"""Of the question that every complete draw is asked; counting gave the finder's verdict for all of 5,811 crystals."""
