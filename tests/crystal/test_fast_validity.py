"""The fast checks give the verdicts of the reference checks, on textbook crystals and on damaged ones."""

import random

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.core.local_env import CrystalNN
from pymatgen.core.molecule_structure_comparator import CovalentRadius
from pymatgen.io.cif import CifWriter
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from crystallm.crystal.cell import Cell
from crystallm.crystal.checks.fast_bonds import crystal_nn_bonds, judge_bonds
from crystallm.crystal.checks.fast_validity import FAST_CHECKS, check_cif_fast, density_of
from crystallm.crystal.checks.radii import COVALENT_RADII
from crystallm.crystal.checks.validity import CHECKS, NOT_STATED, CheckName, check_cif, check_structure

ROCK_SALT = Structure.from_spacegroup(225, Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
RUTILE = Structure.from_spacegroup(
    136, Lattice.tetragonal(4.5937, 2.9587), ["Ti", "O"], [[0, 0, 0], [0.3053] * 2 + [0]]
)
DIAMOND = Structure.from_spacegroup(227, Lattice.cubic(3.567), ["C"], [[0, 0, 0]])
CESIUM_CHLORIDE = Structure.from_spacegroup(221, Lattice.cubic(4.123), ["Cs", "Cl"], [[0, 0, 0], [0.5] * 3])
PEROVSKITE = Structure.from_spacegroup(
    221, Lattice.cubic(3.905), ["Sr", "Ti", "O"], [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0]]
)
IRON = Structure(Lattice.cubic(2.866), ["Fe", "Fe"], [[0, 0, 0], [0.5] * 3])
NAMED = {
    "rock salt": ROCK_SALT,
    "rutile": RUTILE,
    "diamond": DIAMOND,
    "CsCl": CESIUM_CHLORIDE,
    "perovskite": PEROVSKITE,
    "iron": IRON,
}


def symmetric_cif(structure: Structure) -> str:
    return str(CifWriter(structure, symprec=0.01))


def test_both_paths_have_the_same_checks() -> None:
    assert list(FAST_CHECKS) == list(CHECKS) == list(CheckName)


@pytest.mark.parametrize("name", NAMED)
def test_textbook_crystals_pass_every_check(name: str) -> None:
    fast, reference = (check(symmetric_cif(NAMED[name])) for check in (check_cif_fast, check_cif))
    assert fast.valid
    for check in CheckName:
        assert (fast[check].passed, fast[check].reason) == (reference[check].passed, reference[check].reason)
    for check in (CheckName.SPACE_GROUP, CheckName.DISTANCE, CheckName.DENSITY, CheckName.READABLE):
        assert fast[check].value == pytest.approx(reference[check].value, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "atom", "coordination", "length"),
    [
        ("rock salt", 0, 6, 2.82),
        ("diamond", 0, 4, 3.567 * np.sqrt(3) / 4),
        ("CsCl", 0, 8, 4.123 * np.sqrt(3) / 2),
        ("iron", 0, 8, 2.866 * np.sqrt(3) / 2),
        ("perovskite", 1, 6, 3.905 / 2),
    ],
)
def test_coordinations_are_the_textbook_ones(name: str, atom: int, coordination: int, length: float) -> None:
    found = crystal_nn_bonds(Cell.from_structure(NAMED[name]), atom)
    assert found is not None
    assert found[1].tolist() == pytest.approx([length] * coordination, abs=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_bonds_are_those_of_crystal_nn_in_disturbed_crystals() -> None:
    for seed, structure in enumerate([RUTILE, PEROVSKITE, ROCK_SALT]):
        disturbed = structure.copy()
        disturbed.perturb(0.25, seed=seed)
        cell = Cell.from_structure(disturbed)
        for atom in range(len(disturbed)):
            neighbours = CrystalNN().get_nn_info(disturbed, atom)
            ours = crystal_nn_bonds(cell, atom)
            assert ours is not None
            assert sorted(ours[0].tolist()) == sorted(int(n["site_index"]) for n in neighbours)


@pytest.mark.parametrize("factor", [0.65, 0.8, 1.2, 1.5, 2.5])
@pytest.mark.parametrize("name", NAMED)
def test_resized_crystals_get_the_verdict_of_the_reference(name: str, factor: float) -> None:
    resized = NAMED[name].copy()
    resized.scale_lattice(resized.volume * factor**3)
    fast = judge_bonds(Cell.from_structure(resized))
    reference = check_structure(resized, names=[CheckName.BOND_LENGTHS])[CheckName.BOND_LENGTHS]
    assert (fast.reason == "") == reference.passed
    assert fast.reason == reference.reason


def test_atoms_without_bonds_or_radius() -> None:
    def reason(element: str) -> tuple[bool, str]:
        text = str(CifWriter(Structure(Lattice.cubic(10), [element], [[0, 0, 0]])))
        check = check_cif_fast(text)[CheckName.BOND_LENGTHS]
        return check.passed, check.reason

    assert reason("He") == (True, "no bonds")
    assert reason("Na") == (False, "no bonds")
    assert reason("Lr") == (False, "no radius")


def test_a_single_atom_is_judged_by_its_own_images() -> None:
    primitive = IRON.get_primitive_structure()
    assert judge_bonds(Cell.from_structure(primitive)).reason == ""
    primitive.scale_lattice(primitive.volume * 0.5**3)
    assert judge_bonds(Cell.from_structure(primitive)).reason == "unreasonable bond"


def test_claims_are_judged_alike() -> None:
    listing = str(CifWriter(RUTILE))
    assert check_cif_fast(listing)[CheckName.SPACE_GROUP].reason == NOT_STATED
    strict = check_cif_fast(listing, p1_is_claim=True)[CheckName.SPACE_GROUP]
    assert (strict.reason, strict.value) == ("another space group", 136)
    wrong = symmetric_cif(RUTILE).replace("_chemical_formula_sum   'Ti2 O4'", "_chemical_formula_sum   'Ti2 O2'")
    assert check_cif_fast(wrong)[CheckName.FORMULA].reason == "formula line differs from the atoms"
    wrong = symmetric_cif(RUTILE).replace("  O  O1  4 ", "  O  O1  2 ")
    assert check_cif_fast(wrong)[CheckName.MULTIPLICITY].reason == "multiplicities differ from the atoms"
    large = symmetric_cif(RUTILE).replace("_cell_length_c   2.95870000", "_cell_length_c   29587")
    assert check_cif_fast(large)[CheckName.READABLE].reason == "bad cell"


def test_density_of_rock_salt() -> None:
    assert density_of(Cell.from_structure(ROCK_SALT)) == pytest.approx(2.16, abs=0.01)


def test_corrupted_cifs_never_raise_and_agree_with_the_reference() -> None:
    rng = random.Random(1)
    texts = [symmetric_cif(RUTILE), str(CifWriter(PEROVSKITE))]
    agree = 0
    names = [name for name in CheckName if name is not CheckName.BOND_LENGTHS]  # slow in the reference
    for _ in range(150):
        text = list(rng.choice(texts))
        start = rng.randrange(len(text))
        match rng.randrange(3):
            case 0:
                del text[start:]
            case 1:
                del text[start : start + rng.randrange(1, 60)]
            case 2:
                text[start] = rng.choice("0123456789.-eE()'\"_ \nxTiO?#;\0")
        fast, reference = check_cif_fast("".join(text)), check_cif("".join(text), names=names)
        agree += all(fast[name].passed == reference[name].passed for name in names)
    assert agree >= 0.97 * 150


@pytest.mark.parametrize("factor", [0.65, 0.8, 1.0, 1.2, 1.5, 2.5])
@pytest.mark.parametrize("name", NAMED)
def test_one_atom_of_each_orbit_is_enough(name: str, factor: float) -> None:
    resized = NAMED[name].copy()
    resized.scale_lattice(resized.volume * factor**3)
    orbits = SpacegroupAnalyzer(resized, symprec=1e-3).get_symmetry_dataset().equivalent_atoms
    cell = Cell.from_structure(resized)
    assert judge_bonds(cell, sorted(set(orbits.tolist()))).reason == judge_bonds(cell).reason


def test_covalent_radii_are_those_of_pymatgen() -> None:
    assert CovalentRadius.radius == COVALENT_RADII
