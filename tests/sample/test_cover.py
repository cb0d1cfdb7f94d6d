"""What fits into the Wyckoff positions of a group, by hand from the International Tables."""

import pytest

from crystallm.sample.grammar import wyckoff_cover as cover
from crystallm.sample.grammar.wyckoff_cover import (
    Position,
    all_left,
    can_cover,
    fillings,
    groups_that_hold,
    letters,
    need_of,
    positions,
    supply,
    without,
)


def test_rutile_positions_of_136() -> None:
    # P4_2/mnm: 2a and 2b fixed, 4c and 4d fixed, 4e 4f 4g with a free coordinate, up to 16k.
    found = positions(136)
    assert (found["a"].size, found["a"].is_free) == (2, False)
    assert (found["d"].size, found["d"].is_free) == (4, False)
    assert (found["f"].size, found["f"].is_free) == (4, True)
    assert (found["k"].size, found["k"].is_free) == (16, True)


def test_centred_group_counts_primitive_cells() -> None:
    assert positions(225)["a"].size == 1  # 4a of Fm-3m
    assert positions(225)["c"].size == 2  # 8c


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
    assert not can_cover((1,) * 8, without(supply(2), positions(2)["a"]))


def test_order_of_counts_does_not_matter() -> None:
    assert groups_that_hold((2, 4)) == groups_that_hold((4, 2))


def test_groups_for_one_atom_are_those_with_a_single_position() -> None:
    found = groups_that_hold((1,))
    assert {1, 2, 225, 229} <= set(found)
    assert not {14, 62, 227} & set(found)  # screw axes or glides in each: no position of one atom


def test_fillings() -> None:
    assert fillings(((4, 0), (6, 0)), 10) == {0}
    assert not fillings(((4, 0), (6, 0)), 7)
    assert fillings((), 0) == {0}
    assert fillings(((2, 0), (2, 1), (4, 2)), 4) == {0, 1, 2}
    assert fillings(((2, 1), (4, 2)), 6) == {1, 3}


def test_groups_whose_symmetry_a_composition_cannot_have_are_not_offered() -> None:
    # Pn-3n is Im-3m unless atoms are in general position, 48 of them; its small positions hold these counts, too.
    assert can_cover((2, 6), supply(222))
    assert not can_cover((2, 6), supply(222), need_of(222))
    assert can_cover((48, 2), supply(222), need_of(222))
    assert 222 not in groups_that_hold((2, 6))
    assert 222 in groups_that_hold((48, 2))


def test_letters_that_would_make_rock_salt_of_zinc_blende_are_not_offered() -> None:
    assert letters(216, all_left(216, (1, 1))) == ("a", "b", "c", "d")
    sulphur = all_left(216, (1, 1)).after("a", positions(216)["a"])
    assert sulphur.counts == (1,)
    assert letters(216, sulphur) == ("c", "d")  # on b it would make Fm-3m
    two = all_left(216, (1, 1, 1)).after("a", positions(216)["a"])
    assert letters(216, two) == ("b", "c", "d")  # half a Heusler compound


def holds(counts: tuple[int, ...], number: int) -> bool:
    """The same as `can_cover` with all needs by trying everything."""

    def place(left: tuple[int, ...], taken: frozenset[str], need: int, first: int) -> bool:
        if not left:
            return not need
        if not left[0]:
            return place(left[1:], taken, need, 0)
        options: list[tuple[str, Position]] = list(positions(number).items())
        return any(
            place(
                (left[0] - one.size, *left[1:]),
                taken | {letter} - ({letter} if one.is_free else set()),
                need & ~one.meets,
                k,
            )
            for k, (letter, one) in enumerate(options)
            if k >= first and one.size <= left[0] and letter not in taken
        )

    return place(counts, frozenset(), need_of(number), 0)


@pytest.mark.parametrize(
    "number", [2, 5, 12, 15, 16, 22, 99, 123, 139, 160, 166, 176, 186, 194, 205, 215, 216, 221, 225, 227]
)
def test_needs_by_trying_everything(number: int) -> None:
    for counts in [
        (1,),
        (2,),
        (4,),
        (6,),
        (1, 1),
        (2, 1),
        (3, 1),
        (2, 4),
        (4, 6),
        (8, 4),
        (1, 1, 3),
        (2, 2, 4),
        (1, 2, 4),
    ]:
        assert can_cover(counts, supply(number), need_of(number)) is holds(counts, number), counts


def test_what_is_kept_of_compositions_is_bounded() -> None:
    """There is no end of compositions; space groups are 230."""
    unbounded = {
        name for name, kept in vars(cover).items() if hasattr(kept, "cache_info") and kept.cache_info().maxsize is None
    }
    assert unbounded == {"space_group", "supply", "positions", "_kinds"}


def test_groups_that_share_their_positions_are_found_together() -> None:
    for counts in ((1,), (4, 2), (3, 1, 1), (12, 8, 4), (5, 7), (48, 2), (1, 1, 2, 7), (300, 4)):
        alone = [number for number in range(1, 231) if can_cover(counts, supply(number), need_of(number))]
        assert list(groups_that_hold(counts)) == alone


@pytest.mark.parametrize(("number", "step"), [(1, 1), (4, 2), (14, 2), (19, 4), (205, 4)])
def test_large_counts_are_decided_as_small_ones(number: int, step: int) -> None:
    """Every position of these groups has a multiple of so many atoms, and one with freedom or enough without has it."""
    for count in (cover.MOST - 1, cover.MOST, cover.MOST + 1, cover.MOST + 3, 2 * cover.MOST):
        assert can_cover((count, step), supply(number)) is (count % step == 0)
