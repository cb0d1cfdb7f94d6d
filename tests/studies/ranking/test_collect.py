"""Verdicts and evidence of draws, with crystals that can be checked by hand."""

import json
from dataclasses import replace

import pytest

from crystallm.crystal.cif import write_cif
from crystallm.crystal.description import Description, Site
from crystallm.sample.drawing.attempt import Attempt
from crystallm.sample.prompts import make_prompt
from studies.ranking.collect import line_of
from studies.ranking.energies import chosen

ROCK_SALT = Description(
    amounts=(("Mg", 1), ("O", 1)),
    formula_units=1,
    space_group=225,
    cell=(4.21, 4.21, 4.21, 90.0, 90.0, 90.0),
    sites=(Site("Mg", "a", ()), Site("O", "b", ())),
)
CAESIUM_CHLORIDE = replace(ROCK_SALT, space_group=221, cell=(2.65, 2.65, 2.65, 90.0, 90.0, 90.0))


def attempt(number: int, description: Description | None, log_probability: float = -1.0) -> Attempt:
    """A draw."""
    return Attempt(
        prompt=make_prompt("MgO", formula_units=1),
        number=number,
        description=description,
        reason=None if description else "given up",
        text=f"text {number}",
        token_log_probabilities=(log_probability,),
        protostructure_log_probability=log_probability,
        ranking_log_probability=log_probability,
        n_tokens=1,
        steps=1,
        redrawn={},
    )


@pytest.fixture
def attempts() -> list[Attempt]:
    """CsCl type, given up, rock salt twice, the second time a little larger."""
    larger = replace(ROCK_SALT, cell=(4.3, 4.3, 4.3, 90.0, 90.0, 90.0))
    made = [CAESIUM_CHLORIDE, None, ROCK_SALT, larger]
    return [attempt(n, one, -3.0 if n == 0 else -1.0 - n / 10) for n, one in enumerate(made)]


def test_draws_of_rock_salt(attempts: list[Attempt]) -> None:
    target = {"id": "mp-1265", "cif": write_cif(ROCK_SALT), "observed": True}
    line = line_of(target, make_prompt("MgO", formula_units=1), attempts, None)
    assert [verdict and verdict[0] is not None for verdict in line["verdicts"]] == [False, None, True, True]
    assert [(one["number"], one["draws"]) for one in line["candidates"]] == [(2, 2), (0, 1)]
    assert line["candidates"][0]["space_group"] == 225
    assert json.loads(json.dumps(line)) == line | {
        "candidates": [one | {"source_ids": list(one["source_ids"])} for one in line["candidates"]]
    }


def test_targets_that_get_energies(attempts: list[Attempt]) -> None:
    """Not those that have them, nor those of too many atoms."""
    target = {"id": "mp-1265", "cif": write_cif(ROCK_SALT), "observed": True}
    line = line_of(target, make_prompt("MgO", formula_units=1), attempts, None)
    texts = [json.dumps(line | {"target": name}) for name in "abc"]
    assert [one["target"] for one in chosen(texts, {"a"}, most=2, max_sites=20)] == ["b"]
    assert not list(chosen(texts, set(), most=2, max_sites=1))
