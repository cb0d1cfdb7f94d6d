"""Comparing with a crystal whose operations are known leaves out what they make twice, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from crystallm.crystal.description import Description, Site, augment, expand
from crystallm.crystal.matching.displacement import rms_of, rms_of_many
from crystallm.crystal.matching.own_symmetry import is_first, prepare_built
from crystallm.crystal.matching.reduced_crystal import prepare
from crystallm.crystal.matching.tolerances import Tolerances
from crystallm.crystal.wyckoff import space_group

WIDE = Tolerances()


def moved(crystal: Description, size: float, rng: np.random.Generator) -> Description:
    """Free coordinates and lengths changed at random."""
    sites = [
        replace(site, free=tuple((np.array(site.free) + rng.uniform(-size, size, len(site.free))) % 1))
        for site in crystal.sites
    ]
    return replace(crystal, sites=tuple(sites))


def test_operations_are_those_of_the_space_group(random_descriptions: dict[int, Description]) -> None:
    for number, crystal in random_descriptions.items():
        prepared, group = prepare_built(crystal), space_group(number)
        assert prepared.symmetry is not None
        rotations, images = prepared.symmetry.rotations, prepared.symmetry.images
        assert len(rotations) == len(group.rotations) // group.centring_order, number
        assert np.abs(np.linalg.det(rotations)).round(6).tolist() == [1.0] * len(rotations)
        assert (np.sort(images, axis=1) == np.arange(len(prepared))).all()
        assert (prepared.numbers[images] == prepared.numbers).all()
        metric = prepared.lattice.matrix @ prepared.lattice.matrix.T
        assert np.allclose(rotations @ metric @ rotations.transpose(0, 2, 1), metric, atol=1e-3)


@pytest.mark.parametrize("size", [0.0, 0.02, 0.1])
def test_the_rms_stays_the_same(random_descriptions: dict[int, Description], size: float) -> None:
    rng = np.random.default_rng(0)
    found = []
    for number, crystal in list(random_descriptions.items())[::7]:
        other = prepare(expand(moved(augment(crystal, rng), size, rng)))
        with_symmetry, without = prepare_built(crystal), prepare(expand(crystal))
        plain = rms_of(without, other, WIDE)
        assert rms_of(with_symmetry, other, WIDE) == (None if plain is None else pytest.approx(plain, abs=1e-6)), number
        # Among others, too, of which the symmetry is not known.
        both = [value for (value,) in rms_of_many([without, with_symmetry, without], other, [WIDE])]
        assert both == [None if plain is None else pytest.approx(plain, abs=1e-6)] * 3, number
        found.append(plain is not None)
    assert sum(found) > len(found) // 2 if size < 0.1 else sum(found) > 0


def test_one_of_each_orbit_of_candidates_is_kept() -> None:
    """Sixteen ways to turn the tetragonal cell onto itself, and two sites of titanium."""
    sites = (Site("Ti", "a", ()), Site("O", "f", (0.305,)))
    prepared = prepare_built(Description((("Ti", 1), ("O", 2)), 2, 136, (4.594, 4.594, 2.959, 90.0, 90.0, 90.0), sites))
    assert prepared.symmetry is not None
    turned = prepared.symmetry.rotations
    assert len(turned) == 16
    titanium = np.flatnonzero(prepared.numbers == 22)
    kept = is_first(prepared.symmetry, turned, titanium)
    assert kept.shape == (16, 2)
    assert kept.sum() == 2  # the identity, laid on either: no operation both stands still and exchanges them
    assert is_first(prepared.symmetry, np.eye(3, dtype=np.int64)[None], titanium).sum() == 2
