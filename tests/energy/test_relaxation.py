"""Relaxation over the free parameters, compared with what is known of copper and with FIRE over all atoms."""

import importlib.util
import math

import numpy as np
import pytest

from crystallm.crystal.cell import Cell
from crystallm.crystal.description import Description, Site, expand
from crystallm.energy.potentials.by_name import load_potential
from crystallm.energy.potentials.derivatives import derivatives_of
from crystallm.energy.potentials.orbits import with_symmetry
from crystallm.energy.potentials.protocol import NoEnergy, Potential
from crystallm.energy.relaxation.fire import Relaxation
from crystallm.energy.relaxation.fire import relax as relax_by_fire
from crystallm.energy.relaxation.free_parameters import free_parameters
from crystallm.energy.relaxation.relaxation import (
    RelaxationSettings,
    Relaxed,
    RelaxedCell,
    Stopped,
    energies_as_given,
    relax,
    relax_all,
    relax_cell,
    relax_without_symmetry,
)

from .conftest import Broken, copper, rutile, tetragonal_copper

needs_chgnet = pytest.mark.skipif(importlib.util.find_spec("chgnet") is None, reason="chgnet is not installed")


def test_the_free_parameters_of_rutile_are_a_c_and_x() -> None:
    parameters = free_parameters(with_symmetry(rutile()))
    assert (len(parameters.strains), len(parameters.orbit)) == (2, 1)
    # One angstrom along [110]: x changes by 1 / (a sqrt 2).
    assert np.abs(parameters.directions[0]) == pytest.approx([1 / (4.6 * math.sqrt(2))] * 2 + [0], abs=1e-9)
    moved = parameters.crystal(np.array([0.0, 0.0, 0.1]))
    assert np.linalg.norm((moved.positions - parameters.given.positions) @ moved.lattice, axis=1) == pytest.approx(
        [0, 0, 0.1, 0.1, 0.1, 0.1]
    )


@pytest.mark.parametrize(
    ("group", "cell", "sites", "strains", "coordinates"),
    [
        (1, (4, 5, 6, 80, 95, 100), (Site("Cu", "a", (0.0, 0.0, 0.0)), Site("Cu", "a", (0.4, 0.5, 0.6))), 6, 6),
        (14, (5, 6, 7, 90, 100, 90), (Site("Cu", "e", (0.1, 0.2, 0.3)),), 4, 3),
        (62, (5, 6, 7, 90, 90, 90), (Site("Cu", "c", (0.1, 0.3)),), 3, 2),
        (194, (3, 3, 5, 90, 90, 120), (Site("Cu", "f", (0.1,)),), 2, 1),
        (227, (8, 8, 8, 90, 90, 90), (Site("Cu", "e", (0.26,)),), 1, 1),
    ],
)
def test_as_many_free_parameters_as_the_tables_say(
    group: int, cell: tuple[float, ...], sites: tuple[Site, ...], strains: int, coordinates: int
) -> None:
    description = Description((("Cu", 1),), 1, group, cell, sites)  # type: ignore[arg-type]
    parameters = free_parameters(with_symmetry(description))
    assert (len(parameters.strains), len(parameters.orbit)) == (strains, coordinates)


def test_copper_finds_the_lattice_constant_of_the_potential(emt: Potential) -> None:
    relaxed = relax(copper(3.8), emt, RelaxationSettings(max_force=0.001))
    assert isinstance(relaxed, Relaxed)
    assert relaxed.after.cell[0] == pytest.approx(3.59, abs=0.01)
    assert relaxed.after.cell[1:3] == (relaxed.after.cell[0],) * 2
    assert relaxed.converged
    assert relaxed.energy < relaxed.energy_as_given
    assert relaxed.rmsd_angstrom == pytest.approx(0, abs=1e-9)
    assert relaxed.volume_ratio == pytest.approx((relaxed.after.cell[0] / 3.8) ** 3)
    assert relaxed.gained_space_group is None


def test_what_gains_symmetry_says_so_and_keeps_its_group(emt: Potential) -> None:
    relaxed = relax(tetragonal_copper(2.6, 3.5), emt, RelaxationSettings(max_force=0.005))
    assert isinstance(relaxed, Relaxed)
    assert relaxed.after.space_group == 139
    assert relaxed.gained_space_group == 225
    assert relaxed.after.cell[2] / relaxed.after.cell[0] == pytest.approx(math.sqrt(2), abs=0.03)


def test_a_primitive_cell_gives_the_slopes_of_the_whole_cell(emt: Potential) -> None:
    description = Description((("Cu", 3), ("Au", 1)), 2, 139, (3.7, 3.7, 7.6, 90, 90, 90), (Site("Cu", "a", ()), Site("Au", "b", ()), Site("Cu", "d", ())))  # noqa: E501  # fmt: skip
    crystal = with_symmetry(description)
    cell, place = crystal.primitive
    assert (len(cell), len(crystal.numbers)) == (4, 8)
    assert cell.volume == pytest.approx(crystal.cell.volume / 2)
    assert cell.numbers[place].tolist() == crystal.numbers.tolist()
    (found,) = derivatives_of(emt, [crystal])
    whole = emt.evaluate(crystal.cell)
    assert not isinstance(found, NoEnergy)
    assert not isinstance(whole, NoEnergy)
    assert found.energy / 8 == pytest.approx(whole.energy)
    assert found.forces(crystal) == pytest.approx(whole.forces, abs=1e-6)
    assert found.strain / crystal.cell.volume == pytest.approx(whole.stress, abs=1e-6)


def test_several_crystals_relax_as_each_alone(emt: Potential) -> None:
    crystals = [copper(3.8), tetragonal_copper(2.6, 3.5)]
    together, alone = relax_all(crystals, emt), [relax(crystal, emt) for crystal in crystals]
    assert together == alone


def test_energies_as_given_are_those_of_whole_cells(emt: Potential) -> None:
    crystals = [copper(3.8), tetragonal_copper(2.6, 3.5)]
    whole = emt.energies([expand(crystal) for crystal in crystals])
    assert energies_as_given(crystals, emt) == pytest.approx(whole)


def test_limits_stop_where_it_is(emt: Potential) -> None:
    few = relax(copper(4.2), emt, RelaxationSettings(max_steps=1))
    assert isinstance(few, Relaxed)
    assert (few.stopped, few.steps, few.converged) == (Stopped.STEPS, 1, False)
    short = relax(copper(4.2), emt, RelaxationSettings(max_force=1e-9), time_limit=0.0)
    assert isinstance(short, Relaxed)
    assert short.stopped is Stopped.TIME


def test_a_potential_that_breaks_on_the_way_keeps_what_was_reached() -> None:
    kept = relax(copper(3.6), Broken(2, "nan"))
    assert isinstance(kept, Relaxed)
    assert kept.stopped is Stopped.NO_DESCENT
    assert relax(copper(3.6), Broken(0, "nan")) == NoEnergy("energy is not finite")


def test_a_cell_without_description_relaxes_with_all_atoms_free(emt: Potential) -> None:
    start = expand(copper(3.7))
    moved = Cell(start.lattice, start.positions + np.array([[0.04, 0, 0], *[[0, 0, 0]] * 3]), start.numbers)
    free = relax_without_symmetry(moved, emt, RelaxationSettings(max_force=0.005))
    assert isinstance(free, RelaxedCell)
    assert free.cell.volume == pytest.approx(3.59**3, rel=0.01)
    described = relax_cell(expand(copper(3.7)), emt, RelaxationSettings(max_force=0.005))
    assert isinstance(described, Relaxed)
    assert described.before.space_group == 225
    assert free.energy == pytest.approx(described.energy, abs=1e-3)


@needs_chgnet
def test_rutile_ends_where_fire_over_all_atoms_ends() -> None:
    from crystallm.energy.potentials.ase_potential import calculator

    settings = RelaxationSettings(max_force=0.01)
    relaxed = relax(rutile(0.28), load_potential("chgnet"), settings)
    reference = relax_by_fire(expand(rutile(0.28)), calculator("chgnet"), settings)
    assert isinstance(relaxed, Relaxed)
    assert isinstance(reference, Relaxation)
    assert relaxed.energy == pytest.approx(reference.energy, abs=1e-3)
    assert relaxed.volume_ratio == pytest.approx(reference.volume_ratio, abs=0.01)
    assert relaxed.after.sites[1].free[0] == pytest.approx(0.305, abs=0.004)  # 0.3051 by X-rays
    assert relaxed.steps < reference.steps / 4
