"""What sources and tables of energies say of the crystals of a library."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crystallm.base.errors import InputError
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.data.__main__ import main
from crystallm.data.consistency.findings import Contradiction, Finding, write_findings
from crystallm.data.templates import SCHEMA, TemplateLibrary
from crystallm.data.templates.schema import TEMPLATE_COLUMNS
from crystallm.data.templates.writing import write_library

from .conftest import CRYSTALS, prepare_rows

Rows = dict[str, dict[str, Any]]


def test_the_command_joins_sources_and_energies(
    prepared_crystals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    energies = tmp_path / "energies.csv"
    energies.write_text("id,energy,relaxed_energy\nmp-2657,-9.12341,-9.2\nmp-390,nan,-9.15\nnobody,-1,-1\n")
    out = tmp_path / "templates.parquet"
    main(["templates", str(prepared_crystals), str(out), "--source", str(CRYSTALS), "--energies", str(energies)])
    told = capsys.readouterr().out
    assert "51 known crystals" in told
    assert "51 crystals compared with their sources: largest distance 0.00" in told
    assert "0 too far" in told
    assert "2 with energies" in told
    found = {crystal.id: crystal for crystal in TemplateLibrary(out).known(parse_formula("TiO2"))}
    assert (found["mp-2657"].energy, found["mp-2657"].relaxed_energy) == (-9.1234, -9.2)
    assert (found["mp-390"].energy, found["mp-390"].relaxed_energy) == (None, -9.15)


def test_templates_do_not_change(prepared_crystals: Path, known_file: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.parquet"
    write_library([prepared_crystals], plain, layout="wyckoff")
    assert pq.read_table(plain).column_names == SCHEMA.names
    assert pq.read_table(plain, columns=TEMPLATE_COLUMNS) == pq.read_table(known_file, columns=TEMPLATE_COLUMNS)
    formula = parse_formula("CaTiO3")
    found = TemplateLibrary(known_file).find(formula)
    assert any(template.observed for template in found)
    unknown = [replace(template, observed=None, energy_above_hull=None) for template in found]
    assert TemplateLibrary(plain).find(formula) == unknown


def test_energies_are_added_to_a_library_that_is_there(known_file: Path, tmp_path: Path) -> None:
    energies, out = tmp_path / "energies.parquet", tmp_path / "templates.parquet"
    pq.write_table(pa.table({"id": ["mp-66"], "energy": [-9.0]}), energies)
    written = write_library([known_file], out, layout="wyckoff", energies=[energies])
    assert (written.rows, written.energies) == (51, 1)
    before, after = pq.read_table(known_file), pq.read_table(out)
    assert after.drop_columns(["energy"]) == before.drop_columns(["energy"])
    assert next(c for c in TemplateLibrary(out).known(parse_formula("C")) if c.id == "mp-66").energy == -9.0


def test_held_out_rows_are_not_named(rows: Rows, tmp_path: Path) -> None:
    """A row of the source that is not in the library: its id appears nowhere, nor what is known of it."""
    train = prepare_rows(tmp_path / "train.parquet", [rows["cod-9009083"], rows["mp-390"]])
    out = tmp_path / "templates.parquet"
    write_library([train], out, layout="wyckoff", corpus=[CRYSTALS])
    found = {crystal.id: crystal for crystal in TemplateLibrary(out).known(parse_formula("TiO2"))}
    assert found["cod-9009083"].ids == ("cod-9009083",)  # its source lists mp-2657
    assert found["cod-9009083"].energy_above_hull is None
    assert found["mp-390"].ids == ("mp-390",)
    assert not found["mp-390"].measured


def test_equal_texts_are_one_row_that_keeps_their_ids(rows: Rows, tmp_path: Path) -> None:
    twin = rows["mp-2657"] | {"id": "mine-1"}
    train = prepare_rows(tmp_path / "train.parquet", [rows["mp-2657"], twin])
    out = tmp_path / "templates.parquet"
    assert write_library([train], out, layout="wyckoff").rows == 1
    assert TemplateLibrary(out).known(parse_formula("TiO2"))[0].ids == ("mp-2657", "mine-1")


def test_rows_that_contradict_themselves_are_left_out(
    prepared_crystals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    findings, out = tmp_path / "findings.jsonl", tmp_path / "templates.parquet"
    certain = Finding("mp-66", Contradiction.FORMULA, "as an example", certain=True)
    suspected = Finding("mp-390", Contradiction.VOLUME, "as an example", certain=False)
    write_findings(findings, [certain, suspected])
    main(["templates", str(prepared_crystals), str(out), "--without", str(findings)])
    told = capsys.readouterr().out
    assert "50 known crystals" in told
    assert "1 left out because they contradict themselves" in told
    assert "mp-66" not in {crystal.id for crystal in TemplateLibrary(out).known(parse_formula("C"))}
    assert "mp-390" in {crystal.id for crystal in TemplateLibrary(out).known(parse_formula("TiO2"))}


def test_the_result_does_not_depend_on_processes(prepared_crystals: Path, known_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "templates.parquet"
    write_library([prepared_crystals], out, layout="wyckoff", corpus=[CRYSTALS], workers=2)
    assert out.read_bytes() == known_file.read_bytes()


def test_a_run_that_was_stopped_goes_on(prepared_crystals: Path, known_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "templates.parquet"
    kept = tmp_path / ".templates.parquet.numbers.jsonl"
    table = pq.read_table(known_file).to_pylist()
    done = [row for row in table if row["exact"] is not None]
    lines = [json.dumps([r["id"], crc32(r["text"].encode()), [r["exact"].hex(), None, 0.0]]) for r in done]
    kept.write_text("\n".join(lines) + '\n["mp-')  # killed while it wrote
    written = write_library([prepared_crystals], out, layout="wyckoff", corpus=[CRYSTALS])
    assert written.deviations is not None
    assert sum(distance == 0.0 for distance in written.deviations.distances) >= len(done)
    assert out.read_bytes() == known_file.read_bytes()
    assert not kept.exists()


def test_files_without_the_columns_are_refused(prepared_crystals: Path, tmp_path: Path) -> None:
    out, wrong = tmp_path / "templates.parquet", tmp_path / "wrong.parquet"
    with pytest.raises(InputError, match="cannot read"):
        write_library([prepared_crystals], out, layout="wyckoff", corpus=[tmp_path / "missing.parquet"])
    pq.write_table(pa.table({"id": ["mp-66"]}), wrong)
    with pytest.raises(InputError, match="has no columns id, cif"):
        write_library([prepared_crystals], out, layout="wyckoff", corpus=[wrong])
    with pytest.raises(InputError, match="neither a column energy nor relaxed_energy"):
        write_library([prepared_crystals], out, layout="wyckoff", energies=[wrong])
    assert not out.exists()
