"""What fits into the Wyckoff positions of a group, by hand from the International Tables."""

import pytest

from crystallm.sample import cover
from crystallm.sample.cover import can_cover, fillable, groups_that_hold, sizes, supply, without


def test_rutile_positions_of_136() -> None:
    # P4_2/mnm: 2a and 2b fixed, 4c and 4d fixed, 4e 4f 4g with a free coordinate, up to 16k.
    found = sizes(136)
    assert found["a"] == (2, False)
    assert found["d"] == (4, False)
    assert found["f"] == (4, True)
    assert found["k"] == (16, True)


def test_centred_group_counts_primitive_cells() -> None:
    assert sizes(225)["a"] == (1, False)  # 4a of Fm-3m
    assert sizes(225)["c"] == (2, False)  # 8c


@pytest.mark.parametrize(
    ("group", "counts", "possible"),
    [
        (225, (1, 1), True),  # NaCl: a and b
        (225, (1, 1, 1), False),  # three elements for two single positions
        (225, (1, 2), True),  # fluorite: a and c
        (136, (1, 2), False),  # TiO2, Z = 1: no position holds one atom
        (136, (2, 4), True),  # rutile: a and f
        (136, (2, 2), True),  # a and b
        (136, (2, 2, 2), False),  # a, b, and nothing left
        (221, (1, 1, 3), True),  # perovskite: a, b, c
        (221, (1, 1, 1), False),
        (1, (1, 1, 1), True),  # P1 holds everything
        (2, (9, 1, 1), True),  # the nine take one centre and four pairs
    ],
)
def test_can_cover(group: int, counts: tuple[int, ...], possible: bool) -> None:
    assert can_cover(counts, supply(group)) is possible


def test_fixed_positions_are_used_once() -> None:
    # P-1 has eight fixed positions of one atom: eight odd counts fit, nine do not.
    assert can_cover((1,) * 8, supply(2))
    assert not can_cover((1,) * 9, supply(2))
    assert not can_cover((1,) * 8, without(supply(2), 1))


def test_order_of_counts_does_not_matter() -> None:
    assert groups_that_hold((2, 4)) == groups_that_hold((4, 2))


def test_groups_for_one_atom_are_those_with_a_single_position() -> None:
    found = groups_that_hold((1,))
    assert {1, 2, 225, 229} <= set(found)
    assert not {14, 62, 227} & set(found)  # screw axes or glides in each: no position of one atom


def test_fillable() -> None:
    assert fillable((4, 6), 10)
    assert not fillable((4, 6), 7)
    assert fillable((), 0)


def test_what_is_kept_of_compositions_is_bounded() -> None:
    """There is no end of compositions; space groups are 230."""
    unbounded = {
        name for name, kept in vars(cover).items() if hasattr(kept, "cache_info") and kept.cache_info().maxsize is None
    }
    assert unbounded == {"space_group", "supply", "sizes", "_alike"}


def test_groups_that_share_their_positions_are_found_together() -> None:
    for counts in ((1,), (4, 2), (3, 1, 1), (12, 8, 4), (5, 7)):
        alone = [number for number in range(1, 231) if cover.can_cover(counts, cover.supply(number))]
        assert list(cover.groups_that_hold(counts)) == alone
