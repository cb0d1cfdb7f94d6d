"""Rows of parquet files: a text that is too large is refused where it lies, and costs no other row."""

import json
from pathlib import Path
from types import SimpleNamespace

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crystallm.base.input_files import Unread
from crystallm.cli import main
from crystallm.data.sources.readers import Form
from crystallm.data.sources.sources import open_source
from crystallm.data.sources.tables import rows_of
from crystallm.eval.sets.inputs import read_records

LARGE = "5 MB, more than the 1 MB of max_file_mb; raise that if it is meant"


@pytest.fixture
def table(tmp_path: Path, cifs: SimpleNamespace) -> Path:
    """Rutile, a cell of 5 MB, an empty cell, and rutile again."""
    texts = [cifs.rutile, " " * 5_000_000, None, cifs.rutile]
    pq.write_table(pa.table({"id": ["a", "large", "none", "b"], "cif": texts}), tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("dictionary", [True, False])
def test_a_large_cell_costs_no_other(kind: pa.DataType, dictionary: bool, tmp_path: Path) -> None:
    cells = pa.array(["one", "x" * 2_000_000, None, "one"], kind)
    pq.write_table(pa.table({"cif": cells, "n": [1, 2, 3, 4]}), tmp_path / "a.parquet", use_dictionary=dictionary)
    rows = list(rows_of(tmp_path / "a.parquet", max_file_mb=1))
    assert [row["n"] for row in rows] == [1, 2, 3, 4]
    assert [row["cif"] for row in rows] == ["one", Unread(LARGE.replace("5", "2", 1)), None, "one"]
    assert [row["cif"] for row in rows_of(tmp_path / "a.parquet", ["cif"], max_file_mb=2)][1] == "x" * 2_000_000


def test_a_cell_that_is_no_text(tmp_path: Path) -> None:
    cells = pa.Array.from_buffers(pa.string(), 2, pa.array([b"caf\xe9", b"b"]).buffers())
    pq.write_table(pa.table({"cif": cells}), tmp_path / "a.parquet")
    assert [row["cif"] for row in rows_of(tmp_path / "a.parquet")] == ["café", "b"]  # Latin-1, as in files
    pq.write_table(pa.table({"cif": [1, 2]}), tmp_path / "a.parquet")
    assert [row["cif"] for row in rows_of(tmp_path / "a.parquet")] == [1, 2]


def test_a_text_that_comes_again_is_held_once(tmp_path: Path) -> None:
    """A file of some kilobytes whose rows together hold 8 GB."""
    cells = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["x" * 4_000_000]))
    pq.write_table(pa.table({"cif": cells}), tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 100_000
    before = psutil.Process().memory_info().rss
    records = read_records(tmp_path / "a.parquet")
    assert len(records) == 2000
    assert psutil.Process().memory_info().rss - before < 300e6


def test_it_is_counted_and_listed(
    table: Path, tmp_path: Path, cifs: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = list(open_source(str(table)).entries(max_file_mb=1))
    assert [(entry.id, entry.form) for entry in entries] == [
        ("a", Form.CIF),
        ("large", Form.UNREADABLE),
        ("none", Form.UNREADABLE),
        ("b", Form.CIF),
    ]
    assert entries[1].text == LARGE
    assert [str(record.cif)[:40] for record in read_records(table, max_file_mb=1)] == [
        cifs.rutile[:40],
        f"unreadable: {LARGE}"[:40],
        "no atoms: no CIF in the row",
        cifs.rutile[:40],
    ]
    out = tmp_path / "out"
    options = ["--max-file-mb", "1", "--workers", "1", "--val-fraction", "0", "--test-fraction", "0"]
    assert main(["data", "prepare", str(table), str(out), *options]) == 0
    drops = [json.loads(line) for line in (out / "drops.jsonl").read_text().splitlines()]
    assert ("large", "unreadable", LARGE) in [(drop["id"], drop["reason"], drop["detail"]) for drop in drops]
    assert main(["eval", "validity", str(table), "--fast", "--workers", "1", "--max-file-mb", "1"]) == 0
    printed = capsys.readouterr()
    assert f"not read: large: unreadable: {LARGE}" in printed.err
    assert printed.err.endswith("crystallm: 2 of 4 structures could not be read; the reasons stand above\n")
    assert "readable           2/4" in printed.out


def test_a_large_line_of_json_costs_no_other(tmp_path: Path, cifs: SimpleNamespace) -> None:
    lines = [{"cif": cifs.rutile}, {"cif": " " * 5_000_000}, {"cif": cifs.rutile}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    first, large, last = read_records(tmp_path / "a.jsonl", max_file_mb=1)
    assert (first.cif, last.cif, last.name) == (cifs.rutile, cifs.rutile, "line 3")
    assert str(large.cif) == f"unreadable: {LARGE}"
