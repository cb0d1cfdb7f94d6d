"""A search with a potential of pairs: from simple cubic to close packing, under a budget, from a journal."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pymatgen.optimization.neighbors import find_points_in_spheres

from crystallm.base.errors import ConfigError
from crystallm.crystal.cell import Cell
from crystallm.crystal.description import Description, Site, expand
from crystallm.energy.potentials.protocol import Evaluation, NoEnergy
from crystallm.sample.answers.search.searching import Found, SearchSettings, search

AL = (("Al", 1),)
DEPTH, SIGMA, CUTOFF = 0.2, 2.6, 6.0
"""eV and angstrom."""


class LennardJones:
    """4 DEPTH ((SIGMA/r)^12 - (SIGMA/r)^6) up to CUTOFF; close packings are its lowest crystals."""

    name = "lennard-jones 1"

    def __init__(self) -> None:
        self.evaluations = 0

    def energies(self, cells: Sequence[Cell]) -> list[float | NoEnergy]:
        return [found.energy for found in map(self.evaluate, cells)]

    def evaluate(self, cell: Cell) -> Evaluation:
        self.evaluations += 1
        points = np.ascontiguousarray(cell.positions @ cell.lattice)
        lattice = np.ascontiguousarray(cell.lattice)
        periodic = np.ones(3, dtype=np.int64)
        one, other, shift, r = find_points_in_spheres(points, points, r=CUTOFF, pbc=periodic, lattice=lattice)
        pairs = r > 1e-8
        one, other, shift, r = one[pairs], other[pairs], shift[pairs], r[pairs]
        vectors = points[other] + shift @ lattice - points[one]
        sixth = (SIGMA / r) ** 6
        slopes = (4 * DEPTH * (6 * sixth - 12 * sixth**2) / r**2)[:, None] * vectors
        forces = np.zeros_like(points)
        np.add.at(forces, one, slopes)
        edge = (SIGMA / CUTOFF) ** 6  # so that the energy has no steps where pairs leave the cutoff
        energy = float(2 * DEPTH * (sixth**2 - sixth - edge**2 + edge).sum()) / len(cell)
        return Evaluation(energy, forces, 0.5 * vectors.T @ slopes / cell.volume)


def simple_cubic() -> tuple[Description, float]:
    edge = min(np.linspace(2.6, 3.0, 81), key=lambda a: LennardJones().evaluate(expand(cubic(a))).energy)
    return cubic(edge), LennardJones().evaluate(expand(cubic(edge))).energy


def cubic(edge: float) -> Description:
    edge = float(edge)
    return Description(AL, 1, 221, (edge, edge, edge, 90.0, 90.0, 90.0), (Site("Al", "a", ()),))


def run(evaluations: int = 200, seed: int = 0, journal: Path | None = None) -> tuple[Found, LennardJones]:
    potential = LennardJones()
    settings = SearchSettings(evaluations=evaluations, seed=seed, max_atoms=4)
    return search([simple_cubic()], potential, settings, name="Al", journal=journal), potential


def test_the_derivatives_of_the_made_up_potential() -> None:
    cell = Cell(3.0 * np.eye(3), np.array([[0.0, 0.0, 0.0], [0.52, 0.5, 0.5]]), np.array([13, 13]))
    stretched = Cell(cell.lattice * 1.0001, cell.positions, cell.numbers)
    found = LennardJones().evaluate(cell)
    slope = (LennardJones().evaluate(stretched).energy - found.energy) * 2 / 1e-4
    assert np.trace(found.stress) * cell.volume == pytest.approx(slope, rel=1e-2)


def test_close_packing_is_found() -> None:
    start = simple_cubic()[1]
    found, _ = run()
    lowest = found.minima[0]
    cell = expand(lowest.description)
    # Lattice sums: simple cubic has 6 neighbours, close packings 12, and 1.5 times the energy.
    assert lowest.energy < 1.3 * start
    assert cell.volume / len(cell) == pytest.approx((2 ** (1 / 6) * 0.97 * SIGMA) ** 3 / np.sqrt(2), rel=0.03)
    assert lowest.passed


def test_the_budget_is_kept() -> None:
    found, potential = run(evaluations=40)
    assert found.evaluations == potential.evaluations == 40
    assert found.ended == "all evaluations spent"


def test_a_search_ends_when_nothing_lower_comes() -> None:
    found, _ = run(evaluations=400)
    assert found.ended == "nothing lower came"
    assert found.evaluations < 400


def test_the_same_seed_finds_the_same() -> None:
    assert run(60)[0] == run(60)[0]
    assert run(60)[0] != run(60, seed=1)[0]


def test_a_search_goes_on_from_its_journal(tmp_path: Path) -> None:
    journal = tmp_path / "search.jsonl"
    whole, _ = run(100, journal=journal)
    lines = journal.read_text().splitlines(keepends=True)
    half = len(lines) // 2
    journal.write_text("".join(lines[:half]) + lines[half][:20])  # a kill has cut a line off
    again, potential = run(100, journal=journal)
    assert again == whole
    assert 0 < potential.evaluations < 100
    finished, potential = run(100, journal=journal)
    assert finished == whole
    assert potential.evaluations == 0


def test_the_space_group_asked_for_stays() -> None:
    settings = SearchSettings(evaluations=60, keep_space_group=True)
    found = search([simple_cubic()], LennardJones(), settings, name="Al")
    assert {one.description.space_group for one in found.minima} <= {221}


def test_a_search_needs_evaluations() -> None:
    with pytest.raises(ConfigError, match="at least 1 evaluation"):
        SearchSettings(evaluations=0)


def test_an_exchange_is_tried_once(tmp_path: Path) -> None:
    alloy = (("Al", 1), ("Ni", 1))
    sites = (Site("Al", "a", ()), Site("Ni", "b", ()))
    start = Description(alloy, 1, 221, (2.8, 2.8, 2.8, 90.0, 90.0, 90.0), sites)
    settings = SearchSettings(evaluations=60, keep_space_group=True, keep_formula_units=True)
    journal = tmp_path / "search.jsonl"
    search([(start, -1.0)], LennardJones(), settings, name="AlNi", journal=journal)
    rounds = [json.loads(line)["value"] for line in journal.read_text().splitlines()]
    given = [trial["as_given"] for trials in rounds for trial in trials if trial["move"] == "exchange"]
    assert len(given) == len(set(given)) > 0
