"""The table of reference energies from a made-up corpus: nothing is computed twice, nothing is lost."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from crystallm.base.errors import ConfigError, InputError
from crystallm.cli import main as cli
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.energy.building import BuildConfig, Builder, read_chunk, write_chunk
from crystallm.energy.hull.hull import AboveHull, HullTable
from crystallm.energy.hull.references import read_corpus
from crystallm.energy.potentials.protocol import NoEnergy
from crystallm.energy.relaxing import RelaxedReference

EMT = "ase.calculators.emt:EMT"
FACES = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]


def cif(a: float, elements: Sequence[str]) -> str:
    return str(CifWriter(Structure(Lattice.cubic(a), elements, FACES)))


ROWS = [
    {"id": "cu", "reduced_formula": "Cu", "cif": cif(3.65, ["Cu"] * 4), "e_above_hull": 0.0},
    {"id": "cu-wide", "reduced_formula": "Cu", "cif": cif(4.2, ["Cu"] * 4), "e_above_hull": None},
    {"id": "au", "reduced_formula": "Au", "cif": cif(4.1, ["Au"] * 4), "e_above_hull": None},
    {"id": "cu3au", "reduced_formula": "Cu3Au", "cif": cif(3.75, ["Au", "Cu", "Cu", "Cu"]), "e_above_hull": 0.01},
    {"id": "broken", "reduced_formula": "CuAu", "cif": "data_nothing", "e_above_hull": None},
]


@pytest.fixture
def corpus_file(tmp_path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "corpus.parquet")
    return tmp_path / "corpus.parquet"


def gain(cifs: Sequence[str]) -> list[RelaxedReference | NoEnergy]:
    """A relaxation that gains 10 meV, whatever the crystal."""
    return [RelaxedReference(0.0, -0.01, 3, True, 1.0, 0.1) for _ in cifs]


def refuse(cifs: Sequence[str]) -> list[RelaxedReference | NoEnergy]:
    return [NoEnergy("came apart while relaxing") for _ in cifs]


def never(cifs: Sequence[str]) -> list[RelaxedReference | NoEnergy]:
    raise AssertionError("nothing is left to relax")


def test_the_command_makes_a_table_and_goes_on_where_it_stopped(
    corpus_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library = tmp_path / "benchmark" / "templates.parquet"
    library.parent.mkdir()
    pq.write_table(pa.table({"id": ["cu", "au"]}), library)
    command = ["energy", "table", str(corpus_file), "--potential", EMT, "--out", str(tmp_path / "out")]
    assert cli([*command, "--library", str(library)]) == 0
    assert "4 of 5 crystals have an energy" in capsys.readouterr().out
    table = HullTable.read(tmp_path / "out" / "hull.parquet")
    # EMT was fitted to these: energies are about those of the bulk metals, and Cu3Au forms.
    above = table.above(parse_formula("Cu3Au"), 0.0)
    assert isinstance(above, AboveHull)
    assert [(part.id, part.relaxed) for part in above.products] == [("cu3au", True)]
    assert table.rows["id"].to_pylist() == ["au", "cu", "cu3au"] or len(table) == 3
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["without_energy"] == {"no atoms": 1}
    assert report["complete"] is True
    whole, edition = report["tables"]
    assert (whole["formulas"], whole["on_hull"], whole["on_hull_relaxed"]) == (3, 3, 3)
    assert (edition["folder"], edition["formulas"]) == ("benchmark", 2)
    assert "Cu" not in edition["elements_without_reference"]
    energies = pq.read_table(tmp_path / "out" / "energies.parquet").to_pylist()
    assert energies[0]["relaxed_energy"] < energies[0]["energy"]
    assert energies[4] == {"id": "broken", "energy": None, "relaxed_energy": None}
    # The wide copper cannot reach the hull by gaining 20 meV.
    assert energies[1]["relaxed_energy"] is None
    lines = (tmp_path / "out" / "relaxed.jsonl").read_text()
    assert cli(command) == 0
    assert (tmp_path / "out" / "relaxed.jsonl").read_text() == lines


def build(corpus_file: Path, out: Path, relaxer: object, **settings: object) -> Builder:
    out.mkdir(exist_ok=True)
    config = BuildConfig(potential=EMT, **settings)  # type: ignore[arg-type]
    builder = Builder(read_corpus([corpus_file]), config, out, relaxer)  # type: ignore[arg-type]
    builder.energies_as_given()
    return builder


def test_a_line_that_a_kill_cut_off_is_done_again(corpus_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert build(corpus_file, out, gain).relax()
    whole = (out / "relaxed.jsonl").read_text().splitlines()
    (out / "relaxed.jsonl").write_text("\n".join(whole)[:-20])
    assert build(corpus_file, out, gain).relax()
    assert (out / "relaxed.jsonl").read_text().splitlines()[-1] == whole[-1]
    assert build(corpus_file, out, never).relax()


def test_energies_computed_before_are_taken_over(corpus_file: Path, tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.mkdir()
    write_chunk(before / "a.npz", ["cu", "au", "other"], np.array([-7.0, -8.0, 0.0]), ["", "", ""])
    builder = Builder(read_corpus([corpus_file]), BuildConfig(potential=EMT), before, gain, [before])
    builder.energies_as_given()
    assert builder.energies.given[[0, 2]].tolist() == [-7.0, -8.0]
    assert np.isfinite(builder.energies.given[[1, 3]]).all()  # these were not there
    (before / "a.npz").write_bytes(b"broken")
    with pytest.raises(InputError, match="delete it, and they are computed again"):
        read_chunk(before / "a.npz")


def test_what_comes_apart_is_no_reference(corpus_file: Path, tmp_path: Path) -> None:
    builder = build(corpus_file, tmp_path / "out", refuse)
    assert builder.relax()
    assert np.isnan(builder.energies.best(builder.corpus)).all()
    assert set(builder.refused) == {"came apart while relaxing"}


def test_time_is_over(corpus_file: Path, tmp_path: Path) -> None:
    builder = build(corpus_file, tmp_path / "out", gain, hours=1e-9)
    assert not builder.relax()
    report = builder.write([(None, tmp_path / "out")], hours=0.0, complete=False)
    assert report["relaxed"] == 1
    assert HullTable.read(tmp_path / "out" / "hull.parquet").rows["relaxed"].to_pylist().count(True) == 1


def test_wrong_settings() -> None:
    with pytest.raises(ConfigError, match="time_limit -1"):
        BuildConfig(time_limit=-1)
    with pytest.raises(ConfigError, match="hours -1"):
        BuildConfig(hours=-1)


def test_wrong_files(corpus_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["energy", "table", str(corpus_file), "--potential", EMT, "--out", str(tmp_path / "out")]
    assert cli([*command, "--library", str(tmp_path / "none.parquet")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert cli([*command[:-1], str(corpus_file)]) == 2
