import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase.build import bulk, molecule
from ase.db import connect
from pymatgen.core import Lattice, Structure

from crystallm.base.errors import InputError
from crystallm.data.preparing.convert import Row, convert
from crystallm.data.sources.readers import Form
from crystallm.data.sources.sources import SourceKind, open_source

CSCL = Structure(Lattice.cubic(4.12), ["Cs+", "Cl-"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def test_folder_is_read_below_and_in_order(folder: Callable[..., Path], cifs: SimpleNamespace) -> None:
    contents = {"b/rutile.CIF": cifs.rutile, "a.cif": cifs.rock_salt, "._a.cif": b"\0\5", "notes.txt": "no"}
    source = open_source(str(folder(contents)))
    assert source.kind is SourceKind.FOLDER
    assert [entry.id for entry in source.entries()] == ["a.cif", "b/rutile.CIF"]


def test_a_single_cif(folder: Callable[..., Path], cifs: SimpleNamespace) -> None:
    path = folder({"rutile.cif": cifs.rutile}) / "rutile.cif"
    assert [entry.text for entry in open_source(str(path)).entries()] == [cifs.rutile]


def test_archives(tmp_path: Path, cifs: SimpleNamespace) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/rutile.cif", cifs.rutile)
        archive.writestr("readme.md", "hello")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("x/rutile.cif")
        member.size = len(cifs.rutile)
        tar.addfile(member, io.BytesIO(cifs.rutile.encode()))
    for name, kind in (("a.zip", SourceKind.ZIP), ("a.tar.gz", SourceKind.TAR)):
        source = open_source(str(tmp_path / name))
        assert source.kind is kind
        assert [(entry.id, entry.text) for entry in source.entries()] == [("x/rutile.cif", cifs.rutile)]


def test_parquet_with_ids_and_splits(tmp_path: Path, cifs: SimpleNamespace) -> None:
    table = pa.table({"material_id": ["mp-1", "mp-2"], "cif": [cifs.rutile, None], "part": ["train", "heldout"]})
    pq.write_table(table, tmp_path / "a.parquet")
    first, second = open_source(str(tmp_path / "a.parquet")).entries("part")
    assert (first.id, first.split, first.form) == ("mp-1", "train", Form.CIF)
    assert (second.id, second.split, second.form) == ("mp-2", "heldout", Form.UNREADABLE)
    with pytest.raises(InputError, match="no column 'split'; it has material_id, cif, part"):
        list(open_source(str(tmp_path / "a.parquet")).entries("split"))


@pytest.mark.parametrize("suffix", ["db", "json"])
def test_ase_database(tmp_path: Path, suffix: str, cifs: SimpleNamespace, config: Callable[..., object]) -> None:
    with connect(tmp_path / f"ase.{suffix}") as database:
        database.write(bulk("NaCl", "rocksalt", a=5.64))
        database.write(molecule("H2O"))
    source = open_source(str(tmp_path / f"ase.{suffix}"))
    assert source.kind is SourceKind.ASE
    first, second = source.entries()
    row = convert(first, config("x"))  # type: ignore[arg-type]
    assert first.id == "ase:1"
    assert isinstance(row, Row)
    assert "_space_group_IT_number 225\n_cell_length_a 5.6400" in row.text
    assert second.form is Form.UNREADABLE
    assert "not periodic" in second.text


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        ([CSCL.as_dict(), CSCL.as_dict()], ["s:0", "s:1"]),
        ({"mp-22865": CSCL.as_dict()}, ["mp-22865"]),
        ([{"material_id": "mp-22865", "structure": CSCL.as_dict()}], ["mp-22865"]),
        (CSCL.as_dict(), ["s:0"]),
    ],
)
def test_json_of_structures(tmp_path: Path, content: object, ids: list[str], config: Callable[..., object]) -> None:
    path = tmp_path / "s.json.gz"
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    source = open_source(str(path))
    assert source.kind is SourceKind.JSON
    entries = list(source.entries())
    assert [entry.id for entry in entries] == ids
    row = convert(entries[0], config("x"))  # type: ignore[arg-type]
    assert isinstance(row, Row)
    assert row.traits.space_group == 221


def test_json_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('[{"a": 1}]')
    (entry,) = open_source(str(tmp_path / "s.json")).entries()
    assert entry.form is Form.UNREADABLE
    (tmp_path / "cut.json").write_text('[{"a": 1}')
    with pytest.raises(InputError, match=r"cut\.json is not valid JSON"):
        list(open_source(str(tmp_path / "cut.json")).entries())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing/folder/deep", None, "does not exist; give a folder"),
        ("a.parquet", b"PARX not a table", "is damaged"),
        ("a.zip", b"not a zip", "is damaged"),
        ("a.txt", b"some text", "cannot tell what"),
        ("a.db", b"", "is empty"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        open_source(str(tmp_path / name))
    assert name in str(caught.value)


def test_a_folder_without_cifs_says_what_it_holds(folder: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"holds no \.cif file; it holds \.parquet files, give those by name"):
        open_source(str(folder({"a.parquet": b"x"})))


def test_a_truncated_parquet(tmp_path: Path, cifs: SimpleNamespace) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"cif": [cifs.rutile]}), path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"a\.parquet is damaged"):
        list(open_source(str(path)).entries())


def test_a_damaged_member_of_an_archive_is_an_entry_that_says_so(tmp_path: Path, cifs: SimpleNamespace) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("one.cif", cifs.rutile)
        archive.writestr("two.cif", cifs.rock_salt)
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[60:70] = b"0123456789"
    (tmp_path / "a.zip").write_bytes(content)
    forms = [entry.form for entry in open_source(str(tmp_path / "a.zip")).entries()]
    assert forms == [Form.UNREADABLE, Form.CIF]


def test_a_data_set_name_is_for_the_hub_only_if_nothing_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_source("someone/crystals").kind is SourceKind.HUB
    (tmp_path / "someone").mkdir()
    with pytest.raises(InputError, match="does not exist"):
        open_source("someone/crystals")


def test_the_fingerprint_changes_with_the_files(folder: Callable[..., Path], cifs: SimpleNamespace) -> None:
    path = folder({"a.cif": cifs.rutile})
    before = open_source(str(path)).fingerprint()
    assert before["files"] == 1
    folder({"b.cif": cifs.rutile})
    assert open_source(str(path)).fingerprint()["digest"] != before["digest"]
