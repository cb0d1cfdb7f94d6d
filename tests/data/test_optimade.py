"""Crystals in the columns of LeMat-Bulk, as its data set card lists them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crystallm.cli import main
from crystallm.crystal.cell import Cell, Reason, Rejection
from crystallm.data import PrepareConfig, prepare
from crystallm.data.optimade import read_optimade
from crystallm.data.sources import open_source
from crystallm.errors import InputError

MATRIX = pa.list_(pa.list_(pa.float64()))

LEMAT_BULK = pa.schema(
    [
        ("elements", pa.list_(pa.string())),
        ("nsites", pa.int32()),
        ("chemical_formula_anonymous", pa.string()),
        ("chemical_formula_reduced", pa.string()),
        ("chemical_formula_descriptive", pa.string()),
        ("nelements", pa.int8()),
        ("dimension_types", pa.list_(pa.int8())),
        ("nperiodic_dimensions", pa.int8()),
        ("lattice_vectors", MATRIX),
        ("immutable_id", pa.string()),
        ("cartesian_site_positions", MATRIX),
        ("species", pa.string()),
        ("species_at_sites", pa.list_(pa.string())),
        ("last_modified", pa.string()),
        ("elements_ratios", pa.list_(pa.float64())),
        ("stress_tensor", MATRIX),
        ("energy", pa.float64()),
        ("magnetic_moments", pa.list_(pa.float64())),
        ("forces", MATRIX),
        ("total_magnetization", pa.float64()),
        ("dos_ef", pa.float64()),
        ("functional", pa.string()),
        ("cross_compatibility", pa.bool_()),
        ("entalpic_fingerprint", pa.string()),
    ]
)

CUBIC = [[5.64, 0.0, 0.0], [0.0, 5.64, 0.0], [0.0, 0.0, 5.64]]
FACE_CENTRED = [[0.0, 2.82, 2.82], [2.82, 0.0, 2.82], [2.82, 2.82, 0.0]]


def species(*symbols: str) -> str:
    plain = {"mass": None, "attached": None, "nattached": None, "original_name": None, "concentration": [1.0]}
    return json.dumps([{"name": symbol, "chemical_symbols": [symbol], **plain} for symbol in symbols])


def row(name: str | None, lattice: Any, positions: Any, symbols: list[str], **others: Any) -> dict[str, Any]:
    about = {"elements": sorted(set(symbols)), "nsites": len(symbols), "nperiodic_dimensions": 3, "functional": "pbe"}
    columns = {"immutable_id": name, "lattice_vectors": lattice, "cartesian_site_positions": positions}
    return about | columns | {"species_at_sites": symbols, "species": species(*about["elements"])} | others


SALT = row("oqmd-1", FACE_CENTRED, [[0.0, 0.0, 0.0], [2.82, 2.82, 2.82]], ["Na", "Cl"])
"""Rock salt in its primitive cell, a = 5.64 angstrom."""

ROWS = [
    SALT,
    row("mp-22865", [[4.12, 0, 0], [0, 4.12, 0], [0, 0, 4.12]], [[0, 0, 0], [2.06, 2.06, 2.06]], ["Cs", "Cl"]),
    row(
        "agm003",
        [[4.5937, 0, 0], [0, 4.5937, 0], [0, 0, 2.9587]],
        [
            *([0, 0, 0], [2.29685, 2.29685, 1.47935]),
            *([1.40246, 1.40246, 0], [3.19124, 3.19124, 0], [3.69931, 0.89439, 1.47935], [0.89439, 3.69931, 1.47935]),
        ],
        ["Ti", "Ti", "O", "O", "O", "O"],
    ),
    row("flat", [[1, 0, 0], [2, 0, 0], [0, 0, 1]], [[0, 0, 0]], ["Na"]),
    row("no lattice", None, [[0, 0, 0]], ["Na"]),
    row("short", CUBIC, [[0, 0, 0]], ["Na", "Cl"]),
    row("dummy", CUBIC, [[0, 0, 0]], ["Xx"]),
    row("slab", CUBIC, [[0, 0, 0]], ["Na"], nperiodic_dimensions=2),
    row(None, CUBIC, [[0, 0, 0], [0.1, 0, 0]], ["Na", "Na"]),
]


@pytest.fixture
def lemat(tmp_path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(ROWS, schema=LEMAT_BULK), tmp_path / "lemat.parquet")
    return tmp_path / "lemat.parquet"


def test_lemat_bulk_is_prepared_and_its_bad_rows_are_listed(lemat: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--workers", "1", "--val-fraction", "0", "--test-fraction", "0"]
    assert main(["data", "prepare", str(lemat), str(out), *arguments]) == 0
    prepared = pq.read_table(out / "train.parquet").to_pydict()
    assert prepared["id"] == ["oqmd-1", "mp-22865", "agm003"]
    assert prepared["reduced_formula"] == ["NaCl", "CsCl", "TiO2"]
    assert prepared["space_group"] == [225, 221, 136]
    assert "_cell_length_a 5.6400" in prepared["text"][0]
    drops = {line["id"]: line["reason"] for line in map(json.loads, (out / "drops.jsonl").read_text().splitlines())}
    assert drops == {
        "flat": "bad cell",
        "no lattice": "bad cell",
        "short": "unreadable",
        "dummy": "unknown species",
        "slab": "unreadable",
        "lemat:8": "atoms too close",
    }


def test_a_mixture_on_a_site_is_disorder() -> None:
    mixed = [{"name": "M", "chemical_symbols": ["Na", "K"], "concentration": [0.5, 0.5]}]
    vacant = [{"name": "M", "chemical_symbols": ["Na"], "concentration": [0.9]}]
    renamed = [{"name": "M", "chemical_symbols": ["Na"], "concentration": [1.0]}]
    record = {"lattice_vectors": CUBIC, "cartesian_site_positions": [[2.82, 0, 0]], "species_at_sites": ["M"]}
    for some in (mixed, vacant):
        result = read_optimade(record | {"species": some})
        assert isinstance(result, Rejection)
        assert result.reason is Reason.DISORDERED
    cell = read_optimade(record | {"species": renamed})
    assert isinstance(cell, Cell)
    assert cell.numbers.tolist() == [11]
    assert cell.positions.tolist() == [[0.5, 0, 0]]


def test_a_part_of_a_hub_data_set(monkeypatch: pytest.MonkeyPatch, config: Callable[..., PrepareConfig]) -> None:
    import datasets

    asked = []

    def load(name: str, part: str | None) -> dict[str, datasets.Dataset]:
        asked.append((name, part))
        return {"train": datasets.Dataset(pa.Table.from_pylist(ROWS[:3], schema=LEMAT_BULK))}

    monkeypatch.setattr(datasets, "load_dataset", load)
    report = prepare(config("LeMaterial/LeMat-Bulk:compatible_pbe"))
    assert asked == [("LeMaterial/LeMat-Bulk", "compatible_pbe")]
    assert report["counts"]["written"]["train"] == 3


def test_a_table_that_lacks_one_of_the_columns(tmp_path: Path) -> None:
    columns = [field.name for field in LEMAT_BULK if field.name != "species_at_sites"]
    table = pa.Table.from_pylist(ROWS, schema=LEMAT_BULK).select(columns)
    pq.write_table(table, tmp_path / "lemat.parquet")
    with pytest.raises(InputError, match="has no column 'species_at_sites'; it has elements"):
        list(open_source(str(tmp_path / "lemat.parquet")).entries())
