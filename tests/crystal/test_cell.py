"""Cells: metric, contents, and the way to and from pymatgen."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crystallm.crystal.cell import Cell, Reason, Rejection, angles_close, lattice_from_parameters, parameters_of

TRICLINIC = (7.1262, 7.8520, 5.5724, 89.99, 101.11, 106.03)


def test_a_cubic_cell_is_exact() -> None:
    assert (lattice_from_parameters((2.0, 2.0, 2.0, 90.0, 90.0, 90.0)) == 2 * np.eye(3)).all()


@pytest.mark.parametrize(
    "parameters", [TRICLINIC, (3.8, 3.8, 6.2, 90.0, 90.0, 120.0), (5.0, 6.0, 7.0, 90.0, 99.0, 90.0)]
)
def test_basis_is_that_of_pymatgen(parameters: tuple[float, ...]) -> None:
    assert lattice_from_parameters(parameters) == pytest.approx(Lattice.from_parameters(*parameters).matrix, abs=1e-9)


def test_parameters_come_back_from_the_basis() -> None:
    assert parameters_of(lattice_from_parameters(TRICLINIC)) == pytest.approx(TRICLINIC)


def test_angles_that_do_not_close() -> None:
    assert angles_close(90, 90, 120)
    assert not angles_close(90, 90, 180)
    assert not angles_close(60, 60, 120)  # flat
    assert not angles_close(40, 50, 100)  # gamma wider than alpha and beta together


def test_rock_salt_holds_four_formula_units(cells: dict[str, Cell]) -> None:
    cell = cells["rock salt"]
    assert (len(cell), cell.amounts, cell.formula_units) == (8, {11: 4, 17: 4}, 4)
    assert cell.volume == pytest.approx(5.6402**3)
    assert cell.lengths == pytest.approx([5.6402] * 3)


def test_structure_there_and_back(crystals: dict[str, Structure]) -> None:
    for structure in crystals.values():
        back = Cell.from_structure(structure).to_structure()
        assert back == structure
        assert back.composition == structure.composition


def test_oxidation_states_are_dropped(crystals: dict[str, Structure]) -> None:
    charged = crystals["rutile"].copy()
    charged.add_oxidation_state_by_element({"Ti": 4, "O": -2})
    assert Cell.from_structure(charged).to_structure() == crystals["rutile"]


def test_a_rejection_says_reason_and_detail() -> None:
    assert str(Rejection(Reason.DISORDERED, "site 'Fe1'")) == "disordered: site 'Fe1'"
