"""An answer: known crystals beside draws, energies by a potential, one of equal ones, chances."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crystallm.crystal.cell import Cell
from crystallm.crystal.description import Description, Site
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.data.templates import KnownCrystal
from crystallm.energy.hull.hull import HullTable, NoHull
from crystallm.energy.potentials.protocol import Evaluation, NoEnergy
from crystallm.sample.answers.assess import Assessor
from crystallm.sample.answers.energies import EnergyJudge
from crystallm.sample.answers.search.answering import Searcher
from crystallm.sample.config import AnswerConfig, SampleConfig
from crystallm.sample.drawing.attempt import Attempt
from crystallm.sample.drawing.template_guide import Followed
from crystallm.sample.prompts import NamedPrompt, make_prompt

AL = (("Al", 1),)
FCC = Description(AL, 1, 225, (4.05, 4.05, 4.05, 90.0, 90.0, 90.0), (Site("Al", "a", ()),))
SQUEEZED = Description(AL, 1, 139, (2.86, 2.86, 4.08, 90.0, 90.0, 90.0), (Site("Al", "a", ()),))
"""FCC as a body-centred tetragonal cell, which is 2.864 by 4.05, a little too high."""
BCC = Description(AL, 1, 229, (3.24, 3.24, 3.24, 90.0, 90.0, 90.0), (Site("Al", "a", ()),))
PROMPT = make_prompt("Al")


class Springs:
    """A potential whose energy grows with the distance of the volume per atom from that of aluminium, 16.6 A3."""

    name = "springs 1"

    def energies(self, cells: Sequence[Cell]) -> list[float | NoEnergy]:
        return [1e-2 * (cell.volume / len(cell) - 16.6) ** 2 - 3.7 for cell in cells]

    def evaluate(self, cell: Cell) -> Evaluation | NoEnergy:
        per_atom = cell.volume / len(cell)
        pressure = 2e-2 * (per_atom - 16.6)
        return Evaluation(1e-2 * (per_atom - 16.6) ** 2 - 3.7, np.zeros((len(cell), 3)), pressure * np.eye(3))


class Shells:
    """A potential that wants one angle of the cell to be 60 degrees instead of 90, and the volume to stay."""

    name = "shells 1"

    def energies(self, cells: Sequence[Cell]) -> list[float | NoEnergy]:
        return [self._energy(cell.lattice, len(cell)) for cell in cells]

    def evaluate(self, cell: Cell) -> Evaluation | NoEnergy:
        """Derivatives by strain are differences."""
        slope = np.zeros((3, 3))
        for place in np.ndindex(3, 3):
            strain = np.zeros((3, 3))
            strain[place] = 1e-5
            ends = [self._energy(cell.lattice @ (np.eye(3) + sign * strain), len(cell)) for sign in (1, -1)]
            slope[place] = (ends[0] - ends[1]) / 2e-5 * len(cell)
        return Evaluation(
            self._energy(cell.lattice, len(cell)), np.zeros((len(cell), 3)), (slope + slope.T) / 2 / cell.volume
        )

    def _energy(self, lattice: np.ndarray, atoms: int) -> float:
        metric = lattice @ lattice.T
        lengths = np.sqrt(np.diag(metric))
        cosines = metric / np.outer(lengths, lengths) - np.eye(3)
        volume = abs(np.linalg.det(lattice)) / atoms
        return float(1e-2 * (volume - 16.6) ** 2 - 0.5 * np.tanh(4 * (cosines**2).sum()))


class Library:
    """Known crystals of aluminium."""

    def __init__(self, *crystals: Description) -> None:
        self.crystals = crystals

    def known(
        self, amounts: object, *, formula_units: int | None = None, space_group: int | None = None
    ) -> list[KnownCrystal]:
        assert amounts == parse_formula("Al")
        return [
            KnownCrystal(f"mp-{place}", (f"mp-{place}",), one, one.space_group, 1, True, False, 0.0, -3.7, None, True)
            for place, one in enumerate(self.crystals, start=134)
            if space_group in (None, one.space_group)
        ]

    def find(self, *_: object, **__: object) -> list[object]:
        return []


def attempt(number: int, description: Description, score: float) -> Attempt:
    return Attempt(PROMPT, number, description, None, "", (score,), score, score, 9, 9, {})


def assessor(config: AnswerConfig, *known: Description, energies: bool = False) -> Assessor:
    judge = EnergyJudge(Springs(), NoHull("none here")) if energies else None
    return Assessor(config, library=Library(*known), energies=judge)  # type: ignore[arg-type]


def test_a_draw_of_a_known_crystal_counts_for_it() -> None:
    swollen = replace(FCC, cell=(4.2, 4.2, 4.2, 90.0, 90.0, 90.0))
    found = assessor(AnswerConfig(energies=False), FCC).answer(
        PROMPT, [attempt(0, swollen, -1.0), attempt(1, BCC, -2.0)]
    )
    assert [(c.space_group_number, c.count, c.known is not None) for c in found] == [(225, 1, True), (229, 1, False)]
    assert found[0].description == FCC  # as it is known, not as it was drawn
    assert found[0].log_probability == -1.0


def test_known_crystals_stay_apart_from_each_other() -> None:
    found = assessor(AnswerConfig(energies=False), FCC, SQUEEZED).answer(PROMPT, [])
    assert sorted(crystal.origin for crystal in found) == ["mp-134, observed", "mp-135, observed"]


def test_known_crystals_can_be_left_out() -> None:
    found = assessor(AnswerConfig(energies=False, known="none"), FCC).answer(PROMPT, [attempt(0, BCC, -1.0)])
    assert [crystal.space_group_number for crystal in found] == [229]


def test_drawn_crystals_are_relaxed_and_known_ones_are_not() -> None:
    swollen = replace(BCC, cell=(3.4, 3.4, 3.4, 90.0, 90.0, 90.0))
    found = assessor(AnswerConfig(), FCC, energies=True).answer(PROMPT, [attempt(0, swollen, -1.0)])
    by_group = {crystal.space_group_number: crystal for crystal in found}
    assert by_group[225].description == FCC
    relaxed = by_group[229]
    assert relaxed.cell.volume / 2 == pytest.approx(16.6, abs=0.3)
    assert relaxed.energy is not None
    assert relaxed.energy.relaxed < relaxed.energy.as_given
    assert relaxed.energy.reason == "none here"
    assert relaxed.attempt.description == swollen  # as drawn it stays in the record


def test_a_draw_that_swells_stays_as_it_was_drawn() -> None:
    """It follows a known crystal, so its volume is known better than the potential knows it."""
    dense = replace(BCC, cell=(2.9, 2.9, 2.9, 90.0, 90.0, 90.0))  # 12.2 A3 an atom; the potential wants 16.6
    follows = replace(attempt(0, dense, -1.0), followed=Followed("mp-1", "Ga", 0.9))
    (found,) = assessor(AnswerConfig(), energies=True).answer(PROMPT, [follows])
    assert found.description == dense
    assert found.flags == ("not relaxed",)
    assert found.energy is not None
    assert found.energy.relaxed is None
    assert found.energy.reason.startswith("volume changes by +3")


def test_a_distorted_copy_is_shown_in_the_higher_symmetry() -> None:
    (found,) = assessor(AnswerConfig(energies=False)).answer(PROMPT, [attempt(0, SQUEEZED, -1.0)])
    assert found.space_group_number == 225
    assert found.flags == ("drawn as I4/mmm",)


def test_with_a_space_group_nothing_is_promoted() -> None:
    asked = make_prompt("Al", space_group=139)
    (found,) = assessor(AnswerConfig(energies=False)).answer(asked, [attempt(0, SQUEEZED, -1.0)])
    assert found.space_group_number == 139
    assert found.flags == ("nearly Fm-3m",)


def test_chances_fall_and_sum_to_at_most_one() -> None:
    draws = [attempt(0, BCC, -1.0)]
    found = assessor(AnswerConfig(energies=False), FCC).answer(PROMPT, draws)
    chances = [crystal.probability for crystal in found]
    assert chances == sorted(chances, reverse=True)
    assert 0 < sum(chances) <= 1


def test_formulas_that_the_model_chose_are_not_compared() -> None:
    free: NamedPrompt = make_prompt()
    iron = replace(BCC, amounts=(("Fe", 1),), sites=(Site("Fe", "a", ()),))
    found = assessor(AnswerConfig(energies=False)).answer(free, [attempt(0, BCC, -1.0), attempt(1, iron, -2.0)])
    assert [(crystal.formula, crystal.probability) for crystal in found] == [("Al", None), ("Fe", None)]


def test_a_search_adds_lower_crystals() -> None:
    simple = Description(AL, 1, 221, (2.55, 2.55, 2.55, 90.0, 90.0, 90.0), (Site("Al", "a", ()),))
    config = AnswerConfig(known="none", search=60)
    judge = EnergyJudge(Shells(), NoHull("none here"))
    searching = Assessor(config, energies=judge, searcher=Searcher.of(config, SampleConfig(max_atoms=4), None))
    found = searching.answer(PROMPT, [attempt(0, simple, -1.0)])
    lowest = min(found, key=lambda crystal: crystal.energy.lowest)
    assert (lowest.origin, lowest.count, lowest.log_probability) == ("search", 0, None)
    assert lowest.energy.lowest < -0.2 < min(c.energy.lowest for c in found if c.attempt is not None)
    assert lowest.probability is not None
    assert Searcher.of(AnswerConfig(), SampleConfig(), None) is None


def test_a_checkpoint_without_reference_energies_gets_those_of_the_full_edition(tmp_path: Path) -> None:
    pytest.importorskip("chgnet")
    assessor = Assessor.open(tmp_path, AnswerConfig())
    assert assessor.energies is not None
    assert isinstance(assessor.energies.hull, HullTable)
