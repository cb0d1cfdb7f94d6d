"""Parents: which symmetry a crystal nearly has, and how far it is from it."""

from dataclasses import replace

import numpy as np
import pytest

from crystallm.crystal.cell import Cell
from crystallm.crystal.copies.parents import parent, parents
from crystallm.crystal.description import Description, Site, describe, expand
from crystallm.crystal.symmetry import idealize, space_group_number

CELL = (90.0, 90.0, 90.0)


def body_centred(a: float, c: float) -> Description:
    """Aluminium as a body-centred tetragonal cell; face-centred cubic where c = sqrt(2) a."""
    return Description((("Al", 1),), 1, 139, (a, a, c, *CELL), (Site("Al", "a", ()),))


def tetragonal_perovskite(c: float, titanium: float, apical: float, plane: float) -> Description:
    """BaTiO3 in P4mm, with the heights of Ti and O in parts of c."""
    sites = (Site("Ba", "a", (0.0,)), Site("Ti", "b", (titanium,)), Site("O", "b", (apical,)), Site("O", "c", (plane,)))
    return Description((("Ba", 1), ("Ti", 1), ("O", 3)), 1, 99, (3.9945, 3.9945, c, *CELL), sites)


BATIO3 = tetragonal_perovskite(4.0335, 0.5224, 0.9755, 0.4895)
"""As measured at 293 K (Kwei, Lawson, Billinge and Cheong, J. Phys. Chem. 97, 2368 (1993)): a 3.9945, c 4.0335 A."""


def test_face_centred_aluminium_in_a_tetragonal_cell() -> None:
    found = parent(body_centred(2.86, 4.10), 0.2)
    assert found is not None
    assert found.space_group == 225
    assert found.displacement_angstrom == pytest.approx(0.0, abs=1e-6)  # one atom: nothing but strain
    assert isinstance(found.description, Description)
    # The volume stays: a^3 = 2 a^2 c of the tetragonal cell.
    assert found.description.cell[0] ** 3 == pytest.approx(2 * 2.86**2 * 4.10, rel=1e-3)
    assert parent(body_centred(2.86, 4.10), 0.01) is None


def test_what_has_reached_its_parent_has_it_still() -> None:
    """A relaxation may end exactly in the higher symmetry."""
    found = parent(body_centred(2.8638, 2.8638 * 2**0.5), 0.1)
    assert found is not None
    assert found.space_group == 225
    assert found.distance_angstrom == pytest.approx(0.0, abs=1e-6)


def test_strain_is_measured_at_the_end_of_a_basis_vector() -> None:
    """A cube of 3 A stretched along z by 3 %: the idealized edge is the mean of 3.00, 3.00 and 3.09."""
    stretched = Cell(np.diag([3.0, 3.0, 3.09]), np.zeros((1, 3)), np.array([84]))
    found = parent(stretched, 0.2)
    assert found is not None
    assert found.space_group == 221
    assert found.strain_angstrom == pytest.approx(0.06, abs=1e-3)


def test_barium_titanate_is_a_tenth_of_an_angstrom_from_the_cube() -> None:
    """Ti moves by 0.0224 c, O by 0.0245 c and 0.0105 c the other way: 0.09 and 0.1 A before the mean is taken away."""
    found = parent(BATIO3, 0.3)
    assert found is not None
    assert found.space_group == 221
    shift = (0.0224 - 0.0245 - 2 * 0.0105) / 5  # mean over the atoms, in parts of c
    expected = (0.0224 - shift) * 4.0335
    assert found.displacement_angstrom == pytest.approx(expected, abs=0.005)
    assert found.distance_angstrom == max(found.displacement_angstrom, found.strain_angstrom)


def test_parents_of_a_chain_come_highest_first() -> None:
    """A perovskite sheared a little and polar: cubic, and what lies between."""
    found = parents(BATIO3, 0.3)
    assert [p.n_operations for p in found] == sorted((p.n_operations for p in found), reverse=True)
    assert found[0].space_group == 221
    assert 123 in {p.space_group for p in found[1:]} or len(found) == 1


def test_a_crystal_in_its_own_symmetry_has_none(cells: dict[str, Cell]) -> None:
    for name in ("rutile", "perovskite", "corundum", "wurtzite", "spinel"):
        crystal = describe(cells[name])
        assert isinstance(crystal, Description)
        assert parents(crystal, 0.1) == []


@pytest.mark.parametrize("name", ["rutile", "perovskite", "corundum", "baddeleyite", "quartz", "rock salt"])
def test_idealized_atoms_stay_beside_their_own(name: str, cells: dict[str, Cell]) -> None:
    rng, cell = np.random.default_rng(0), cells[name]
    shaken = replace(cell, positions=cell.positions + rng.normal(0, 0.01, (len(cell), 3)) @ np.linalg.inv(cell.lattice))
    strained = replace(shaken, lattice=cell.lattice @ (np.eye(3) + rng.normal(0, 0.002, (3, 3))))
    found = parent(strained, 0.1)
    assert found is not None
    assert found.space_group == space_group_number(cell)
    assert space_group_number(found.cell, symprec_angstrom=1e-3) == found.space_group
    assert 0.01 < found.distance_angstrom < 0.1


def test_a_lost_doubling_of_the_cell_is_found() -> None:
    """Two cubes on top of each other that differ by a hair: the parent has half the cell and more operations."""
    doubled = Cell(np.diag([4.0, 4.0, 8.0]), np.array([[0, 0, 0], [0, 0, 0.505]]), np.array([84, 84]))
    ideal = idealize(doubled, symprec_angstrom=0.1)
    found = parent(doubled, 0.1)
    assert found is not None
    assert found.space_group == 221
    assert found.displacement_angstrom == pytest.approx(0.02, abs=1e-3)  # 0.04 A, half of it to each
    assert isinstance(found.description, Description)
    assert found.description.n_sites == 1
    assert ideal.n_operations == 2 * 16  # type: ignore[union-attr]  # the operations that the doubled cell keeps


def test_description_of_the_parent_is_what_one_would_write() -> None:
    found = parent(BATIO3, 0.3)
    assert found is not None
    assert isinstance(found.description, Description)
    letters = [(site.element, site.letter) for site in found.description.sites]
    assert letters in ([("Ba", "a"), ("Ti", "b"), ("O", "c")], [("Ba", "b"), ("Ti", "a"), ("O", "d")])
    assert len(expand(found.description)) == 5
