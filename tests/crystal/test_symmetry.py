"""Space groups by name, and what the two symmetry finders say about textbook crystals."""

import numpy as np
import pytest

from crystallm.base.errors import SymmetryError
from crystallm.crystal.cell import Cell, Reason, Rejection
from crystallm.crystal.symmetry import (
    SYMPREC_ANGSTROM,
    hermann_mauguin,
    space_group_from_name,
    space_group_number,
    space_group_symbol,
    standardize,
    standardize_number,
)

SPACE_GROUPS = {
    "rock salt": 225,
    "caesium chloride": 221,
    "diamond": 227,
    "spinel": 227,
    "pyrite": 205,
    "perovskite": 221,
    "rutile": 136,
    "wurtzite": 186,
    "magnesium": 194,
    "corundum": 167,
    "arsenic": 166,
    "quartz": 154,
    "mirrored quartz": 152,
    "baddeleyite": 14,
    "kyanite": 2,
}


def test_both_finders_name_the_textbook_group(cells: dict[str, Cell]) -> None:
    assert {name: space_group_number(cell) for name, cell in cells.items()} == SPACE_GROUPS
    assert {name: standardize_number(cell) for name, cell in cells.items()} == SPACE_GROUPS


def test_rutile_has_two_orbits(cells: dict[str, Cell]) -> None:
    standard = standardize(cells["rutile"])
    assert not isinstance(standard, Rejection)
    assert [(number, letter) for number, letter, _ in standard.orbits] == [(22, "a"), (8, "f")]
    assert standard.parameters == pytest.approx((4.5937, 4.5937, 2.9587, 90, 90, 90))


@pytest.mark.parametrize(("shift_angstrom", "number"), [(0.5 * SYMPREC_ANGSTROM, 221), (3 * SYMPREC_ANGSTROM, 99)])
def test_the_tolerance_is_a_tenth_of_an_angstrom(cells: dict[str, Cell], shift_angstrom: float, number: int) -> None:
    cubic = cells["perovskite"]
    titanium_moved = cubic.positions + np.outer(cubic.numbers == 22, [0, 0, shift_angstrom / 4.0118])
    moved = Cell(cubic.lattice, titanium_moved, cubic.numbers)
    assert standardize_number(moved) == number
    assert space_group_number(moved) == number


def test_atoms_on_top_of_each_other_are_a_rejection() -> None:
    cell = Cell(5 * np.eye(3), np.array([[0, 0, 0], [0, 0, 0.001]]), np.array([11, 11]))
    refused = standardize(cell)
    assert isinstance(refused, Rejection)
    assert refused.reason is Reason.SYMMETRY_FAILED
    assert standardize_number(cell) is None
    assert space_group_number(cell) is None


@pytest.mark.parametrize(
    ("name", "number"),
    [
        *((136, 136), ("136", 136), ("P4_2/mnm", 136), ("P42/mnm", 136), ("P 42/m n m", 136), ("p 4_2/M N M", 136)),
        *(("Fd-3m", 227), ("F d -3 m:2", 227), ("R-3m", 166), ("R -3 m :R", 166), ("C2/c", 15), ("I2/a", 15)),
        *(("P21/c", 14), ("P2_1/n", 14), ("P 1 21/c 1", 14), ("Pbnm", 62), ("P1", 1), ("230", 230)),
    ],
)
def test_space_group_from_what_people_type(name: str | int, number: int) -> None:
    assert space_group_from_name(name) == number


@pytest.mark.parametrize("name", [0, 231, -1, "", "P5", "rutile", "1.5"])
def test_unknown_space_group(name: str | int) -> None:
    with pytest.raises(SymmetryError, match="unknown space group"):
        space_group_from_name(name)


def test_symbols() -> None:
    assert space_group_symbol(136) == "P4_2/mnm"
    assert hermann_mauguin(136) == "P 4_2/m n m"
    assert [space_group_from_name(space_group_symbol(n)) for n in range(1, 231)] == list(range(1, 231))
    assert [space_group_from_name(hermann_mauguin(n)) for n in range(1, 231)] == list(range(1, 231))
