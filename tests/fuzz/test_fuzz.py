"""Spoiled files never crash the reader, the checks or the layouts; both judges say the same of what is read.

A few seconds here. `CRYSTALLM_FUZZ_EXAMPLES=20000 pytest tests/fuzz` looks longer, at other changes each time;
docs/reference/reading.md lists what was found so.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.checks.fast_validity import check_cif_fast
from crystallm.crystal.checks.validity import CheckName, check_cif
from crystallm.crystal.cif import read_cif, read_structures, write_cif
from crystallm.crystal.description import Description, describe
from crystallm.tokenizer.layout import get_layout
from tests.fuzz.mutations import Edit, edits, spoiled

TESTS = Path(__file__).parents[1]
MOST_ATOMS = 60
"""Larger cells are read, but not judged: that takes seconds."""

JUDGED = (CheckName.READABLE, CheckName.FORMULA, CheckName.MULTIPLICITY, CheckName.DISTANCE, CheckName.DENSITY)
"""Checks whose verdicts must be those of the reference, whatever the file."""

asked = os.environ.get("CRYSTALLM_FUZZ_EXAMPLES")
fuzz = settings(
    max_examples=int(asked or 300),
    derandomize=asked is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@cache
def cifs() -> list[str]:
    """A few dozen CIFs: cases of the reader's tests and crystals as the program writes them."""
    files = sorted((TESTS / "crystal" / "cif" / "cases").glob("*.cif"))
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
    return texts + [write_cif(crystal) for text in texts if isinstance(crystal := described(text), Description)]


def described(text: str) -> Description | Rejection:
    cell = read_cif(text)
    return cell if isinstance(cell, Rejection) else describe(cell)


def test_there_is_something_to_spoil() -> None:
    assert len(cifs()) >= 50


@fuzz
@given(st.integers(0, 10_000), edits)
def test_a_file_is_read_or_refused_with_a_reason(which: int, changes: list[Edit]) -> None:
    text = spoiled(cifs()[which % len(cifs())], changes)
    found = read_structures(text)
    assert found
    for _, cell in found:
        if isinstance(cell, Rejection):
            assert str(cell).strip()
        else:
            assert np.isfinite(cell.lattice).all()
            assert np.isfinite(cell.positions).all()
            assert len(cell.numbers) == len(cell.positions) > 0
            assert cell.volume >= 1.0
    first = read_cif(text)
    if isinstance(first, Cell):
        trusted = read_cif(text, trust_atoms=True)
        assert isinstance(trusted, Cell)
        assert trusted.amounts == first.amounts


@fuzz
@given(st.integers(0, 10_000), edits)
def test_both_judges_read_the_same_and_say_the_same(which: int, changes: list[Edit]) -> None:
    text = spoiled(cifs()[which % len(cifs())], changes)
    cell = read_cif(text, trust_atoms=True)  # what a file says of its content is a check of its own
    if isinstance(cell, Cell) and len(cell) > MOST_ATOMS:
        return
    reference, fast = check_cif(text, names=JUDGED), check_cif_fast(text, names=JUDGED)
    assert [reference[name].passed for name in JUDGED] == [fast[name].passed for name in JUDGED]
    assert reference[CheckName.READABLE].passed == isinstance(cell, Cell)


@pytest.mark.parametrize("name", ["wyckoff", "crystallm"])
@fuzz
@given(which=st.integers(0, 10_000), changes=edits)
def test_texts_of_the_layouts_are_read_or_refused(name: str, which: int, changes: list[Edit]) -> None:
    layout = get_layout(name)
    found = layout.read(spoiled(texts(name)[which % len(texts(name))], changes))
    assert isinstance(found, Description) or str(found).strip()


@cache
def texts(name: str) -> list[str]:
    layout = get_layout(name)
    made = []
    for text in cifs():
        cell = read_cif(text)
        if isinstance(cell, Rejection) or isinstance(crystal := describe(cell), Rejection):
            continue
        tokens = layout.tokens_of(cell, crystal)
        if not isinstance(tokens, Rejection):
            made.append(layout.text(tokens))
    return made
