from dataclasses import replace

from crystallm.data.preparing import leakage as compare
from crystallm.data.preparing.convert import Traits
from crystallm.data.preparing.leakage import close_numbers, duplicate_candidates, leakage_candidates, same_text

RUTILE = Traits("TiO2", 136, 6, "136 2 Tia Of", (4.5937, 4.5937, 2.9587, 90.0, 90.0, 90.0, 0.3053), 10.4)
ANATASE = Traits("TiO2", 141, 6, "141 2 Tia Oe", (3.78, 3.78, 9.51, 90.0, 90.0, 90.0, 0.208), 11.3)


def test_close_numbers() -> None:
    a = (4.0, 4.0, 4.0, 90.0, 90.0, 90.0)
    assert close_numbers(a, (4.07, 4.0, 4.0, 90.5, 90.0, 90.0))
    assert not close_numbers(a, (4.1, 4.0, 4.0, 90.0, 90.0, 90.0))
    assert not close_numbers(a, (4.0, 4.0, 4.0, 91.5, 90.0, 90.0))
    assert not close_numbers(a, (*a, 0.5))


def test_coordinates_are_compared_in_angstrom_around_the_cell() -> None:
    cell = (4.0, 4.0, 10.0, 90.0, 90.0, 90.0)
    assert close_numbers((*cell, 0.995), (*cell, 0.01))  # 0.015 of at most 10 angstrom
    assert not close_numbers((*cell, 0.30), (*cell, 0.33))


def test_same_text_keeps_the_first() -> None:
    stretched = replace(RUTILE, numbers=(4.60, 4.60, 2.95, 90.0, 90.0, 90.0, 0.306))
    other_metal = replace(RUTILE, reduced_formula="SnO2")
    assert same_text([RUTILE, ANATASE, stretched, other_metal], range(4)) == {2: 0}
    assert same_text([RUTILE, stretched], [1]) == {}


def test_the_matcher_is_asked_within_formula_group_size_and_volume() -> None:
    moved = replace(RUTILE, skeleton="136 2 Tib Of")
    swollen = replace(RUTILE, volume_per_atom=12.0)
    candidates, too_large = duplicate_candidates([RUTILE, ANATASE, moved, swollen], range(4))
    assert candidates == {2: [0]}
    assert too_large == 0


def test_large_buckets_are_left_to_the_text() -> None:
    crowd = [RUTILE] * (compare.MAX_MATCHER_BUCKET + 1)
    assert duplicate_candidates(crowd, range(len(crowd))) == ({}, 1)


def test_leakage_asks_all_structures_of_the_formula_closest_volume_first() -> None:
    near, far = replace(RUTILE, volume_per_atom=10.5), replace(RUTILE, volume_per_atom=20.0)
    other = replace(RUTILE, reduced_formula="SnO2")
    assert leakage_candidates([RUTILE, other], range(2), [far, near], range(2)) == {0: [1, 0]}
