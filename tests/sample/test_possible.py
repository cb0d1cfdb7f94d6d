"""What is possible within limits, and what is said of it."""

import pytest

from crystallm.base.errors import CompositionError
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.sample.grammar.limits import Limits
from crystallm.sample.grammar.possible import Prompt, check_prompt, multiple_that_fits, notes_on_units, units_that_fit

CH, C, TIO2 = parse_formula("CH"), parse_formula("C"), parse_formula("TiO2")
BERYL = parse_formula("Be3Al2Si6O18")

IMPOSSIBLE = [
    (Prompt(TIO2, 1, 136), "136 (P4_2/mnm) cannot hold TiO2 with 1 formula units"),
    (Prompt(TIO2, 1, 136), "possible here: 2, 4"),
    (Prompt(parse_formula("NaClF"), 1, 225), "225 (Fm-3m) cannot hold"),
    (Prompt(parse_formula("NaCl"), None, 222), "222 (Pn-3n) cannot hold NaCl with 1 to 40 formula units"),
    (Prompt(parse_formula("NaCl"), None, 222), "it would have more symmetry; choose another space group"),
    (Prompt(TIO2, 27), "81 atoms in the primitive cell, more than the limit of 80 (1 to 26 formula units of TiO2 fit)"),
    (Prompt(BERYL, 3), "87 atoms in the primitive cell, more than the limit of 80 (1 or 2 formula units"),
    (
        Prompt(parse_formula("C60H29")),
        "89 atoms in the primitive cell, more than the limit of 80; raise it with --max-",
    ),
]


@pytest.mark.parametrize(("prompt", "message"), IMPOSSIBLE)
def test_impossible_prompts_are_named(prompt: Prompt, message: str) -> None:
    with pytest.raises(CompositionError) as caught:
        check_prompt(prompt, Limits())
    assert message in str(caught.value)


def test_garnet_is_possible() -> None:
    """Pyrope and its kin: Z = 4 in the primitive cell of Ia-3d, 80 atoms."""
    prompt = Prompt(parse_formula("Ca3Al2Si3O12"), None, 230)
    check_prompt(prompt, Limits())
    assert units_that_fit(prompt.amounts or (), prompt, Limits()) == [4]


@pytest.mark.parametrize(
    ("prompt", "most", "units"),
    [
        (Prompt(CH), 6, [1, 2, 3]),
        (Prompt(CH, multiple=6), 80, [6, 12, 18, 24, 30, 36]),
        (Prompt(CH, multiple=6), 11, [1, 2, 3, 4, 5]),  # none fits: all are left
        (Prompt(CH, 4, multiple=6), 80, [4]),  # what is said of the cell goes first
        (Prompt(C, multiple=60), 80, [60]),
        (Prompt(TIO2, None, 136, multiple=2), 12, [2, 4]),
        (Prompt(TIO2, None, 136, multiple=4), 12, [4]),
        (Prompt(TIO2, None, 136, multiple=5), 12, [2, 4]),
    ],
)
def test_formula_units_are_a_multiple_where_that_fits(prompt: Prompt, most: int, units: list[int]) -> None:
    limits = Limits(max_atoms=most)
    assert units_that_fit(prompt.amounts or (), prompt, limits) == units
    kept = multiple_that_fits(prompt, limits)
    assert kept == (prompt.multiple if all(z % prompt.multiple == 0 for z in units) and not prompt.formula_units else 1)


def test_formula_with_its_multiple() -> None:
    assert (Prompt(TIO2, multiple=2).formula, Prompt(TIO2).formula, Prompt().formula) == ("Ti2O4", "TiO2", None)


def test_notes_on_units() -> None:
    assert notes_on_units(Prompt(TIO2), Limits()) == ()
    assert notes_on_units(Prompt(TIO2, None, 136), Limits()) == ()
    assert notes_on_units(Prompt(), Limits()) == ()
    assert notes_on_units(Prompt(CH, multiple=6), Limits()) == (
        "taken as 6 HC: the formula units of the primitive cell are a multiple of 6",
    )
    assert notes_on_units(Prompt(C, multiple=100), Limits()) == (
        "a primitive cell of at most 80 atoms cannot hold a multiple of 100 C: taken as C, whatever the number; "
        "--max-atoms 100 allows it",
    )
    (note,) = notes_on_units(Prompt(TIO2, None, 136, multiple=5), Limits(max_atoms=15))
    assert note.startswith("a primitive cell of at most 15 atoms in space group 136 cannot hold a multiple of 5 TiO2")
    assert "--max-atoms" not in note
    assert notes_on_units(Prompt(BERYL), Limits()) == (
        "a primitive cell of at most 80 atoms holds 1 or 2 formula units of Be3Al2Si6O18; --max-atoms raises the limit",
    )
    assert notes_on_units(Prompt(BERYL, 2), Limits()) == ()
