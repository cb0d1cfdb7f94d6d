"""CHGNet's numbers from graphs of orbits, compared with chgnet's own."""

import importlib.util

import numpy as np
import pytest

from crystallm.crystal.cell import Cell
from crystallm.crystal.description import Description, Site, expand
from crystallm.energy.potentials.by_name import load_potential
from crystallm.energy.potentials.orbits import SymmetricCrystal, with_symmetry, without_symmetry
from crystallm.energy.potentials.protocol import Evaluation, NoEnergy

pytestmark = pytest.mark.skipif(importlib.util.find_spec("chgnet") is None, reason="chgnet is not installed")

EV_PER_GPA_A3 = 1 / 160.21766208

RUTILE = Description((("Ti", 1), ("O", 2)), 2, 136, (4.60, 4.60, 2.98, 90, 90, 90), (Site("Ti", "a", ()), Site("O", "f", (0.31,))))  # noqa: E501  # fmt: skip
QUARTZ = Description((("Si", 1), ("O", 2)), 3, 154, (5.0, 5.0, 5.5, 90, 90, 120), (Site("Si", "a", (0.47,)), Site("O", "c", (0.41, 0.27, 0.12))))  # noqa: E501  # fmt: skip
SPINEL = Description((("Mg", 1), ("Al", 2), ("O", 4)), 2, 227, (8.2, 8.2, 8.2, 90, 90, 90), (Site("Mg", "a", ()), Site("Al", "d", ()), Site("O", "e", (0.265,))))  # noqa: E501  # fmt: skip
ARGON = Description((("Ar", 1),), 1, 225, (5.3, 5.3, 5.3, 90, 90, 90), (Site("Ar", "a", ()),))
BADDELEYITE = Description((("Zr", 1), ("O", 2)), 4, 14, (5.2, 5.2, 5.35, 90, 99.2, 90), (Site("Zr", "e", (0.275, 0.04, 0.208)), Site("O", "e", (0.07, 0.34, 0.345)), Site("O", "e", (0.45, 0.757, 0.479))))  # noqa: E501  # fmt: skip
CRYSTALS = {"rutile": RUTILE, "quartz": QUARTZ, "spinel": SPINEL, "argon": ARGON, "baddeleyite": BADDELEYITE}


@pytest.fixture(scope="module")
def reference():  # type: ignore[no-untyped-def]
    from chgnet.model import CHGNet

    return CHGNet.load(use_device="cpu", verbose=False)


@pytest.mark.parametrize("name", CRYSTALS)
def test_energies_forces_and_stress_are_those_of_chgnet(reference, name: str) -> None:  # type: ignore[no-untyped-def]
    cell = expand(CRYSTALS[name])
    potential = load_potential("chgnet")
    expected = reference.predict_structure(cell.to_structure(), task="efs")
    found = potential.evaluate(cell)
    assert isinstance(found, Evaluation)
    assert found.energy == pytest.approx(float(expected["e"]), abs=2e-5)
    assert found.forces == pytest.approx(expected["f"], abs=2e-4)
    assert found.stress == pytest.approx(expected["s"] * EV_PER_GPA_A3, abs=2e-5)
    assert potential.energies([cell]) == pytest.approx([found.energy], abs=1e-6)


@pytest.mark.parametrize("name", CRYSTALS)
def test_orbits_give_what_all_atoms_give(name: str) -> None:
    potential = load_potential("chgnet")
    crystal = with_symmetry(CRYSTALS[name])
    every = potential.evaluate(expand(CRYSTALS[name]))
    (found,) = potential.derivatives([crystal])  # type: ignore[attr-defined]
    assert isinstance(every, Evaluation)
    assert found.energy / len(crystal.numbers) == pytest.approx(every.energy, abs=5e-6)
    assert found.forces(crystal) == pytest.approx(every.forces, abs=1e-4)
    assert found.strain / crystal.cell.volume == pytest.approx(every.stress, abs=1e-5)


def test_a_batch_gives_what_each_gives() -> None:
    potential = load_potential("chgnet")
    cells = [expand(crystal) for crystal in CRYSTALS.values()]
    alone = [potential.energies([cell])[0] for cell in cells]
    assert potential.energies(cells) == pytest.approx(alone, abs=1e-6)


def test_forces_and_stress_are_slopes_of_the_energy() -> None:
    potential = load_potential("chgnet")
    crystal = with_symmetry(QUARTZ)
    (found,) = potential.derivatives([crystal])  # type: ignore[attr-defined]

    def energy(changed: SymmetricCrystal) -> float:
        (value,) = potential.derivatives([changed])  # type: ignore[attr-defined]
        return float(value.energy)

    firsts, step = crystal.positions[crystal.first], 1e-3
    for axis in range(3):  # the oxygen in general position
        ahead, back = firsts.copy(), firsts.copy()
        ahead[1, axis] += step
        back[1, axis] -= step
        rise = energy(crystal.moved(crystal.lattice, ahead)) - energy(crystal.moved(crystal.lattice, back))
        assert rise / (2 * step) == pytest.approx(found.firsts[1, axis], rel=0.02, abs=0.05)
    strained = [energy(crystal.moved(crystal.lattice * (1 + s), firsts)) for s in (step, -step)]
    assert (strained[0] - strained[1]) / (2 * step) == pytest.approx(np.trace(found.strain), rel=0.02)


def changed(cell: Cell, **fields: object) -> Cell:
    return Cell(**({"lattice": cell.lattice, "positions": cell.positions, "numbers": cell.numbers} | fields))  # type: ignore[arg-type]


def test_what_cannot_be_judged_has_a_reason_and_no_number() -> None:
    potential = load_potential("chgnet")
    cell = expand(RUTILE)
    close, broken = cell.positions.copy(), cell.positions.copy()
    close[0] = close[1] + 0.05
    broken[0, 0] = np.nan
    bad = {
        "atoms too close": changed(cell, positions=close),
        "not finite": changed(cell, positions=broken),
        "element unknown to the potential": changed(cell, numbers=np.where(cell.numbers == 22, 84, cell.numbers)),
        "isolated atoms": changed(cell, lattice=4 * cell.lattice),
        "no volume": changed(cell, lattice=0 * cell.lattice),
        "no atoms": Cell(cell.lattice, np.zeros((0, 3)), np.zeros(0, dtype=np.int64)),
    }
    found = potential.energies([*bad.values(), cell])
    assert [none.reason for none in found[:-1] if isinstance(none, NoEnergy)] == list(bad)
    assert isinstance(found[-1], float)
    for cell in bad.values():
        assert isinstance(potential.evaluate(cell), NoEnergy)


def test_every_atom_of_a_cell_may_be_an_orbit() -> None:
    crystal = without_symmetry(expand(RUTILE))
    assert crystal.multiplicities.tolist() == [1] * 6
    assert with_symmetry(RUTILE).multiplicities.tolist() == [2, 4]
