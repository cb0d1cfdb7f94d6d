"""What is refused while a crystal is made: pairs too close for their radii, and symmetry that was not written."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from crystallm.crystal.description import Site
from crystallm.data.templates import Template
from crystallm.sample.drawing.crystal_task import CrystalTask
from crystallm.sample.drawing.template_guide import Guide
from crystallm.sample.engine.engine import TRIES
from crystallm.sample.engine.mixture import Belief
from crystallm.sample.engine.rows import SECTION
from crystallm.sample.grammar.contacts import SHORTEST_DISTANCE_ANGSTROM, Refusal, Surroundings, shortest_distance
from crystallm.sample.grammar.wyckoff_grammar import Partial, Prompt, Stage, WyckoffGrammar

SODIUM, CHLORINE = Site("Na", "a", ()), Site("Cl", "b", ())


def task_of(grammar: WyckoffGrammar, a: float, *sites: Site, group: int = 225, contact: float = 0.6) -> CrystalTask:
    task = CrystalTask(grammar, Prompt(), 0, 0, contact)
    task.start()
    task.partial = Partial(Stage.LETTER, (("Na", 1), ("Cl", 1)), 1, group, (a, a, a, 90.0, 90.0, 90.0), list(sites))
    return task


def test_rock_salt_may_stay(grammar: WyckoffGrammar) -> None:
    assert task_of(grammar, 5.64, SODIUM, CHLORINE).refusal(0) is None


@pytest.mark.parametrize(("contact", "refusal"), [(0.6, Refusal.TOO_CLOSE), (0.5, None), (0.0, None)])
def test_neighbours_too_close(grammar: WyckoffGrammar, contact: float, refusal: Refusal | None) -> None:
    """Na and Cl at 1.6 angstrom; sums of ionic radii are near 2.8."""
    assert task_of(grammar, 3.2, SODIUM, CHLORINE, contact=contact).refusal(0) is refusal


def test_own_images_too_close(grammar: WyckoffGrammar) -> None:
    """Sodium alone, 2.1 angstrom from its images; two atomic radii are 3.6."""
    assert task_of(grammar, 2.1, Site("Na", "a", ()), group=221).refusal(0) is Refusal.TOO_CLOSE
    assert task_of(grammar, 2.1, Site("Na", "a", ()), group=221, contact=0.5).refusal(0) is None


def test_only_new_sites_are_judged(grammar: WyckoffGrammar) -> None:
    task = task_of(grammar, 5.64, SODIUM)
    assert task.refusal(0) is None
    task.partial.sites.append(CHLORINE)
    assert task.refusal(1) is None


def test_symmetry_higher_than_written(grammar: WyckoffGrammar) -> None:
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


@pytest.mark.parametrize(
    ("a", "settings", "reason"),
    [
        (5.64, {"bond_tries": 4}, None),
        (8.0, {"bond_tries": 4}, Refusal.DENSITY),  # 0.76 g/cm3 instead of 2.16; and 4 angstrom from Na to Cl
        (8.0, {"bond_tries": 0}, None),
        (8.0, {"bond_tries": 4, "contact": 0.0}, None),
    ],
)
def test_objections_to_densities(
    grammar: WyckoffGrammar, a: float, settings: dict[str, Any], reason: Refusal | None
) -> None:
    task = replace(task_of(grammar, a, SODIUM, CHLORINE), **settings)
    assert task.refusal(0) is None
    assert task.objection(None, 0) is reason
    assert task.objection(None, 4) is None


@pytest.mark.parametrize(("known", "reason"), [(6.3, Refusal.BONDS), (8.0, None)])
def test_bonds_may_be_those_of_a_crystal_followed(
    grammar: WyckoffGrammar, known: float, reason: Refusal | None
) -> None:
    """KCl at 6.3 angstrom is all right; were it 8, the radii would have nothing to say of NaCl either."""
    task = replace(task_of(grammar, 8.0, SODIUM, CHLORINE), bond_tries=4)
    assert task.refusal(0) is None
    crystal = task.partial.description()
    sites = (Site("K", "a", ()), Site("Cl", "b", ()))
    other = replace(crystal, amounts=(("K", 1), ("Cl", 1)), cell=(known,) * 3 + (90.0,) * 3, sites=sites)
    task.guide = Guide(grammar, [Template("mp-1", "KCl", crystal, 1.0, other)])
    assert task.objection(Belief(np.array([0.2, 0.8]), np.array([0])), 0) is reason
    assert task.objection(Belief(np.array([0.8, 0.2]), np.array([0])), 0) is Refusal.DENSITY  # it follows nothing


@pytest.mark.parametrize(("a", "reason"), [(5.64, None), (6.0, None), (6.3, Refusal.DENSITY), (5.1, Refusal.DENSITY)])
def test_a_draw_keeps_to_the_volume_of_its_template(grammar: WyckoffGrammar, a: float, reason: Refusal | None) -> None:
    """6.3 and 5.1 angstrom: 39 % more and 26 % less volume than at 5.64, either plausible for NaCl by itself."""
    task = replace(task_of(grammar, a, SODIUM, CHLORINE), bond_tries=4)
    assert task.refusal(0) is None
    assert task.objection(None, 0) is None
    crystal = replace(task.partial.description(), cell=(5.64,) * 3 + (90.0,) * 3)
    task.guide = Guide(grammar, [Template("mp-1", "NaCl", crystal, 1.0, crystal)])
    assert task.objection(Belief(np.array([0.2, 0.8]), np.array([0])), 0) is reason
    assert task.objection(Belief(np.array([0.8, 0.2]), np.array([0])), 0) is None


def test_no_objection_without_a_radius(grammar: WyckoffGrammar) -> None:
    heavy = replace(task_of(grammar, 8.0, Site("Bk", "a", ()), CHLORINE), bond_tries=4)
    heavy.partial.amounts = (("Bk", 1), ("Cl", 1))
    assert heavy.refusal(0) is None
    assert heavy.objection(None, 0) is None


def test_stages_are_the_levels_of_the_engine(grammar: WyckoffGrammar) -> None:
    assert len(TRIES) == len(Stage)
    assert Stage.CELL < SECTION == Stage.LETTER
    found = set()
    for seed in range(10):
        partial = Partial()
        steps = grammar.walk(Prompt((("Ti", 1), ("O", 2)), 2, 136), partial)
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
    grammar: WyckoffGrammar, distance: float, contact: float, refusal: Refusal | None
) -> None:
    """Oxygen alone in a primitive cube, which puts its images at that distance."""
    task = task_of(grammar, distance, Site("O", "a", ()), group=221, contact=contact)
    assert task.refusal(0) is refusal


def test_metals_may_stand_at_any_distance_that_is_not_too_close(grammar: WyckoffGrammar) -> None:
    for a in np.linspace(2.7, 8.0, 40):
        assert task_of(grammar, float(a), Site("Na", "a", ()), group=221, contact=0.68).refusal(0) is None


def test_hopeless_starts_are_those_that_end_in_refusals(grammar: WyckoffGrammar) -> None:
    """Oxygen on the free position (x, x, 0) of rutile, titanium on the corners: where a start is told to be hopeless,
    no third and fourth decimal can stand; and most of what cannot stand is told."""
    titanium = Site("Ti", "a", ())

    def stands(x: float) -> bool:
        around = Surroundings(136, (4.59, 4.59, 2.96, 90.0, 90.0, 90.0), 0.68)
        assert around.place(titanium) is None
        return around.place(Site("O", "f", (x,))) is None

    task = task_of(grammar, 4.59, titanium, Site("O", "f", (0.02,)), group=136, contact=0.68)
    task.partial.cell = (4.59, 4.59, 2.96, 90.0, 90.0, 90.0)
    assert task.refusal(0) is Refusal.TOO_CLOSE
    hopeless = {float(grammar.tokens[token]) for token in task.hopeless(1)}
    truly = {start / 100 for start in range(100) if not any(stands(start / 100 + k / 1e4) for k in range(0, 100, 9))}
    assert hopeless <= truly
    assert len(hopeless) >= 0.8 * len(truly) > 30
    assert 0.30 not in truly  # rutile


def test_nothing_is_hopeless_where_only_the_symmetry_was_refused(grammar: WyckoffGrammar) -> None:
    task = task_of(grammar, 5.64, SODIUM, CHLORINE, group=202)
    assert task.refusal(0) is Refusal.HIGHER_SYMMETRY
    assert task.hopeless(0) == ()


@pytest.mark.parametrize("level", [Stage.LETTER, Stage.COORDINATES])
def test_an_automaton_resumes_where_a_fresh_one_would_stand(grammar: WyckoffGrammar, level: Stage) -> None:
    """After every site of many texts: the same choices as when the whole text is replayed."""
    seen = 0
    for seed in range(15):
        task = CrystalTask(grammar, Prompt((("Ti", 2), ("O", 3)), None, None), 0, seed)
        steps, tokens, random = task.start(), list[int](), np.random.default_rng(seed)
        choices, places = next(steps), list[tuple[int, int]]()
        while choices:
            if len(choices) > 1 and task.level() is level:
                places.append((task.sections(), len(tokens)))
            tokens.append(int(random.choice(choices)))
            try:
                choices = steps.send(tokens[-1])
            except StopIteration:
                break
        for since in sorted({since for since, _ in places}, reverse=True):
            length = min(length for sections, length in places if sections == since)
            replayed = grammar.walk(task.prompt, Partial())
            expected = next(replayed)
            for token in tokens[:length]:
                expected = replayed.send(token)
            resumed, found = task.resume(level, since, tokens[:length])
            while expected:  # to the end, as the text went on
                assert found == expected
                try:
                    expected = replayed.send(tokens[length])
                except StopIteration:
                    break
                found = resumed.send(tokens[length])
                length += 1
            seen += 1
    assert seen > 15
