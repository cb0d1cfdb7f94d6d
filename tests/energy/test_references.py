"""Which crystals of a made-up corpus make a hull: copper and gold with energies by hand."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crystallm.base.errors import InputError
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.energy.hull.hull import DftAboveHull, Hull, make_hull
from crystallm.energy.hull.references import (
    Corpus,
    Energies,
    entries,
    excluded,
    importance,
    landscape,
    lowest_rows,
    missing_elements,
    read_corpus,
    to_relax,
)

ROWS = [
    # id, formula, eV per atom as given, origin, observed, published eV above hull
    ("cu", "Cu", 0.0, "dft", True, 0.0),
    ("au", "Au", 0.0, "dft", True, 0.0),
    ("aucu", "CuAu", -1.0, "dft", True, 0.0),
    ("aucu-high", "CuAu", -0.99, "dft", False, 0.01),
    ("aucu-far", "CuAu", -0.5, "dft", False, 0.5),
    ("cu3au", "Cu3Au", -0.485, "dft", False, None),  # 15 meV above the line from Cu to CuAu
    ("cu-cell", "Cu", 0.1, "experiment", None, None),
]


def corpus_of(folder: Path, rows: list[tuple[str, str, float, str, bool | None, float | None]]) -> Corpus:
    names = ("id", "reduced_formula", "cif", "origin", "experimentally_observed", "e_above_hull")
    table = [dict(zip(names, (one, text, f"data_{one}", *rest), strict=True)) for one, text, _, *rest in rows]
    pq.write_table(pa.Table.from_pylist(table), folder / "corpus.parquet")
    return read_corpus([folder / "corpus.parquet"])


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return corpus_of(tmp_path, ROWS)


@pytest.fixture
def energies() -> Energies:
    given = np.array([row[2] for row in ROWS])
    return Energies(given, np.full(len(ROWS), np.nan), np.zeros(len(ROWS), dtype=bool))


def names(corpus: Corpus, rows: list[int]) -> list[str]:
    return [corpus.ids[row] for row in rows]


def test_a_corpus_is_read(corpus: Corpus) -> None:
    assert len(corpus) == 7
    assert [corpus.formulas[place] for place in corpus.formula] == [parse_formula(row[1]) for row in ROWS]
    assert corpus.measured.tolist() == [False] * 6 + [True]
    assert corpus.observed.tolist() == [True, True, True, False, False, False, True]
    assert corpus.cifs([3, 0]) == ["data_aucu-high", "data_cu"]


def test_a_corpus_without_its_columns_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "corpus.parquet")
    with pytest.raises(InputError, match="has no column 'reduced_formula'; its columns are id"):
        read_corpus([tmp_path / "corpus.parquet"])
    (tmp_path / "corpus.parquet").write_text("no parquet")
    with pytest.raises(InputError, match="cannot read"):
        read_corpus([tmp_path / "corpus.parquet"])


def test_the_lowest_row_of_each_formula(corpus: Corpus, energies: Energies) -> None:
    # The measured cell of copper has no energy before it is relaxed.
    assert names(corpus, lowest_rows(corpus, energies.best(corpus)).tolist()) == ["cu", "au", "aucu", "cu3au"]
    energies.relaxed[6], energies.tried[6] = -0.01, True
    assert names(corpus, lowest_rows(corpus, energies.best(corpus)).tolist())[0] == "cu-cell"
    assert lowest_rows(corpus, np.full(7, np.nan)).tolist() == [-1] * 4


def test_hulls_of_all_systems_agree_with_phase_diagrams() -> None:
    rng = np.random.default_rng(0)
    symbols = ["Li", "Fe", "P", "O"]
    texts = [*symbols, "Li2O", "FeO", "Fe2O3", "FeP", "P2O5", "LiFeO2", "FePO4", "LiFePO4", "Li3PO4", "LiP", "Li3P"]
    formulas = [parse_formula(text) for text in texts]
    energies = np.where(np.arange(len(texts)) < 4, 0.0, rng.uniform(-1.5, 0.2, len(texts)))
    found = landscape(formulas, energies)
    for place, amounts in enumerate(formulas):
        system = frozenset(symbol for symbol, _ in amounts)
        inside = [
            (place, other, energies[place])
            for place, other in enumerate(formulas)
            if {symbol for symbol, _ in other} <= system
        ]
        hull = make_hull(system, inside)
        assert isinstance(hull, Hull)
        assert found.hull[place] == pytest.approx(energies[place] - hull.above(amounts, energies[place]), abs=1e-9)
        assert found.vertex[place] == (hull.below(amounts) == [place])


def test_no_hull_without_an_element() -> None:
    found = landscape([parse_formula("Na"), parse_formula("NaCl"), parse_formula("Cl")], np.array([0.0, -3.0, np.nan]))
    assert np.isnan(found.hull).tolist() == [False, True, True]
    assert found.vertex.tolist() == [True, False, False]


def relaxable(corpus: Corpus, energies: Energies, window: float) -> list[str]:
    return names(corpus, to_relax(corpus, energies, window=window)[0])


def test_what_makes_a_hull_is_relaxed_and_what_comes_near_it(corpus: Corpus, energies: Energies) -> None:
    # Cu3Au would come below the hull by gaining 20 meV, not by 10; the measured cell is taken to gain up to 300.
    assert relaxable(corpus, energies, 0.02) == ["cu", "au", "aucu", "cu-cell", "aucu-high", "cu3au"]
    assert relaxable(corpus, energies, 0.001) == ["cu", "au", "aucu", "cu-cell"]
    # Once the hull is relaxed and lies lower, Cu3Au cannot reach it any more.
    energies.tried[[0, 1, 2, 6]] = True
    energies.relaxed[[0, 1, 2, 6]] = -0.02, -0.02, -1.02, -0.02
    assert relaxable(corpus, energies, 0.02) == []


def test_what_cannot_reach_a_hull_need_not_be_looked_at_again(corpus: Corpus, energies: Energies) -> None:
    rows, active = to_relax(corpus, energies, window=0.001)
    cu3au = corpus.formulas.index(parse_formula("Cu3Au"))
    assert active.tolist() == [place != cu3au for place in range(4)]
    assert to_relax(corpus, energies, window=0.001, among=active)[0] == rows
    # A crystal that made a hull is refused: among all formulas the next ones come up.
    energies.given[[2, 3, 4]], energies.tried[[0, 1, 2, 6]] = np.nan, True
    assert to_relax(corpus, energies, window=0.001, among=active)[0] == []
    assert names(corpus, to_relax(corpus, energies, window=0.001)[0]) == ["cu3au"]


def test_observed_formulas_and_small_systems_come_first(tmp_path: Path) -> None:
    rows = [
        ("rare", "LiFePO4", -6.0, "dft", False, None),
        ("seen", "NaFePO4", -6.0, "dft", True, None),
        ("three", "NaFeO2", -5.0, "dft", False, None),
        ("two", "FeO", -5.0, "dft", None, None),
    ]
    assert importance(corpus_of(tmp_path, rows)).tolist() == [4, 0, 3, 0]


def test_the_rows_of_a_table(corpus: Corpus, energies: Energies) -> None:
    energies.tried[[0, 2]] = True
    energies.relaxed[[0, 2]] = -0.01, -0.9  # the second ended higher than it began
    found = {row.id: row for row in entries(corpus, energies, np.ones(7, dtype=bool))}
    assert {name: (row.energy, row.relaxed) for name, row in found.items()} == {
        "cu": (-0.01, True),
        "au": (0.0, False),
        "aucu": (-1.0, False),
        "cu3au": (-0.485, False),
    }
    assert found["aucu"].dft == DftAboveHull(0.0, "aucu")
    assert found["cu3au"].dft is None
    assert missing_elements(found.values())[:3] == ["H", "He", "Li"]


def test_an_edition_knows_its_own_rows_only(corpus: Corpus, energies: Energies) -> None:
    keep = np.array([row[0] not in ("aucu", "cu3au") for row in ROWS])
    found = {row.id: row for row in entries(corpus, energies, keep)}
    assert set(found) == {"cu", "au", "aucu-high"}
    assert found["aucu-high"].dft == DftAboveHull(0.01, "aucu-high")


def test_elements_that_nothing_was_fitted_to_are_no_reference(tmp_path: Path) -> None:
    rows = [(name, name, -1.0, "dft", None, None) for name in ("Po", "PbPo", "Pb")]
    corpus = corpus_of(tmp_path, rows)
    assert excluded(corpus, []).tolist() == [True, True, False]
    assert excluded(corpus, ["Pb"]).tolist() == [True, True, True]
