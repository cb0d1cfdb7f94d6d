"""Known crystals of a prompt."""

from types import SimpleNamespace

import pytest

from crystallm.sample.answers.known import known_crystals
from crystallm.sample.prompts import make_prompt


class Library:
    """Knows crystals of every formula with 1, 2, 6 and 24 formula units in the primitive cell."""

    def known(self, amounts: object, *, formula_units: int | None, space_group: int | None) -> list[SimpleNamespace]:
        wanted = [formula_units] if formula_units else [1, 2, 6, 24]
        return [SimpleNamespace(formula_units=units, description=None) for units in wanted]


@pytest.mark.parametrize(
    ("formula", "formula_units", "found"),
    [("CH", None, [1, 2, 6, 24]), ("C6H6", None, [6, 24]), ("C6H6", 2, [2]), (None, None, [])],
)
def test_a_multiple_leaves_out_other_cells(formula: str | None, formula_units: int | None, found: list[int]) -> None:
    item = make_prompt(formula, formula_units=formula_units)
    crystals = known_crystals(item, Library())  # type: ignore[arg-type]
    assert [crystal.known.formula_units for crystal in crystals if crystal.known is not None] == found
