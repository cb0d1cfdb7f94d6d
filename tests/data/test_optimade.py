"""Crystals in the columns of LeMat-Bulk, as its data set card lists them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crystallm.base.errors import InputError
from crystallm.cli import main
from crystallm.crystal.cell import Cell, Reason, Rejection
from crystallm.data import PrepareConfig, prepare
from crystallm.data.sources.optimade import read_optimade
from crystallm.data.sources.sources import open_source

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


BRUCITE = {
    "lattice_vectors": [[3.142, 0, 0], [-1.571, 2.72105, 0], [0, 0, 4.766]],
    "cartesian_site_positions": [[0, 0, 0], [0, 1.81403, 1.05], [1.571, 0.90702, 3.716]],
    "species_at_sites": ["Mg", "O", "O"],
    "species": species("Mg", "O"),
    "nsites": 3,
}
"""Brucite, Mg(OH)2, without its hydrogen."""

HYDROXYL = [
    {"name": "Mg", "chemical_symbols": ["Mg"], "concentration": [1.0]},
    {"name": "O", "chemical_symbols": ["O"], "concentration": [1.0], "attached": ["H"], "nattached": [1]},
]


@pytest.mark.parametrize(
    ("columns", "reason", "said"),
    [
        ({"species": HYDROXYL}, Reason.CONTRADICTORY, "species 'O' has H attached"),
        ({"species": json.dumps(HYDROXYL)}, Reason.CONTRADICTORY, "species 'O' has H attached"),
        ({"structure_features": ["site_attachments"]}, Reason.CONTRADICTORY, "site_attachments"),
        ({"structure_features": ["implicit_atoms"]}, Reason.CONTRADICTORY, "atoms of the crystal that have no site"),
        ({"structure_features": '["implicit_atoms"]'}, Reason.CONTRADICTORY, "implicit_atoms"),
        ({"structure_features": ["disorder"]}, Reason.DISORDERED, "'disorder'"),
        ({"structure_features": ["assemblies"]}, Reason.DISORDERED, "assemblies"),
        ({"assemblies": [{"sites_in_groups": [[1], [2]]}]}, Reason.DISORDERED, "exclude each other"),
        ({"chemical_formula_reduced": "H2MgO2"}, Reason.CONTRADICTORY, "is H2MgO2, the sites make MgO2"),
        ({"nsites": 5}, Reason.CONTRADICTORY, "nsites is 5, the record lists 3 sites"),
    ],
)
def test_what_a_record_says_of_its_sites_is_taken_at_its_word(
    columns: dict[str, Any], reason: Reason, said: str
) -> None:
    refusal = read_optimade(BRUCITE | columns)
    assert isinstance(refusal, Rejection)
    assert refusal.reason is reason
    assert said in refusal.detail
    trusted = read_optimade(BRUCITE | columns, trust_atoms=True)
    assert isinstance(trusted, Cell) == (reason is Reason.CONTRADICTORY)


@pytest.mark.parametrize("formula", ["MgO2", "Mg2O4", None])
def test_a_record_that_agrees_with_itself_is_read(formula: str | None) -> None:
    cell = read_optimade(BRUCITE | {"chemical_formula_reduced": formula, "structure_features": []})
    assert isinstance(cell, Cell)
    assert cell.amounts == {8: 2, 12: 1}


def test_hydrogen_attached_to_a_species_that_no_site_holds_is_not_missing() -> None:
    unused = [*HYDROXYL[:1], {**HYDROXYL[1], "name": "OH"}, {"name": "O", "chemical_symbols": ["O"]}]
    assert isinstance(read_optimade(BRUCITE | {"species": unused}), Cell)


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


@pytest.mark.parametrize(
    ("columns", "word"),
    [
        ({"elements": ["Cl", "H", "Na"], "chemical_formula_reduced": None}, "elements are Cl H Na"),
        ({"dimension_types": [1, 1, 0], "nperiodic_dimensions": None}, "dimension_types"),
    ],
)
def test_elements_and_dimensions_that_contradict(columns: dict[str, Any], word: str) -> None:
    record = {"lattice_vectors": FACE_CENTRED, "cartesian_site_positions": [[0, 0, 0], [2.82, 2.82, 2.82]]}
    record |= {"species_at_sites": ["Na", "Cl"], "elements": ["Cl", "Na"], "dimension_types": [1, 1, 1]}
    assert isinstance(read_optimade(record), Cell)
    refusal = read_optimade(record | columns)
    assert isinstance(refusal, Rejection)
    assert word in refusal.detail
