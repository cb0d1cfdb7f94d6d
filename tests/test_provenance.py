"""Records of where a result comes from, and writing that leaves no half files."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import crystallm
from crystallm.base import provenance as module
from crystallm.base.errors import InputError
from crystallm.base.provenance import git_commit, output_folder, provenance, sha256, write_json, write_text


@dataclass(frozen=True)
class Config:
    seed: int = 3
    place: Path = Path("a/b")


def test_record(tmp_path: Path) -> None:
    (tmp_path / "salt.cif").write_text("data_NaCl\n")
    record = provenance(Config(), inputs=[tmp_path / "salt.cif"], command=["/usr/bin/crystallm", "text", "salt.cif"])
    assert record["crystallm"] == crystallm.__version__
    assert record["config"] == {"seed": 3, "place": "a/b"}
    assert record["inputs"] == {"salt.cif": hashlib.sha256(b"data_NaCl\n").hexdigest()}
    assert record["command"] == "crystallm text salt.cif"
    assert {"torch", "pymatgen"} <= record["packages"].keys()
    json.dumps(record)


def test_a_folder_is_hashed_file_by_file(tmp_path: Path) -> None:
    folder = tmp_path / "cifs"
    (folder / "more").mkdir(parents=True)
    for name in ("a.cif", "more/b.cif"):
        (folder / name).write_text(name)
    assert list(provenance(inputs=[folder])["inputs"]) == ["cifs/a.cif", "cifs/more/b.cif"]


def test_a_record_does_not_tell_whose_machine_it_was() -> None:
    command = ["/home/kim/bin/crystallm", "train", "/home/kim/train/default.yaml", "--out=/scratch/kim/run"]
    assert provenance(command=command)["command"] == "crystallm train default.yaml --out=run"
    module_command = ["/home/kim/site-packages/crystallm/__main__.py", "text", "a b.cif"]
    assert provenance(command=module_command)["command"] == "crystallm text 'a b.cif'"


def test_commit_is_this_repository_or_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commit = git_commit()
    assert commit is None or len(commit.removesuffix("+")) == 40
    monkeypatch.setattr(module, "__file__", str(tmp_path / "provenance.py"))  # installed, outside any clone
    assert git_commit() is None


def test_hash_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*nothing\.cif: No such file"):
        sha256(tmp_path / "nothing.cif")


def test_json_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_json(path, {"config": Config(), "unit": "Å"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"config": {"seed": 3, "place": "a/b"}, "unit": "Å"}
    with pytest.raises(TypeError, match="JSON cannot hold"):
        write_json(path, {"a set": {1}})
    assert json.loads(path.read_text(encoding="utf-8"))["unit"] == "Å"
    assert os.listdir(tmp_path) == ["report.json"]


@pytest.mark.parametrize("write", [write_text, write_json, lambda path, _: output_folder(path)])
def test_place_that_cannot_be_written(write: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot (write|create the folder) .*inside.*; choose another place"):
        write(tmp_path / "file" / "inside", "x")


def test_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as for anyone but root
    with pytest.raises(InputError, match="no permission to write into"):
        output_folder(tmp_path)


def test_output_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    assert output_folder(tmp_path / "a" / "b").is_dir()
    assert output_folder(tmp_path / "a" / "b").is_dir()
