"""Canonical and augmented descriptions of crystals one can check by hand, and of a crystal of every space group."""

import numpy as np
import pytest
from pymatgen.core import Structure

from crystallm.crystal.cell import Cell, Reason, Rejection
from crystallm.crystal.description import Description, augment, canonical, describe, expand, first_atoms
from crystallm.crystal.matching.matcher import rms_distance
from crystallm.crystal.symmetry import space_group_number, standardize_number
from crystallm.crystal.wyckoff import space_group
from crystallm.tokenizer.layout import get_layout

LAYOUT = get_layout()

ASYMMETRIC_UNITS = {
    "rock salt": "Na a, Cl b",
    "caesium chloride": "Cs a, Cl b",
    "diamond": "C a",
    "spinel": "Mg a, Al d, O e 0.2624",
    "pyrite": "Fe a, S c 0.386",
    "perovskite": "Ba a, Ti b, O c",
    "rutile": "Ti a, O f 0.3053",
    "wurtzite": "Zn b 0, S b 0.371",
    "magnesium": "Mg c",
    "corundum": "Al c 0.1478, O e 0.3063",  # 1/2 - 0.3522 is the smaller choice
    "arsenic": "As c 0.226",
    "quartz": "Si a 0.465, O c 0.143 0.728 0.5466",
    "mirrored quartz": "Si a 0.465, O c 0.143 0.728 0.4534",
    "baddeleyite": "Zr e 0.225 0.04 0.292, O e 0.05 0.743 0.521, O e 0.43 0.168 0.655",
}
PRIMITIVE_FORMULA_UNITS = {
    "rock salt": 1,
    "diamond": 2,
    "spinel": 2,
    "pyrite": 4,
    "rutile": 2,
    "corundum": 2,
    "arsenic": 2,
    "quartz": 3,
    "baddeleyite": 4,
    "kyanite": 4,
}


@pytest.fixture(scope="module")
def descriptions(cells: dict[str, Cell]) -> dict[str, Description]:
    found = {name: describe(cell) for name, cell in cells.items()}
    assert not [name for name, description in found.items() if isinstance(description, Rejection)]
    return {name: description for name, description in found.items() if isinstance(description, Description)}


def asymmetric_unit(description: Description) -> str:
    return ", ".join(
        " ".join([site.element, site.letter, *(f"{value:.4g}" for value in site.free)]) for site in description.sites
    )


def text(cell: Cell) -> str:
    found = describe(cell)
    return str(found) if isinstance(found, Rejection) else LAYOUT.write(found)


def test_asymmetric_units(descriptions: dict[str, Description]) -> None:
    assert {name: asymmetric_unit(descriptions[name]) for name in ASYMMETRIC_UNITS} == ASYMMETRIC_UNITS


def test_formula_units_of_the_primitive_cell(descriptions: dict[str, Description]) -> None:
    assert {name: descriptions[name].formula_units for name in PRIMITIVE_FORMULA_UNITS} == PRIMITIVE_FORMULA_UNITS
    assert descriptions["spinel"].amounts == (("Mg", 1), ("Al", 2), ("O", 4))
    assert descriptions["spinel"].n_sites == 14


def test_round_trip_through_text(crystals: dict[str, Structure], descriptions: dict[str, Description]) -> None:
    for name, description in descriptions.items():
        back = LAYOUT.read(LAYOUT.write(description))
        assert isinstance(back, Description), name
        structure = expand(back).to_structure()
        assert structure.composition == crystals[name].composition, name
        assert structure.volume == pytest.approx(crystals[name].volume, rel=2e-4), name
        rms = rms_distance(structure, crystals[name])
        assert rms is not None, name
        assert rms < 2e-4, name


def test_first_atoms_begin_the_sites(descriptions: dict[str, Description]) -> None:
    assert first_atoms(descriptions["rutile"]) == [0, 2]
    for description in descriptions.values():
        symbols = expand(description).numbers
        assert first_atoms(description)[0] == 0
        assert len({int(symbols[place]) for place in first_atoms(description)}) == len(set(symbols.tolist()))


def random_basis(rng: np.random.Generator) -> np.ndarray:
    """A unimodular matrix: another basis of the same lattice, right-handed."""
    basis = np.eye(3, dtype=int)[rng.permutation(3)]
    for _ in range(4):
        row, other = rng.permutation(3)[:2]
        basis[row] += rng.integers(-1, 2) * basis[other]
    return basis if np.linalg.det(basis) > 0 else -basis


def changed(cell: Cell, basis: np.ndarray, rng: np.random.Generator) -> Cell:
    """The same crystal in another basis, with another origin, rotated, its atoms in another order."""
    positions = cell.positions @ np.linalg.inv(basis) + rng.random(3)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation))
    order = rng.permutation(len(cell))
    return Cell(basis @ cell.lattice @ rotation, positions[order], cell.numbers[order])


@pytest.mark.parametrize("seed", range(6))
def test_text_does_not_depend_on_the_cell_a_crystal_comes_in(cells: dict[str, Cell], seed: int) -> None:
    rng = np.random.default_rng(seed)
    for name, cell in cells.items():
        assert text(changed(cell, random_basis(rng), rng)) == text(cell), name


def test_text_of_primitive_cells_and_supercells(crystals: dict[str, Structure], cells: dict[str, Cell]) -> None:
    for name in ("rock salt", "spinel", "rutile", "wurtzite", "quartz", "baddeleyite", "kyanite"):
        primitive = crystals[name].get_primitive_structure()
        supercell = crystals[name] * [[2, 1, 0], [0, 1, 0], [0, 0, 2]]
        assert text(Cell.from_structure(primitive)) == text(cells[name]), name
        assert text(Cell.from_structure(supercell)) == text(cells[name]), name


def test_handedness_is_kept(crystals: dict[str, Structure], descriptions: dict[str, Description]) -> None:
    left, right = descriptions["quartz"], descriptions["mirrored quartz"]
    assert (left.space_group, right.space_group) == (154, 152)
    rng = np.random.default_rng(0)
    for _ in range(5):
        assert augment(left, rng).space_group == 154
        assert space_group_number(expand(augment(right, rng))) == 152


def test_a_distorted_crystal_is_described_with_the_symmetry_it_nearly_has(cells: dict[str, Cell]) -> None:
    cell, rng = cells["perovskite"], np.random.default_rng(0)
    noisy = Cell(cell.lattice, cell.positions + rng.normal(scale=0.002, size=(5, 3)), cell.numbers)
    description = describe(noisy)
    assert isinstance(description, Description)
    assert description.space_group == 221
    assert asymmetric_unit(description) == "Ba a, Ti b, O c"


def test_atoms_on_top_of_each_other_are_refused() -> None:
    refused = describe(Cell(5 * np.eye(3), np.array([[0, 0, 0], [0, 0, 0.001]]), np.array([11, 11])))
    assert isinstance(refused, Rejection)
    assert refused.reason is Reason.SYMMETRY_FAILED


def test_augmented_descriptions_are_the_same_crystal(descriptions: dict[str, Description]) -> None:
    rng = np.random.default_rng(1)
    for name, description in descriptions.items():
        drawn = [augment(description, rng) for _ in range(8)]
        assert {LAYOUT.write(canonical(other)) for other in drawn} == {LAYOUT.write(description)}, name
        rms = rms_distance(expand(drawn[0]).to_structure(), expand(description).to_structure())
        assert rms is not None, name
        assert rms < 1e-6, name


def test_augmented_descriptions_differ(descriptions: dict[str, Description]) -> None:
    def texts(name: str) -> set[str]:
        rng = np.random.default_rng(2)
        return {asymmetric_unit(augment(descriptions[name], rng)) for _ in range(60)}

    assert texts("rock salt") == {"Na a, Cl b", "Na b, Cl a"}
    # Rutile: Ti at a or b; O at f or g, each point of the orbit may be named.
    assert {unit.split(" ")[1] for unit in texts("rutile")} == {"a,", "b,"}
    assert {"Ti a, O f 0.3053", "Ti a, O f 0.6947", "Ti b, O f 0.1947"} < texts("rutile")
    assert len(texts("baddeleyite")) > 50


def test_augmentation_is_repeatable(descriptions: dict[str, Description]) -> None:
    first, second = (augment(descriptions["kyanite"], np.random.default_rng(3)) for _ in range(2))
    assert first == second


def test_every_space_group(random_descriptions: dict[int, Description]) -> None:
    """From a drawn crystal to text and back: both finders name the group, and the text is the canonical one."""
    for number, drawn in random_descriptions.items():
        back = LAYOUT.read(LAYOUT.write(drawn))
        assert isinstance(back, Description), (number, back)
        assert back.sites == drawn.sites, number
        cell = expand(back)
        assert len(cell) == drawn.n_sites * space_group(number).centring_order
        assert space_group_number(cell) == number
        assert standardize_number(cell) == number
        if number > 2:  # a triclinic cell drawn at random is not the reduced one
            assert text(cell) == LAYOUT.write(canonical(back)), number


def test_every_space_group_augmented(random_descriptions: dict[int, Description]) -> None:
    rng = np.random.default_rng(4)
    for number, drawn in random_descriptions.items():
        other = augment(drawn, rng)
        assert sum(space_group(number).positions[site.letter].multiplicity for site in other.sites) == len(
            expand(drawn)
        )
        assert LAYOUT.write(canonical(other)) == LAYOUT.write(canonical(drawn)), number
        assert standardize_number(expand(other)) == number


def test_triclinic_cells_are_reduced(random_descriptions: dict[int, Description]) -> None:
    for number in (1, 2):
        reduced = text(expand(random_descriptions[number]))
        back = LAYOUT.read(reduced)
        assert isinstance(back, Description)
        assert text(expand(back)) == reduced
