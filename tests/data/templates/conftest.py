"""51 rows of the general corpus (Materials Project CC-BY-4.0, COD CC0, OQMD, WBM CC-BY-4.0), and a library of them."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from crystallm.crystal.cell import Cell
from crystallm.crystal.cif import read_cif
from crystallm.crystal.description import Description, describe
from crystallm.crystal.formulas.composition import format_formula
from crystallm.data.templates.writing import write_library
from crystallm.tokenizer.layout import WYCKOFF

CRYSTALS = Path(__file__).parent / "crystals.parquet"


def prepare_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A file as `crystallm data prepare` writes it, of rows with `id` and `cif`."""
    import pyarrow as pa

    lines = []
    for row in rows:
        cell = read_cif(row["cif"])
        assert isinstance(cell, Cell)
        found = describe(cell)
        assert isinstance(found, Description)
        formula = format_formula(found.amounts)
        text = WYCKOFF.write(found)
        lines.append((row["id"], text, formula, found.n_sites, found.space_group))
    names = ["id", "text", "reduced_formula", "n_sites", "space_group"]
    pq.write_table(pa.table(dict(zip(names, map(list, zip(*lines, strict=True)), strict=True))), path)
    return path


@pytest.fixture(scope="session")
def rows() -> dict[str, dict[str, Any]]:
    """The rows by id."""
    return {row["id"]: row for row in pq.read_table(CRYSTALS).to_pylist()}


@pytest.fixture(scope="session")
def prepared_crystals(tmp_path_factory: pytest.TempPathFactory, rows: dict[str, dict[str, Any]]) -> Path:
    """All rows, prepared."""
    return prepare_rows(tmp_path_factory.mktemp("prepared") / "train.parquet", list(rows.values()))


@pytest.fixture(scope="session")
def known_file(tmp_path_factory: pytest.TempPathFactory, prepared_crystals: Path) -> Path:
    """A library of all rows with what their source knows."""
    path = tmp_path_factory.mktemp("known") / "templates.parquet"
    write_library([prepared_crystals], path, layout="wyckoff", corpus=[CRYSTALS])
    return path
