"""Crystals as files: other programs read the same crystal back."""

import json
from pathlib import Path

import ase.io
import pytest
from pymatgen.core import Structure

from crystallm.base.errors import InputError
from crystallm.crystal.description import Description
from crystallm.sample.crystal import Crystal
from crystallm.sample.prompts import make_prompt


@pytest.fixture
def crystal(rutile: Description) -> Crystal:
    return Crystal(make_prompt("TiO2"), rutile, probability=0.5)


@pytest.mark.parametrize("name", ["rutile.cif", "rutile.vasp", "POSCAR", "rutile.json"])
def test_pymatgen_reads_it(crystal: Crystal, tmp_path: Path, name: str) -> None:
    read = Structure.from_file(crystal.save(tmp_path / name))
    assert read.composition.formula == "Ti2 O4"
    assert read.lattice.a == pytest.approx(4.5937, abs=1e-4)
    assert read.density == pytest.approx(4.25, abs=0.01)


def test_ase_reads_it_with_what_is_known(crystal: Crystal, tmp_path: Path) -> None:
    atoms = ase.io.read(crystal.save(tmp_path / "rutile.extxyz"))
    assert atoms.get_chemical_formula() == "O4Ti2"
    assert atoms.cell.lengths() == pytest.approx([4.5937, 4.5937, 2.9587])
    assert (atoms.info["space_group"], atoms.info["probability"]) == (136, 0.5)


def test_json_is_that_of_pymatgen(crystal: Crystal, tmp_path: Path) -> None:
    value = json.loads(crystal.save(tmp_path / "rutile.json").read_text())
    assert len(Structure.from_dict(value)) == 6


def test_a_name_without_format_is_refused(crystal: Crystal, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot tell the format of 'rutile\.pdb'"):
        crystal.save(tmp_path / "rutile.pdb")
    assert not list(tmp_path.iterdir())
