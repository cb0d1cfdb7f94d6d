"""The fast verdict on symmetry against that of the symmetry finders."""

from dataclasses import replace

import numpy as np
import pytest

from crystallm.crystal.cell import Cell
from crystallm.crystal.checks import fast_symmetry
from crystallm.crystal.checks.fast_symmetry import PRIMITIVE, has_more_operations, is_written_in
from crystallm.crystal.description import Description, Site, expand
from crystallm.crystal.symmetry import has_space_group
from crystallm.crystal.wyckoff import space_group
from crystallm.tokenizer.layout import FREE_PARAMETERS, full_parameters

RUTILE = Description(
    amounts=(("Ti", 1), ("O", 2)),
    formula_units=2,
    space_group=136,
    cell=(4.59, 4.59, 2.96, 90.0, 90.0, 90.0),
    sites=(Site("Ti", "a", ()), Site("O", "f", (0.305,))),
)


def drawn_at_random(number: int, random: np.random.Generator) -> Description:
    """Some atoms in a space group, with some coordinates and lengths of cell that are nearly special."""
    group = space_group(number)
    lengths = {"a": 7.1, "b": 8.3, "c": 9.7} | {angle: random.uniform(80, 100) for angle in ("alpha", "beta", "gamma")}
    names = ("a", "b", "c", "alpha", "beta", "gamma")
    if random.random() < 0.5:
        lengths["b"] = 7.1 + random.choice([0, 0.01, 0.08, 0.15, 0.3])
    free = {place: lengths[names[place]] for place in FREE_PARAMETERS[group.crystal_system]}
    sites = []
    letters = list(group.positions)
    for element in ("Ti", "O", "S")[: random.integers(1, 4)]:
        position = group.positions[letters[random.integers(len(letters))]]
        special = random.choice([0, 0.25, 0.5, 1 / 3], position.n_free)
        near = special + random.choice([0, 0.001, 0.01, 0.03], position.n_free)
        chosen = np.where(random.random(position.n_free) < 0.5, near, random.random(position.n_free))
        sites.append(Site(element, position.letter, tuple(chosen.tolist())))
    return Description((), 1, number, full_parameters(group.crystal_system, free), tuple(sites))


def keeps_apart(cell: Cell) -> bool:
    """Whether no atoms are closer than the sampler lets them be."""
    images = np.array(np.meshgrid(*[[-1.0, 0.0, 1.0]] * 3, indexing="ij")).reshape(3, -1).T
    delta = cell.positions[:, None] - cell.positions[None]
    delta -= np.rint(delta)
    distances = np.linalg.norm((delta[:, :, None] + images) @ cell.lattice, axis=-1)
    distances[np.arange(len(delta)), np.arange(len(delta)), len(images) // 2] = np.inf
    return bool(distances.min() > 0.5)


def test_verdicts_are_those_of_the_symmetry_finders() -> None:
    """In all space groups, with many cells that are nearly more symmetrical."""
    random = np.random.default_rng(0)
    verdicts = {False: 0, True: 0, None: 0}
    for number in range(1, 231):
        for _ in range(6):
            cell = expand(drawn_at_random(number, random))
            if len(cell) > 100 or not keeps_apart(cell):
                continue
            verdict = has_more_operations(cell, number)
            verdicts[verdict] += 1
            if verdict is not None:
                assert has_space_group(cell, number) == (not verdict), number
    assert verdicts[False] > 300
    assert verdicts[True] > 60
    assert verdicts[None] < 0.1 * sum(verdicts.values())


def test_a_finder_is_asked_only_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ask(cell: Cell, number: int) -> bool:
        asked.append(number)
        return has_space_group(cell, number)

    def stretched(c: float) -> Cell:
        """Caesium chloride along one axis."""
        cell = (4.12, 4.12, c, 90.0, 90.0, 90.0)
        return expand(Description((("Cs", 1), ("Cl", 1)), 1, 123, cell, (Site("Cs", "a", ()), Site("Cl", "d", ()))))

    monkeypatch.setattr(fast_symmetry, "has_space_group", ask)
    assert is_written_in(expand(RUTILE), 136)
    assert is_written_in(stretched(4.5), 123)
    assert not is_written_in(stretched(4.12), 123)
    assert asked == []
    is_written_in(stretched(4.22), 123)
    assert asked == [123]


def test_overlapping_atoms_are_left_to_the_finder() -> None:
    """Titanium on a general position that is a special one: fewer atoms than the positions say."""
    cell = expand(replace(RUTILE, sites=(Site("Ti", "k", (0.0, 0.0, 0.0)), RUTILE.sites[1])))
    assert has_more_operations(cell, 136) is None


@pytest.mark.parametrize("number", [1, 5, 12, 22, 38, 43, 70, 82, 146, 167, 196, 206, 230])
def test_primitive_cells_hold_one_lattice_point(number: int) -> None:
    group = space_group(number)
    basis = np.array(PRIMITIVE[group.symbol[0]])
    assert np.linalg.det(basis) == pytest.approx(1 / group.centring_order)
    identity = (group.rotations == np.eye(3)).all(axis=(1, 2))
    in_basis = group.translations[identity] @ np.linalg.inv(basis)
    np.testing.assert_allclose(in_basis, np.rint(in_basis), atol=1e-9)
