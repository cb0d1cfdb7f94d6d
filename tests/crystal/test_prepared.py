"""Matching of prepared crystals gives the verdicts and rms of pymatgen's matcher on the same structures."""

import itertools

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crystallm.crystal.cell import Cell
from crystallm.crystal.matching.displacement import rms_of, rms_of_many
from crystallm.crystal.matching.matcher import matcher, rms_distance
from crystallm.crystal.matching.reduced_cells import niggli_lattice
from crystallm.crystal.matching.reduced_crystal import as_pymatgen_reads, cannot_match, prepare
from crystallm.crystal.matching.tolerances import STANDARD, STRICT, Tolerances

ROCK_SALT = Structure.from_spacegroup(225, Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
CSCL_TYPE = Structure(Lattice.cubic(3.4), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
WURTZITE_TYPE = Structure.from_spacegroup(
    186, Lattice.hexagonal(4.1, 6.6), ["Na", "Cl"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.385]]
)
RUTILE = Structure.from_spacegroup(136, Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]])
ANATASE = Structure.from_spacegroup(141, Lattice.tetragonal(3.784, 9.515), ["Ti", "O"], [[0, 0, 0], [0, 0, 0.208]])
MONOCLINIC = Structure.from_spacegroup(
    14,
    Lattice.monoclinic(5.1, 5.2, 5.3, 99.2),
    ["Zr", "O", "O"],
    [[0.28, 0.04, 0.21], [0.07, 0.33, 0.34], [0.45, 0.76, 0.48]],
)


def rattled(structure: Structure, size: float, seed: int) -> Structure:
    """Sites moved at random by up to `size` angstrom along each axis, the cell sheared by a tenth of that part."""
    rng = np.random.default_rng(seed)
    strain = np.eye(3) + rng.uniform(-size / 10, size / 10, (3, 3))
    cartesian = structure.cart_coords + rng.uniform(-size, size, (len(structure), 3))
    positions = structure.lattice.get_fractional_coords(cartesian)
    return Structure(structure.lattice.matrix @ strain, structure.species, positions)


def crystals() -> list[Structure]:
    bases = [ROCK_SALT, CSCL_TYPE, WURTZITE_TYPE, RUTILE, ANATASE, MONOCLINIC, RUTILE * [1, 1, 2]]
    bases += [ROCK_SALT.get_primitive_structure(), CSCL_TYPE * [2, 1, 1]]
    return bases + [rattled(base, size, seed) for seed, base in enumerate(bases) for size in (0.05, 0.3, 0.8)]


@pytest.mark.parametrize("tolerances", [STANDARD, STRICT], ids=["standard", "strict"])
def test_verdict_and_rms_are_those_of_pymatgen(tolerances: Tolerances) -> None:
    """Pre-filters and shared reductions change no verdict, whatever the cells."""
    cells = [Cell.from_structure(structure) for structure in crystals()]
    structures = [as_pymatgen_reads(cell).to_structure() for cell in cells]
    prepared = [prepare(cell) for cell in cells]
    by = matcher(tolerances)
    verdicts = []
    for i, j in itertools.product(range(len(cells)), repeat=2):
        if (i + j) % 3:
            continue
        plain = rms_distance(structures[i], structures[j], by=by)
        if cannot_match(cells[i], prepared[j]) is not None:
            assert plain is None, (i, j)
            continue
        ours = rms_of(prepared[i], prepared[j], tolerances)
        assert ours == (None if plain is None else pytest.approx(plain, abs=1e-6)), (i, j)
        verdicts.append(plain is not None)
    assert 20 < sum(verdicts) < len(verdicts) - 20  # both verdicts are met often


def test_many_at_once_are_judged_as_each_alone() -> None:
    """Batches, several tolerances and crystals of other formulas among them change nothing."""
    prepared = [prepare(Cell.from_structure(structure)) for structure in crystals()]
    for truth in prepared[:7]:
        together = rms_of_many(prepared, truth, [STANDARD, STRICT])
        for crystal, found in zip(prepared, together, strict=True):
            alone = [rms_of(crystal, truth, tolerances) for tolerances in (STANDARD, STRICT)]
            assert found == [None if value is None else pytest.approx(value, abs=1e-12) for value in alone]


def test_niggli_cells_are_those_of_pymatgen() -> None:
    """The same vectors, not only the same shape: cells skewed at random, and cells of high symmetry."""
    rng = np.random.default_rng(0)
    lattices = [structure.lattice.matrix for structure in crystals()]
    lattices += [Lattice.hexagonal(3, 5).matrix, Lattice.rhombohedral(4, 55).matrix, Lattice.cubic(4).matrix]
    lattices += [np.triu(rng.integers(-2, 3, (3, 3)), 1).astype(float) @ m + m for m in list(lattices)]
    for matrix in lattices:
        assert niggli_lattice(matrix) == pytest.approx(Lattice(matrix).get_niggli_reduced_lattice().matrix, abs=1e-9)


def test_a_crystal_is_reduced_to_the_primitive_cell_of_the_matcher() -> None:
    for structure in crystals():
        reduced = matcher()._get_reduced_structure(structure)
        found = prepare(Cell.from_structure(structure))
        assert len(found) == len(reduced)
        assert found.lattice.volume == pytest.approx(reduced.volume)


def test_what_cannot_match_is_told_apart() -> None:
    rock_salt = prepare(Cell.from_structure(ROCK_SALT))
    assert len(rock_salt) == 2
    assert cannot_match(Cell.from_structure(CSCL_TYPE), rock_salt) is None
    assert cannot_match(Cell.from_structure(RUTILE), rock_salt) == "another formula"
    double = Structure(
        Lattice.from_parameters(4, 5, 6, 80, 85, 95), ["Na"] * 3 + ["Cl"] * 3, np.random.default_rng(0).random((6, 3))
    )
    assert cannot_match(Cell.from_structure(double), prepare(Cell.from_structure(double))) is None
    # Six atoms are no multiple of four, so no smaller cell of theirs can have four.
    wurtzite = prepare(Cell.from_structure(WURTZITE_TYPE))
    assert len(wurtzite) == 4
    assert cannot_match(Cell.from_structure(double), wurtzite) == "no match"
    assert rms_of(prepare(Cell.from_structure(double)), wurtzite, STANDARD) is None
