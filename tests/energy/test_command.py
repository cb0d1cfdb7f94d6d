"""`crystallm energy` and `crystallm relax` with a toy potential (EMT: copper, gold) and hulls by hand."""

import errno
import gzip
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from crystallm.base.whole_file import cannot_write
from crystallm.cli import main as cli
from crystallm.crystal.cell import Cell
from crystallm.energy import energy_above_hull, relax
from crystallm.energy.analysis import edition_hull
from crystallm.energy.hull.hull import DftAboveHull, HullEntry, HullTable, NoHull, write_table
from tests.full_disk import full_disk

EMT = "ase.calculators.emt:EMT"
FACES = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
COPPER = Structure(Lattice.cubic(3.65), ["Cu"] * 4, FACES)
CU3AU = Structure(Lattice.cubic(3.75), ["Au", "Cu", "Cu", "Cu"], FACES)
NACL = Structure.from_spacegroup(225, Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3])


def name_of_emt() -> str:
    from crystallm.energy.potentials.protocol import identity

    return identity(EMT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cifs").mkdir()
    for name, structure in {"a": COPPER, "b": CU3AU}.items():
        (tmp_path / "cifs" / f"{name}.cif").write_text(str(CifWriter(structure, symprec=0.01)))
    return tmp_path / "cifs"


@pytest.fixture
def hull(tmp_path: Path) -> Path:
    """Copper and gold at 0, CuAu at -1 eV per atom."""
    entries = [
        HullEntry((("Cu", 1),), 0.0, "cu", relaxed=True),
        HullEntry((("Au", 1),), 0.0, "au", relaxed=True),
        HullEntry((("Cu", 1), ("Au", 1)), -1.0, "cuau", relaxed=False),
        HullEntry((("Cu", 3), ("Au", 1)), 0.5, "cu3au", relaxed=True, dft=DftAboveHull(0.0123, "cu3au")),
    ]
    write_table(tmp_path / "hull.parquet", entries, potential=name_of_emt())
    return tmp_path / "hull.parquet"


def test_energies_of_a_folder(folder: Path, hull: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["energy", str(folder), "--potential", EMT, "--hull", str(hull)]) == 0
    head, copper, alloy, star, count = capsys.readouterr().out.splitlines()
    assert head.split() == ["crystal", "formula", "eV/atom", "above", "hull,", "meV/atom", "DFT", "hull", "here"]
    assert copper.split()[:2] == ["a.cif", "Cu"]
    assert copper.endswith("Cu (cu)")
    # Half way between Cu (0) and CuAu (-1): the hull is at -0.5 eV per atom; 12 meV by density functional theory.
    name, formula, energy, above, dft, *products = alloy.split()
    assert (name, formula, dft) == ("b.cif", "Cu3Au", "12")
    assert int(above) == pytest.approx(1000 * (float(energy) + 0.5), abs=0.6)
    assert sorted(" ".join(products).split(" + ")) == ["50 % Cu (cu)", "50 % CuAu (cuau)*"]
    assert star.startswith("* this reference is not relaxed")
    assert count.startswith("2 of 2 crystals have an energy by ase.calculators.emt:EMT")


def test_json_and_python_say_the_same(folder: Path, hull: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["energy", str(folder), "--potential", EMT, "--hull", str(hull), "--json"]) == 0
    printed: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    found = energy_above_hull([folder], potential=EMT, hull=HullTable.read(hull))
    assert [one["above_hull"] for one in printed] == [one.above_hull for one in found]
    assert printed[1]["dft"] == {"energy": pytest.approx(0.0123), "id": "cu3au"}
    assert printed[1]["references_relaxed"] is False
    (cell,) = energy_above_hull([Cell.from_structure(COPPER)], potential=EMT, hull=HullTable.read(hull))
    assert cell.energy == pytest.approx(found[0].energy)


def test_what_has_no_number_has_a_reason(folder: Path, hull: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "c.cif").write_text("data_nothing\n")
    (folder / "d.cif").write_text(str(CifWriter(NACL)))  # EMT does not know sodium
    assert cli(["energy", str(folder), "--potential", EMT, "--hull", str(hull)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert "no atoms" in lines[3]
    assert "NaCl" in lines[4]
    assert " - " in lines[4]
    assert any(line.startswith("2 of 4 crystals have an energy") for line in lines)
    assert "  1 without: no atoms" in lines
    assert err.endswith("crystallm: 1 of 4 structures could not be read; the reasons stand above\n")
    assert cli(["energy", str(folder / "d.cif"), "--potential", EMT, "--hull", str(hull)]) == 2
    assert "none of 1 crystals has an energy: " in capsys.readouterr().err


def test_atoms_are_trusted_and_large_files_refused_as_everywhere(
    folder: Path, hull: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = re.sub(r"(_chemical_formula_sum) .*", r"\1 'Cu4 H4'", str(CifWriter(COPPER)))
    (folder / "c.cif").write_text(wrong)
    (folder / "d.cif").write_text("#" * 20_000)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    for source in (folder, tmp_path / "all.zip"):
        command = ["energy", str(source), "--potential", EMT, "--hull", str(hull), "--json", "--max-file-mb", "0.01"]
        assert cli(command) == 0
        rows = json.loads(capsys.readouterr().out)
        assert [row["name"] for row in rows] == ["a.cif", "b.cif", "c.cif", "d.cif"]
        assert "the formula sum is" in rows[2]["reason"]
        assert "0.02 MB, more than the 0.01 MB of max_file_mb" in rows[3]["reason"]
        assert cli([*command, "--trust-atoms"]) == 0
        trusted = json.loads(capsys.readouterr().out)
        assert trusted[2]["energy"] == rows[0]["energy"]
    out = ["--out", str(tmp_path / "out"), "--potential", EMT, "--hull", str(hull)]
    assert cli(["relax", str(folder / "c.cif"), "--trust-atoms", *out]) == 0
    assert cli(["relax", str(folder / "a.cif"), "--max-file-mb", "0.0001", *out]) == 2
    assert "max_file_mb" in capsys.readouterr().err


def test_a_full_disk_costs_no_table_of_a_relaxation(
    folder: Path, hull: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("a.cif", "relaxed.json"):
        (out / name).write_text("old")
    command = ["relax", str(folder), "--potential", EMT, "--hull", str(hull), "--out", str(out)]
    with full_disk():
        assert cli(command) == 2  # at the first CIF
    assert "make room there" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in out.iterdir()} == {"a.cif": "old", "relaxed.json": "old"}

    def no_room(path: Path, value: object) -> None:
        raise cannot_write(path, OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr("crystallm.energy.command.write_json", no_room)
    assert cli([*command, "--json"]) == 2  # at the report: all crystals are relaxed by then
    printed = capsys.readouterr()
    assert [row["name"] for row in json.loads(printed.out)] == ["a.cif", "b.cif"]
    assert "make room there" in printed.err
    assert (out / "relaxed.json").read_text() == "old"


def test_none_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.cif").write_text("data_nothing\n")
    assert cli(["energy", str(tmp_path / "c.cif"), "--potential", EMT]) == 2
    assert "none of 1 files can be read: c.cif: no atoms" in capsys.readouterr().err
    assert cli(["energy", str(tmp_path / "none.cif")]) == 2
    assert "does not exist" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert cli(["relax", str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 2
    assert "there is no CIF" in capsys.readouterr().err


def test_a_hull_that_does_not_fit(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["energy", str(folder), "--potential", EMT, "--hull", str(tmp_path / "other.parquet")]
    write_table(tmp_path / "other.parquet", [HullEntry((("Cu", 1),), 0.0, "cu", True)], potential="chgnet 0.4.2")
    assert cli(command) == 0
    assert "the reference energies are those of chgnet 0.4.2" in capsys.readouterr().out
    write_table(tmp_path / "other.parquet", [HullEntry((("Cu", 1),), 0.0, "cu", True)], potential=name_of_emt())
    assert cli(command) == 0  # copper has its place
    assert "no reference energy of Au" in capsys.readouterr().out
    alloy = [*command[:1], str(folder / "b.cif"), *command[2:]]
    assert cli(alloy) == 2
    remedy = "none of 1 crystals lies above a hull: no reference energy of Au; give another table with --hull"
    assert remedy in capsys.readouterr().err
    write_table(tmp_path / "other.parquet", [HullEntry((("Cu", 1),), 5.0, "cu", True)], potential=name_of_emt())
    assert cli(command) == 0
    assert "more than 1 eV per atom below all known crystals" in capsys.readouterr().out
    (tmp_path / "other.parquet").write_bytes(b"PAR1 broken")
    assert cli(command) == 2
    assert "copy the file again" in capsys.readouterr().err


def test_an_edition_without_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crystallm.energy.analysis.default_folder", lambda edition: tmp_path)
    found = edition_hull("full")
    assert isinstance(found, NoHull)
    assert "the full edition has no hull.parquet; install crystallm again" in found.reason


def test_wrong_potentials(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["energy", str(folder), "--potential", "wrong"]) == 2
    assert "unknown potential 'wrong'" in capsys.readouterr().err
    assert cli(["energy", str(folder), "--potential", "no.such.package:thing"]) == 2
    assert "install its package" in capsys.readouterr().err


def test_relaxing_a_folder(folder: Path, hull: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "c.cif").write_text("data_nothing\n")
    out = tmp_path / "out"
    assert cli(["relax", str(folder), "--potential", EMT, "--hull", str(hull), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Fm-3m kept" in lines[1]
    assert "Pm-3m kept" in lines[2]
    assert "no atoms" in lines[3]
    # EMT's lattice constant of copper is 3.59 angstrom.
    assert Structure.from_file(out / "a.cif").lattice.a == pytest.approx(3.59, abs=0.01)
    assert not (out / "c.cif").exists()
    rows = json.loads((out / "relaxed.json").read_text())
    assert rows[0]["energy"] < rows[0]["energy_before"]
    assert rows[0]["volume_ratio"] == pytest.approx((3.59 / 3.65) ** 3, abs=0.01)
    assert rows[2]["reason"].startswith("no atoms")
    assert cli(["relax", str(folder), "--potential", EMT, "--out", str(out), "--max-force", "-1"]) == 2
    assert "max_force must be > 0" in capsys.readouterr().err


def test_relaxing_from_python(hull: Path) -> None:
    stretched = COPPER.copy()
    stretched.apply_strain([0.02, 0.02, 0.05])  # tetragonal, but copper is cubic
    cell = Cell.from_structure(stretched)
    (found,) = relax([cell], potential=EMT, hull=HullTable.read(hull), max_force=0.01)
    assert found.cell is not None
    assert found.converged
    assert found.space_group == 139
    assert found.symmetry == "I4/mmm, now Fm-3m"
    assert found.after.above_hull == pytest.approx(found.after.energy, abs=1e-6)


TOYS = """
import time
from ase.calculators.emt import EMT

class Hangs(EMT):
    def calculate(self, *args, **kwargs):
        time.sleep(60)

class Interrupts(EMT):  # somebody presses Ctrl-C at the first crystal with gold
    def calculate(self, atoms=None, *args, **kwargs):
        if "Au" in atoms.get_chemical_symbols():
            raise KeyboardInterrupt
        super().calculate(atoms, *args, **kwargs)
"""


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_potentials.py").write_text(TOYS)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("toys")
def test_ctrl_c_keeps_what_is_done(
    folder: Path, hull: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crystallm.energy.analysis.BATCH", 1)
    command = ["energy", str(folder), "--potential", "toy_potentials:Interrupts", "--hull", str(hull)]
    assert cli([*command, "--json"]) == 130
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == ["a.cif"]
    assert cli(command) == 130
    assert "1 of 1 crystals have an energy" in capsys.readouterr().out


@pytest.mark.usefixtures("toys")
def test_a_potential_that_hangs(folder: Path, hull: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crystallm.energy.relaxing.LOADING_S", 2.0)
    found = relax([folder], potential="toy_potentials:Hangs", hull=HullTable.read(hull), time_limit=0.2)
    assert [one.after.reason.split(" (")[0] for one in found] == ["timed out", "timed out"]


def test_all_structures_of_all_kinds_of_files(tmp_path: Path, hull: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copper, alloy = (str(CifWriter(structure, symprec=0.01)) for structure in (COPPER, CU3AU))
    (tmp_path / "cifs").mkdir()
    (tmp_path / "cifs" / "a.mcif").write_text(copper)
    (tmp_path / "cifs" / "a.cif.gz").write_bytes(gzip.compress(alloy.encode()))
    (tmp_path / "cifs" / "two.cif").write_text(copper + alloy)
    (tmp_path / "cifs" / "._a.cif").write_bytes(b"\0\5\26\7")
    source, chosen = str(tmp_path / "cifs"), ["--potential", EMT, "--hull", str(hull), "--json"]
    assert cli(["energy", source, *chosen]) == 0
    found = json.loads(capsys.readouterr().out)
    names = {one["name"]: one["formula"] for one in found}
    assert names == {"a.cif.gz": "Cu3Au", "a.mcif": "Cu", "two.cif#Cu": "Cu", "two.cif#Cu3Au": "Cu3Au"}
    assert cli(["relax", source, *chosen, "--out", str(tmp_path / "out"), "--max-steps", "1"]) == 0
    written = sorted(file.name for file in (tmp_path / "out").glob("*.cif"))
    assert written == ["a-2.cif", "a.cif", "two_Cu.cif", "two_Cu3Au.cif"]
