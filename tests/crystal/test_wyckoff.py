"""The table of Wyckoff positions and the operations it stands on."""

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import moyopy
import numpy as np
import pytest
import spglib
from numpy.typing import NDArray

from crystallm.crystal.cell import Cell, lattice_from_parameters
from crystallm.crystal.wyckoff import ALPHABET, affine_expression, space_group
from studies.tables.build_wyckoff import METRICS, positions_of_group, required_letters

GENERIC = np.array([0.1327, 0.2719, 0.3941])
ALL = range(1, 231)


def distinct(points: NDArray[np.float64]) -> set[tuple[int, ...]]:
    """The points of a cell as whole numbers, equal ones once."""
    return {tuple(point) for point in np.rint(points * 1e5).astype(int) % 100_000}


def test_there_are_1731_positions() -> None:
    assert sum(len(space_group(number).positions) for number in ALL) == 1731
    assert max(len(space_group(number).positions) for number in ALL) == len(space_group(47).positions) == 27


def test_letters_have_no_gap_and_the_last_is_the_general_position() -> None:
    for number in ALL:
        group = space_group(number)
        assert "".join(group.positions) == ALPHABET[: len(group.positions)]
        general = list(group.positions.values())[-1]
        assert (general.multiplicity, general.n_free) == (len(group.rotations), 3)


def test_multiplicity_counts_the_distinct_images() -> None:
    for number in ALL:
        group = space_group(number)
        for position in group.positions.values():
            point = position.point(GENERIC[: position.n_free])
            orbit = distinct(group.rotations @ point + group.translations)
            rotations, translations = group.orbit_maps(position.letter)
            assert len(orbit) == len(rotations) == position.multiplicity, (number, position.letter)
            assert distinct(rotations @ point + translations) == orbit, (number, position.letter)


def test_free_coordinates_come_back_from_the_point() -> None:
    for number in ALL:
        for position in space_group(number).positions.values():
            free = GENERIC[: position.n_free]
            assert position.inverse @ (position.point(free) - position.offset) == pytest.approx(free)


@pytest.mark.parametrize(
    ("number", "letter", "multiplicity", "n_free"),
    [  # International Tables A
        *((1, "a", 1, 3), (2, "i", 2, 3), (14, "a", 2, 0), (14, "e", 4, 3), (47, "A", 8, 3), (62, "c", 4, 2)),
        *((136, "a", 2, 0), (136, "f", 4, 1), (166, "c", 6, 1), (167, "e", 18, 1), (186, "b", 2, 1)),
        *(
            (194, "c", 2, 0),
            (194, "f", 4, 1),
            (225, "a", 4, 0),
            (225, "l", 192, 3),
            (227, "e", 32, 1),
            (230, "h", 96, 3),
        ),
    ],
)
def test_positions_of_international_tables(number: int, letter: str, multiplicity: int, n_free: int) -> None:
    position = space_group(number).positions[letter]
    assert (position.multiplicity, position.n_free) == (multiplicity, n_free)


def test_representatives_of_international_tables() -> None:
    assert space_group(136).positions["f"].coordinates.replace(" ", "") == "x,x,0"
    assert space_group(227).positions["a"].offset == pytest.approx([0.125] * 3)  # origin choice 2
    assert space_group(194).positions["c"].offset == pytest.approx([1 / 3, 2 / 3, 1 / 4])


def test_centring() -> None:
    orders = {1: 1, 5: 2, 22: 4, 71: 2, 136: 1, 148: 3, 146: 3, 225: 4, 229: 2, 230: 2}
    assert {number: space_group(number).centring_order for number in orders} == orders


def test_handedness() -> None:
    # There are 65 groups without reflection, rotoinversion or inversion.
    assert sum(space_group(number).is_sohncke for number in ALL) == 65
    assert space_group(152).is_sohncke
    assert not space_group(136).is_sohncke


def test_polar_axes() -> None:
    axes = {1: (0, 1, 2), 2: (), 4: (1,), 6: (0, 2), 33: (2,), 136: (), 160: (2,), 186: (2,), 225: ()}
    assert {number: space_group(number).polar_axes for number in axes} == axes


def test_normalizer_maps_orbits_onto_orbits() -> None:
    for number in ALL:
        group = space_group(number)
        orbit = group.rotations @ GENERIC + group.translations
        for rotation, translation in group.normalizer:
            moved = orbit @ rotation.T + translation
            assert distinct(group.rotations @ moved[0] + group.translations) == distinct(moved), number


@pytest.mark.parametrize(
    ("number", "order"),
    # Index of the group in its Euclidean normalizer, handedness kept and polar axes left out. P-1 and P222: 8 origins;
    # Pm-3m and Fd-3m: 1/2 1/2 1/2; P4_2/mnm: 1/2 1/2 0, 0 0 1/2 and both; R-3c: 0 0 1/2.
    [(1, 1), (2, 8), (221, 2), (227, 2), (136, 4), (167, 2), (16, 8)],
)
def test_order_of_the_normalizer(number: int, order: int) -> None:
    maps = space_group(number).normalizer
    assert len(maps) == order
    assert (maps[0][0] == np.eye(3)).all()
    assert not maps[0][1].any()


@pytest.mark.parametrize("number", [1, 2, 6, 19, 31, 76, 92, 143, 152, 169])
def test_table_is_what_the_builder_makes(number: int) -> None:
    table = json.loads(files("crystallm.crystal").joinpath("wyckoff_positions.json").read_text())
    assert {letter: list(found) for letter, found in positions_of_group(number).items()} == table[str(number)]


@pytest.mark.parametrize("number", [2, 12, 15, 16, 63, 99, 139, 166, 194, 216, 222, 225, 227])
def test_required_letters_are_what_the_builder_finds(number: int) -> None:
    table = json.loads(files("crystallm.crystal").joinpath("required_letters.json").read_text())
    assert required_letters(space_group(number)) == table[str(number)]


def test_required_letters_of_well_known_groups() -> None:
    assert space_group(222).required == (frozenset("i"),)  # the general position of Pn-3n: all others are as in Im-3m
    assert space_group(221).required == ()
    # Zinc blende, F-43m: two neighbours of a, b, c, d. With a and b it is rock salt, and so it is with c and d.
    assert {"".join(sorted(letters & set("abcd"))) for letters in space_group(216).required} == {"ab", "cd"}


def crystal_of(number: int, letters: Sequence[str], random: np.random.Generator) -> Cell:
    """Each letter by an element of its own, at random coordinates."""
    group = space_group(number)
    kind = moyopy.SpaceGroupType(number).crystal_system
    points, numbers = [], []
    for place, letter in enumerate(letters):
        position = group.positions[letter]
        rotations, translations = group.orbit_maps(letter)
        images = rotations @ position.point(random.uniform(0.05, 0.45, position.n_free)) + translations
        points.append(images)
        numbers += [place + 1] * len(images)
    lattice = 3 * lattice_from_parameters(METRICS[kind])
    return Cell(lattice, np.concatenate(points) % 1, np.array(numbers))


@pytest.mark.parametrize("number", [n for n in ALL if space_group(n).required])
def test_without_required_letters_symmetry_is_higher(number: int) -> None:
    random, group = np.random.default_rng(number), space_group(number)
    for required in group.required:
        others = [letter for letter in group.positions if letter not in required]
        found = spglib.get_symmetry_dataset(as_spglib(crystal_of(number, others, random)), symprec=1e-4)
        more = len(found.rotations) > len(group.rotations)
        assert more, (required, found.number)


@pytest.mark.parametrize("number", [n for n in ALL if not space_group(n).polar_axes])
def test_with_required_letters_it_is_that_of_the_group(number: int) -> None:
    random, group = np.random.default_rng(number), space_group(number)
    letters = list(group.positions)[:-1] or list(group.positions)
    for _ in range(3):
        chosen = [str(letter) for letter in random.choice(letters, min(len(letters), 3), replace=False)]
        for required in group.required:
            if not required & set(chosen):
                chosen.append(min(required))
        found = spglib.get_symmetry_dataset(as_spglib(crystal_of(number, chosen, random)), symprec=1e-4)
        assert found.number == number, chosen


def as_spglib(cell: Cell) -> Any:
    return cell.lattice, cell.positions, cell.numbers


def test_expression() -> None:
    matrix, offset = affine_expression("x, -x+1/2, 2y - z + 1/4")
    assert matrix.tolist() == [[1, 0, 0], [-1, 0, 0], [0, 2, -1]]
    assert offset.tolist() == [0, 0.5, 0.25]
