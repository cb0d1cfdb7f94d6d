"""Prompts of what people type, and what they are told of it."""

from pathlib import Path

import pytest

from crystallm.base.errors import CompositionError, CrystallmError, InputError
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.sample.grammar.limits import Limits
from crystallm.sample.grammar.possible import Prompt
from crystallm.sample.prompts import make_prompt, read_prompts, with_unseen, within


@pytest.mark.parametrize(
    ("formula", "name", "multiple"),
    [
        ("O2Ti", "TiO2", 1),
        ("CuSO4·5H2O", "CuH10SO9", 1),
        ("C6H6", "C6H6", 6),
        ("C60", "C60", 60),
        ("Ti2O4", "Ti2O4", 2),
        ("2TiO2", "Ti2O4", 2),
        ("Hg2Cl2", "Hg2Cl2", 2),
        ("Na2O2", "Na2O2", 2),
    ],
)
def test_multiple_is_kept(formula: str, name: str, multiple: int) -> None:
    item = make_prompt(formula)
    assert item.name == name
    assert item.prompt == Prompt(parse_formula(formula), None, None, multiple)


def test_formula_units_go_before_the_multiple() -> None:
    item = make_prompt("C6H6", formula_units=24)
    assert (item.name, item.prompt.formula_units, item.prompt.multiple) == ("C6H6_Z24", 24, 1)
    assert within(item, Limits()).notes == ()


def test_notes_reach_the_prompt() -> None:
    assert make_prompt("TiO2").notes == ()
    assert make_prompt("D2O").notes == ("D (deuterium) is taken as H: the model knows elements, not isotopes",)
    assert make_prompt("SIO2").notes == ("SIO2 is taken letter by letter; for SiO2 write SiO2",)
    assert make_prompt("CaSO4.0.5H2O").notes[0] == "CaSO4.0.5H2O is read as CaSO4·0.5H2O, that is Ca2S2O9H2"


def test_what_does_not_fit_is_dropped_and_said() -> None:
    dropped = within(make_prompt("C100"), Limits())
    assert (dropped.name, dropped.prompt.multiple) == ("C100", 1)
    assert "cannot hold a multiple of 100 C" in dropped.notes[0]
    kept = within(make_prompt("C100"), Limits(max_atoms=100))
    assert kept.prompt.multiple == 100
    plain = make_prompt("TiO2")
    assert within(plain, Limits()) == plain
    with pytest.raises(CompositionError, match="more than the limit of 2"):
        within(plain, Limits(max_atoms=2))


@pytest.mark.parametrize("formula", ["Og", "RfO2", "Cn"])
def test_single_atoms_are_refused(formula: str) -> None:
    with pytest.raises(CompositionError, match=r"elements beyond lawrencium \(Lr, 103\) were made atom by atom"):
        make_prompt(formula)


def test_unseen_elements_are_said() -> None:
    item = with_unseen(make_prompt("Md2O3"), {"O", "Ti"})
    assert item.notes == ("no crystal with Md was in training or is in the library: what follows is a guess",)
    plain = make_prompt("TiO2")
    assert with_unseen(plain, {"O", "Ti"}) is plain
    free = make_prompt()
    assert with_unseen(free, {"O"}) is free


@pytest.mark.parametrize("formula", [float("nan"), 5, ["TiO2"]])
def test_a_formula_is_a_text(formula: object) -> None:
    with pytest.raises(InputError, match="a formula is a text"):
        make_prompt(formula)  # type: ignore[arg-type]


def test_odd_lines_of_a_file_are_sentences(tmp_path: Path) -> None:
    """Endless brackets, a number of 400 digits, half a character: each is refused or taken, and can be printed."""
    path = tmp_path / "prompts.jsonl"
    for line, said in (
        ("[" * 100_000, "line 1: not JSON"),
        ('{"formula": "NaCl' + "9" * 400 + '"}', "has 404 letters, more than 200"),
        ('{"formula": "NaCl", "formula_units": 1' + "0" * 5000 + "}", "line 1: not JSON"),
        ('{"formula": "Na\\ud800Cl"}', "cannot read formula"),
        ('{"space_group": 1e999}', "unknown space group"),
    ):
        path.write_text(line)
        with pytest.raises(CrystallmError, match=said) as caught:
            read_prompts(path)
        str(caught.value).encode()
    path.write_text('{"formula": "NaCl", "id": "a\\ud800"}')
    (prompt,) = read_prompts(path)
    assert prompt.name == "a\\ud800"
