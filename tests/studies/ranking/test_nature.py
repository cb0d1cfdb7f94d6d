"""Labels of what nature makes, from a library of a few rows."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from studies.ranking.nature import (
    STEPS,
    measured_cases,
    observed_cases,
    plain_firsts,
    read_candidates,
    read_textbook,
    textbook_cases,
)

ROWS = [  # id, formula, group, observed, measured, DFT above the hull, energy, copy_of
    ("mp-2657", "TiO2", 136, True, False, 0.01, -9.0, None),
    ("mp-390", "TiO2", 141, True, False, 0.0, -9.01, None),
    ("mp-9", "TiO2", 227, False, False, None, -9.02, None),
    ("mp-568662", "BaCl2", 225, True, False, 0.02, -5.0, None),
    ("mp-23199", "BaCl2", 62, True, False, 0.0, -5.1, None),
    ("cod-1", "BaCl2", 225, True, True, None, None, "mp-568662"),
    ("cod-2", "BaCl2", 1, True, True, None, None, None),
    ("mp-1", "NaCl", 225, True, False, 0.0, -3.0, None),
]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    columns = list(zip(*ROWS, strict=True))
    energies = [[None if x is None else round(x * STEPS) for x in columns[place]] for place in (5, 6)]
    table = pa.table(
        {
            "id": columns[0],
            "formula": columns[1],
            "space_group": columns[2],
            "formula_units": [1] * len(ROWS),
            "observed": columns[3],
            "measured": columns[4],
            "dft_above_hull": energies[0],
            "energy": energies[1],
            "copies": [None] * len(ROWS),
            "copy_of": columns[7],
        }
    )
    pq.write_table(table, tmp_path / "library.parquet")
    return tmp_path / "library.parquet"


def test_copies_are_one_candidate(library: Path) -> None:
    found = read_candidates(library)
    assert set(found) == {"TiO2", "BaCl2"}  # nothing is to be chosen for NaCl
    fluorite = next(one for one in found["BaCl2"] if one.space_group == 225)
    assert fluorite.source_ids == ("mp-568662", "cod-1")
    assert fluorite.measured
    assert fluorite.dft_above_hull == pytest.approx(0.02)


def test_measured_is_right_and_hidden(library: Path) -> None:
    """The measured crystal without a computed twin is no candidate."""
    (case,) = measured_cases(read_candidates(library), frozenset())
    assert [one.space_group for one, right in zip(case.evidence, case.right, strict=True) if right] == [225]
    assert not any(one.measured or "cod-1" in one.source_ids for one in case.evidence)
    assert len(case.evidence) == 2


def test_lowest_observed_is_right_and_its_energy_hidden(library: Path) -> None:
    (case,) = observed_cases(read_candidates(library), frozenset({"BaCl2"}))
    assert [one.space_group for one, right in zip(case.evidence, case.right, strict=True) if right] == [141]
    assert all(one.dft_above_hull is None for one in case.evidence)


def test_formulas_that_are_left_out(library: Path) -> None:
    assert not measured_cases(read_candidates(library), frozenset({"BaCl2"}))


def test_textbook(library: Path, tmp_path: Path) -> None:
    """Rutile or anatase; anatase comes first by DFT."""
    list_file = tmp_path / "textbook.txt"
    list_file.write_text("TiO2 136 141\nBaCl2 225\n\n")
    cases = textbook_cases(read_candidates(library), read_textbook(list_file))
    assert [int(case.right.sum()) for case in cases] == [2, 1]
    assert plain_firsts(cases, 1) == 1
    assert plain_firsts(cases, 2) == 2
