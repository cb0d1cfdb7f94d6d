"""What is refused while a crystal is made: pairs too close for their radii, and symmetry that was not written."""

import numpy as np
import pytest

from crystallm.crystal.description import Site
from crystallm.sample.constraint import Grammar, Partial, Prompt, Stage, walk
from crystallm.sample.crystals import SHORTEST_DISTANCE_ANGSTROM, CrystalTask, Refusal, shortest_distance
from crystallm.sample.engine import SECTION, TRIES

SODIUM, CHLORINE = Site("Na", "a", ()), Site("Cl", "b", ())


def task_of(grammar: Grammar, a: float, *sites: Site, group: int = 225, contact: float = 0.6) -> CrystalTask:
    task = CrystalTask(grammar, Prompt(), 0, 0, contact)
    task.start()
    task.partial = Partial(Stage.LETTER, (("Na", 1), ("Cl", 1)), 1, group, (a, a, a, 90.0, 90.0, 90.0), list(sites))
    return task


def test_rock_salt_may_stay(grammar: Grammar) -> None:
    assert task_of(grammar, 5.64, SODIUM, CHLORINE).refusal(0) is None


@pytest.mark.parametrize(("contact", "refusal"), [(0.6, Refusal.TOO_CLOSE), (0.5, None), (0.0, None)])
def test_neighbours_too_close(grammar: Grammar, contact: float, refusal: Refusal | None) -> None:
    """Na and Cl at 1.6 angstrom; sums of ionic radii are near 2.8."""
    assert task_of(grammar, 3.2, SODIUM, CHLORINE, contact=contact).refusal(0) is refusal


def test_own_images_too_close(grammar: Grammar) -> None:
    """Sodium alone, 2.1 angstrom from its images; two atomic radii are 3.6."""
    assert task_of(grammar, 2.1, Site("Na", "a", ()), group=221).refusal(0) is Refusal.TOO_CLOSE
    assert task_of(grammar, 2.1, Site("Na", "a", ()), group=221, contact=0.5).refusal(0) is None


def test_only_new_sites_are_judged(grammar: Grammar) -> None:
    task = task_of(grammar, 5.64, SODIUM)
    assert task.refusal(0) is None
    task.partial.sites.append(CHLORINE)
    assert task.refusal(1) is None


def test_symmetry_higher_than_written(grammar: Grammar) -> None:
    """Rock salt written in a subgroup."""
    sites = (Site("Na", "a", ()), Site("Cl", "b", ()))
    assert task_of(grammar, 5.64, *sites, group=202).refusal(0) is Refusal.HIGHER_SYMMETRY


@pytest.mark.parametrize("contact", [0.0, 0.3, 0.6])
def test_never_closer_than_half_an_angstrom(contact: float) -> None:
    assert shortest_distance("H", "H", contact) == SHORTEST_DISTANCE_ANGSTROM
    assert shortest_distance("He", "Kr", contact) >= SHORTEST_DISTANCE_ANGSTROM  # no radius is tabulated for helium


def test_distance_grows_with_the_radii() -> None:
    assert (
        shortest_distance("Na", "Cl", 0.6) == shortest_distance("Cl", "Na", 0.6) == pytest.approx(0.6 * 2.83, abs=0.1)
    )
    assert shortest_distance("Cs", "Cs", 0.6) == pytest.approx(0.6 * 5.2, abs=0.1)


def test_stages_are_the_levels_of_the_engine(grammar: Grammar) -> None:
    assert len(TRIES) == len(Stage)
    assert Stage.CELL < SECTION == Stage.LETTER
    found = set()
    for seed in range(10):
        partial = Partial()
        steps = walk(grammar, Prompt((("Ti", 1), ("O", 2)), 2, 136), partial)
        choices, stages = next(steps), []
        random = np.random.default_rng(seed)
        while choices:
            if len(choices) > 1:
                stages.append(partial.stage)
            try:
                choices = steps.send(int(random.choice(choices)))
            except StopIteration:
                break
        assert stages[0] is Stage.CELL
        assert stages[: stages.count(Stage.CELL)] == [Stage.CELL] * stages.count(Stage.CELL)
        found.update(stages)
    assert found == {Stage.CELL, Stage.LETTER, Stage.COORDINATES}


@pytest.mark.parametrize(
    ("distance", "contact", "refusal"),
    [(1.5, 0.68, None), (1.8, 0.68, Refusal.BETWEEN), (1.8, 0.0, None), (2.2, 0.68, None)],
    ids=["peroxide", "in between", "geometry off", "apart"],
)
def test_nonmetals_are_bonded_or_apart(
    grammar: Grammar, distance: float, contact: float, refusal: Refusal | None
) -> None:
    """Oxygen alone in a primitive cube, which puts its images at that distance."""
    task = task_of(grammar, distance, Site("O", "a", ()), group=221, contact=contact)
    assert task.refusal(0) is refusal


def test_metals_may_stand_at_any_distance_that_is_not_too_close(grammar: Grammar) -> None:
    for a in np.linspace(2.7, 8.0, 40):
        assert task_of(grammar, float(a), Site("Na", "a", ()), group=221, contact=0.68).refusal(0) is None
