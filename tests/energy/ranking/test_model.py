"""Chances of candidates from their evidence."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from crystallm.base.errors import InputError
from crystallm.energy.ranking import Evidence, Question, Ranking, load_ranking, probabilities, read_ranking

DRAWN = Evidence(
    space_group=136, formula_units=2, n_sites=6, n_orbits=2, n_free=3, draw=0, draws=1, ranking_log_probability=-1.0
)


def test_softmax_with_none_of_these() -> None:
    """Two candidates one decade of score apart: by hand."""
    ranking = Ranking({"observed": math.log(10)}, none=math.log(5))
    known = replace(DRAWN, known=True, observed=True)
    assert ranking.probabilities([known, DRAWN]) == pytest.approx([10 / 16, 1 / 16])


@pytest.mark.parametrize("question", list(Question))
def test_shipped_chances_sum_to_less_than_one(question: Question) -> None:
    evidence = [DRAWN, replace(DRAWN, draw=3, ranking_log_probability=-5.0)]
    chances = probabilities(evidence, question)
    assert 0 < chances[1] < chances[0] < 1
    assert sum(chances) < 1


@pytest.mark.parametrize("question", list(Question))
def test_no_candidates(question: Question) -> None:
    assert probabilities([], question) == []


def test_order_of_candidates_does_not_matter() -> None:
    evidence = [DRAWN, replace(DRAWN, draw=3, ranking_log_probability=-5.0)]
    forwards, backwards = probabilities(evidence), probabilities(evidence[::-1])
    assert forwards == pytest.approx(backwards[::-1])


def test_nature_takes_the_observed_crystal_of_lowest_energy() -> None:
    """Rutile and anatase are observed, a hypothetical crystal lies lower."""
    known = Evidence(space_group=136, formula_units=2, n_sites=6, n_orbits=2, n_free=3, known=True, observed=True)
    chances = probabilities(
        [
            replace(known, dft_above_hull=0.0, energy=-8.9),
            replace(known, space_group=141, dft_above_hull=0.02, energy=-8.88),
            replace(known, space_group=227, observed=False, energy=-8.92),
        ]
    )
    assert chances[0] == max(chances)


def test_weights_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "weights.json"
    file.write_text(json.dumps({"weights": {"votes": 2}, "none": -1}))
    assert read_ranking(file) == Ranking({"votes": 2.0}, -1.0)


@pytest.mark.parametrize(
    ("text", "told"),
    [("{", "no ranking"), ('{"weights": {"luck": 1}, "none": 0}', "'luck'"), ('{"weights": []}', "no ranking")],
)
def test_files_that_are_no_ranking(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "weights.json"
    file.write_text(text)
    with pytest.raises(InputError, match=told):
        read_ranking(file)


def test_shipped_files_say_how_they_were_made() -> None:
    for question in Question:
        assert load_ranking(question).weights


def test_database_rows_have_weights_for_candidates_with_energies() -> None:
    """The lower one of two equal draws is more likely; without energies they are equal."""
    low, high = replace(DRAWN, relaxed_energy=-5.0), replace(DRAWN, relaxed_energy=-4.9)
    chances = probabilities([low, high], Question.DATABASE)
    assert chances[0] > chances[1]
    equal = probabilities([DRAWN, DRAWN], Question.DATABASE)
    assert equal[0] == pytest.approx(equal[1])
