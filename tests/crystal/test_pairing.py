"""Pairs of sites and what can be assigned, against trying everything."""

from itertools import permutations, product

import numpy as np
import pytest

from crystallm.crystal.matching.pairing import CLEAR, NO_WAY, OPEN, costs_of, near_pairs, nearest_partners, needed_stol

N_SITES = 4
STARTS, OTHERS = np.arange(0, N_SITES * N_SITES + 1, N_SITES), np.tile(np.arange(N_SITES), N_SITES)
"""All sites are of one element."""
MATRIX = np.array([[5.0, 0.0, 0.0], [-1.0, 4.5, 0.0], [0.7, 0.4, 5.5]])
UNIT = np.full((1, 3), 0.4)


def laid_on_each_other(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Fractional coordinates (3, 1, N) of four sites, and of four near them in another order."""
    rng = np.random.default_rng(seed)
    one = rng.random((N_SITES, 3))
    other = (one + rng.normal(scale=0.12, size=one.shape))[rng.permutation(N_SITES)]
    return np.ascontiguousarray(one.T[:, None]), np.ascontiguousarray(other.T[:, None])


def pairs_of(laid: np.ndarray, positions: np.ndarray, most: float = 1.0) -> tuple[np.ndarray, ...]:
    return near_pairs(laid, positions, STARTS, OTHERS, UNIT, MATRIX[None], np.array([1.0]), most)


@pytest.mark.parametrize("seed", range(5))
def test_vectors_are_the_shortest_to_any_image(seed: int) -> None:
    laid, positions = laid_on_each_other(seed)
    images = np.array(list(product((-2, -1, 0, 1, 2), repeat=3)))
    places, reaches, vectors, squares = pairs_of(laid, positions)
    found = {}
    for place, reach, vector, square in zip(places.tolist(), reaches, vectors.T, squares, strict=True):
        difference = positions[:, 0, place[2]] - laid[:, 0, place[1]]
        assert reach == pytest.approx((np.abs(difference - np.rint(difference)) / UNIT[0]).max())
        lengths = (((difference + images) @ MATRIX) ** 2).sum(axis=1)
        assert square == pytest.approx(lengths.min())
        assert vector == pytest.approx((difference + images[lengths.argmin()]) @ MATRIX)
        found[place[1], place[2]] = reach
    everything = pairs_of(laid, positions, 10.0)
    assert {(i, j) for (_, i, j), reach in zip(everything[0], everything[1], strict=True) if reach <= 1} == set(found)


def test_the_stol_from_which_on_all_sites_have_a_partner() -> None:
    for seed in range(20):
        laid, positions = laid_on_each_other(seed)
        shifted = laid - laid[:, :, :1] + positions[:, :, 2:3]  # the first site on the third of the other
        places, reaches, *_ = pairs_of(shifted, positions, 10.0)
        expected = max(reaches[places[:, 1] == site].min() for site in range(N_SITES))
        truth, candidate = np.ascontiguousarray(laid[:, 0]), (np.zeros(1, np.int64), np.array([2]))
        for most, answer in ((10.0, expected), (expected * 0.9, np.inf)):
            found = needed_stol(truth, positions, *candidate, 0, STARTS, OTHERS, UNIT, most)
            assert found[0] == pytest.approx(answer)


def test_no_assignment_is_nearer_than_the_bound() -> None:
    """And where the nearest partners of all sites differ, they are the best."""
    states = []
    for seed in range(300):
        places, _, vectors, squares = pairs_of(*laid_on_each_other(seed), 0.7)
        (state,), bounds, (nearest,), (least,) = nearest_partners(places, vectors, squares, 1, N_SITES)
        assert bounds.tolist() == [0, len(places)]
        costs, numbers = costs_of(places, squares, N_SITES, 1e20)
        ways = [[numbers[i, j] for i, j in enumerate(order)] for order in permutations(range(N_SITES))]
        ways = [way for way in ways if min(way) >= 0]
        states.append(state)
        if state == NO_WAY:
            assert not ways
            continue
        if state == CLEAR:
            assert nearest.tolist() == min(ways, key=lambda way: squares[way].sum())
            continue
        assert (costs[costs < 1e20] == squares[numbers[costs < 1e20]]).all()
        for way in ways:
            chosen = vectors[:, way]
            spread = ((chosen - chosen.mean(axis=1, keepdims=True)) ** 2).sum(axis=0).mean()
            assert spread >= least * (1 - 1e-12)
    assert min(states.count(state) for state in (NO_WAY, CLEAR, OPEN)) > 20
