"""Dealing out draws to processes."""

import numpy as np
import pytest

from crystallm.sample.output.shares import UNKNOWN_FORMULA, shares, work_of
from crystallm.sample.prompts import make_prompt


@pytest.mark.parametrize("number", [1, 2, 5])
def test_every_piece_is_dealt_out_once_and_evenly(number: int) -> None:
    work = np.random.default_rng(0).integers(1, 30, 100).tolist()
    dealt = shares(work, number)
    assert sorted(place for places in dealt for place in places) == list(range(100))
    assert all(places == sorted(places) for places in dealt)
    loads = [sum(work[place] for place in places) for places in dealt]
    assert max(loads) - min(loads) <= max(work)


def test_fewer_pieces_than_processes() -> None:
    assert shares([3, 9], 4) == [[1], [0], [], []]


def test_work_grows_with_the_formula() -> None:
    prompts = [make_prompt(formula).prompt for formula in ("NaCl", "TiO2", "YBa2Cu3O7")]
    assert [work_of(prompt) for prompt in prompts] == [2, 3, 13]
    assert work_of(make_prompt(None).prompt) == UNKNOWN_FORMULA
