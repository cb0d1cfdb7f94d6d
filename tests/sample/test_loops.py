"""Compiled loops over tokens and atoms against what numpy and pymatgen say."""

import numpy as np
import pytest
from pymatgen.core import Lattice
from scipy.special import softmax as reference
from scipy.stats import cauchy

from crystallm.crystal.description import Site, site_orbit
from crystallm.crystal.wyckoff import space_group
from crystallm.sample.decoding.loops import (
    BETWEEN,
    FITS,
    TOO_CLOSE,
    parts_of_bells,
    place_in,
    place_of_site,
    sharpened,
    softmax,
    softmax_of,
    write_orbit,
)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_softmax(dtype: type, temperature: float) -> None:
    logs = np.random.default_rng(0).normal(scale=20, size=300).astype(dtype)
    logs[7] = -np.inf
    found = softmax(logs, temperature)
    np.testing.assert_allclose(found, reference(logs.astype(np.float64) / temperature), rtol=1e-12, atol=1e-300)
    assert found[7] == 0
    assert found.dtype == np.float64
    some = np.array([299, 3, 7])
    assert softmax_of(some, logs, temperature).tolist() == softmax(logs[some], temperature).tolist()


def test_places_are_those_of_the_running_sum() -> None:
    random = np.random.default_rng(0)
    for size in (1, 2, 10, 100):
        weights = random.random(size) * (random.random(size) < 0.7)
        weights[-1] = 0.3
        sums = weights.cumsum()
        for share in (0.0, *random.random(200), np.nextafter(1.0, 0.0)):
            place = place_in(weights, share)
            assert place == sums.searchsorted(share * sums[-1], side="right")
            assert weights[place] > 0


@pytest.mark.parametrize("seed", range(5))
def test_a_site_is_judged_by_all_images(seed: int) -> None:
    """Against the distances of pymatgen, which looks at images in its own way."""
    random = np.random.default_rng(seed)
    lattice = Lattice.from_parameters(*random.uniform(4, 7, 3), *random.uniform(75, 105, 3))
    atoms = random.random((9, 3))
    first = 6
    neighbours = lattice.get_points_in_sphere(atoms, lattice.get_cartesian_coords(atoms[first]), 8.0)
    distances = np.full(9, np.inf)
    for _, distance, atom, *_ in neighbours:
        if distance > 1e-6:
            distances[atom] = min(distances[atom], distance)

    def judge(*limits: np.ndarray) -> int:
        squares = np.zeros((9, 9, 3))
        squares[first] = np.array(limits).T ** 2
        return place_of_site(atoms, np.arange(9), first, 9, lattice.matrix, squares)

    nothing = np.zeros(9)
    assert judge(distances - 1e-6, nothing, nothing) == FITS
    for atom in range(9):
        least = distances - 1e-6
        least[atom] += 2e-6
        assert judge(least, nothing, nothing) == TOO_CLOSE
        low, high = nothing.copy(), nothing.copy()
        low[atom], high[atom] = distances[atom] - 1e-6, distances[atom] + 1e-6
        assert judge(distances - 1e-6, low, high) == BETWEEN
        assert judge(least, low, high) == TOO_CLOSE  # what is worse is said


def test_orbits_are_those_of_descriptions() -> None:
    random = np.random.default_rng(0)
    for number in range(1, 231):
        group = space_group(number)
        for letter, position in group.positions.items():
            free = random.random(position.n_free)
            atoms, kinds = np.full((200, 3), np.nan), np.zeros(200, dtype=np.int64)
            maps = group.orbit_maps(letter)
            write_orbit((*maps, position.matrix, position.offset, free), atoms, kinds, 5, 7)
            end = 5 + position.multiplicity
            assert np.flatnonzero(~np.isnan(atoms[:, 0])).tolist() == list(range(5, end))
            assert np.flatnonzero(kinds == 7).tolist() == list(range(5, end))
            delta = atoms[5:end] - site_orbit(group, Site("O", letter, tuple(free.tolist())))
            np.testing.assert_allclose(delta - np.rint(delta), 0, atol=1e-12)  # 0 may be 1, less rounding


@pytest.mark.parametrize("goes_around", [False, True])
def test_parts_of_bells_are_those_of_cauchy_distributions(goes_around: bool) -> None:
    middles, widths = np.array([0.03, 0.5, 0.98]), np.array([0.005, 0.02, 0.1])
    edges = 0.2 + 0.01 * np.arange(41)
    expected = np.zeros((3, 40))
    for turn in (-1, 0, 1) if goes_around else (0,):
        expected += np.diff(cauchy.cdf(edges, middles[:, None] + turn, widths[:, None]), axis=1)
    np.testing.assert_allclose(parts_of_bells(0.2, 0.01, 40, middles, widths, goes_around), expected, atol=1e-12)


def test_probabilities_are_sharpened() -> None:
    probabilities = np.array([0.5, 0.0, 0.3, 0.2])
    assert sharpened(probabilities, 0.5) == pytest.approx(probabilities**2 / (probabilities**2).sum())
    assert sharpened(3 * probabilities, 1.0) == pytest.approx(probabilities)
