"""Anyone's samples find their targets: by record, by file name, by table; what does not is counted."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from ase import Atoms
from ase.io import write
from pymatgen.core import Structure

from crystallm.base.errors import InputError
from crystallm.crystal.cell import Reason, Rejection
from crystallm.eval.sets.inputs import read_records
from crystallm.eval.sets.samples import SampleSet, read_samples, samples_digest
from crystallm.eval.sets.targets import Target, read_targets

Writer = Callable[..., Path]


@pytest.fixture
def targets(parquet: Writer) -> list[Target]:
    return read_targets(parquet("two.parquet", "NaCl", "TiO2", split="val"))


def drawn(found: SampleSet) -> dict[str, list[int]]:
    return {name: [sample.number for sample in samples] for name, samples in found.by_target.items()}


def test_records_that_belong_nowhere_are_counted(targets: list[Target], tmp_path: Path, cifs: dict[str, str]) -> None:
    rows = [
        {"target_id": "NaCl", "sample": 1, "cif": cifs["NaCl"], "log_probability": -3.5},
        {"target_id": "NaCl", "sample": 0, "cif": None, "reason": "dead end"},
        {"target_id": "NaCl", "sample": 1, "cif": cifs["NaCl"]},
        {"target_id": "NaCl", "sample": 2.5, "cif": cifs["NaCl"]},
        {"target_id": "NaCl", "sample": "first", "cif": cifs["NaCl"]},
        {"target_id": "MgO", "sample": 0, "cif": cifs["NaCl"]},
        {"sample": 0, "cif": cifs["NaCl"]},
    ]
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"target_id": "TiO2", "sam')
    samples = read_samples(path, targets)
    assert [(s.number, s.scores) for s in samples.by_target["NaCl"]] == [(0, {}), (1, {"log_probability": -3.5})]
    assert samples.by_target["TiO2"] == []
    assert samples.ignored == {
        "target and sample number repeated": 1,
        "sample number is no whole number": 2,
        "no such target": 1,
        "names no target": 1,
        "broken line": 1,
    }
    assert drawn(samples.first(1)) == {"NaCl": [0], "TiO2": []}


def test_a_folder_of_cifs_by_name(targets: list[Target], tmp_path: Path, cifs: dict[str, str]) -> None:
    folder = tmp_path / "generated"
    (folder / "deeper").mkdir(parents=True)
    for name in ("NaCl__2", "NaCl__10", "deeper/TiO2__1", "KCl__1", "TiO2"):
        (folder / f"{name}.cif").write_text(cifs["NaCl"])
    (folder / "TiO2__2.cif").write_bytes(b"\x89PNG\0")
    samples = read_samples(folder, targets)
    assert drawn(samples) == {"NaCl": [2, 10], "TiO2": [1, 2]}
    assert isinstance(samples.by_target["TiO2"][1].cif, Rejection)
    assert samples.ignored == {"no such target": 1, "names no target": 1}
    before = samples_digest(folder)
    (folder / "NaCl__2.cif").write_text(cifs["KCl"])
    assert samples_digest(folder) != before


def test_ids_may_leave_out_the_name_of_the_data_set(parquet: Writer, tmp_path: Path, cifs: dict[str, str]) -> None:
    (target,) = read_targets(parquet("one.parquet", "NaCl"))
    named = [replace(target, id=f"mp_20:{name}") for name in ("mp-1", "mp-2")]
    (tmp_path / "mp-1__1.cif").write_text(cifs["NaCl"])
    (tmp_path / "mp_20:mp-2__1.cif").write_text(cifs["NaCl"])
    assert drawn(read_samples(tmp_path, named)) == {"mp_20:mp-1": [1], "mp_20:mp-2": [1]}


def test_any_names_with_a_table(targets: list[Target], tmp_path: Path, cifs: dict[str, str]) -> None:
    folder = tmp_path / "generated"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.cif").write_text(cifs["TiO2"])
    table = tmp_path / "table.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["file", "target_id", "sample"], ["a.cif", "TiO2", "7"], ["b.cif", "NaCl", ""]])
    samples = read_samples(folder, targets, table=table)
    assert drawn(samples) == {"NaCl": [0], "TiO2": [7]}
    assert samples.ignored == {"names no target": 1}
    for text, message in {
        "file,target_id\na.cif,TiO2\na.cif,NaCl\n": "occurs twice",
        "name,id\na.cif,TiO2\n": "needs the columns file and target_id",
        "file,target_id,sample\na.cif,TiO2,x\n": "whole number",
        "file,target_id\n": "no rows",
    }.items():
        table.write_text(text)
        with pytest.raises(InputError, match=message):
            read_samples(folder, targets, table=table)


def atoms_of(structure: Structure) -> Atoms:
    return Atoms(
        [site.specie.symbol for site in structure], structure.cart_coords, cell=structure.lattice.matrix, pbc=True
    )


def test_extxyz_frames_name_their_target(targets: list[Target], tmp_path: Path, crystals: dict[str, Structure]) -> None:
    frames = [atoms_of(crystals[name]) for name in ("NaCl", "TiO2", "TiO2")]
    for number, (frame, name) in enumerate(zip(frames, ("NaCl", "TiO2", "TiO2"), strict=True)):
        frame.info |= {"target_id": name, "sample": number}
    frames.append(Atoms("C", cell=[3, 3, 3], pbc=False, info={"target_id": "NaCl", "sample": 5}))
    path = tmp_path / "frames.extxyz"
    write(path, frames, format="extxyz")
    samples = read_samples(path, targets)
    assert drawn(samples) == {"NaCl": [0, 5], "TiO2": [1, 2]}
    assert samples.by_target["NaCl"][1].cif == Rejection(
        Reason.BAD_CELL, "the frame has no cell that repeats in three directions"
    )
    path.write_text(path.read_text() + "8\nbroken\nNa 0 0\n")
    *whole, broken = read_records(path)
    assert len(whole) == 4
    assert isinstance(broken.cif, Rejection)


@pytest.mark.parametrize("written", ['""', "''", "{}"])
def test_an_empty_name_of_a_frame_is_a_name(tmp_path: Path, written: str) -> None:
    path = tmp_path / "frames.extxyz"
    cell = 'Lattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3'
    path.write_text(f"1\n{cell} id={written} target_id={written}\nPo 0 0 0\n")
    (record,) = read_records(path)
    assert isinstance(record.cif, str)
    assert (record.fields["id"], record.fields["target_id"]) == ("", "")


def test_samples_for_no_target_end_with_the_remedy(targets: list[Target], tmp_path: Path, cifs: dict[str, str]) -> None:
    (tmp_path / "crystals").mkdir()
    (tmp_path / "crystals" / "1.cif").write_text(cifs["NaCl"])
    with pytest.raises(InputError, match=r"names no target 1\); name files <target id>__<sample number>\.cif"):
        read_samples(tmp_path / "crystals", targets)
