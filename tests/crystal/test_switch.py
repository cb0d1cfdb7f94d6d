"""Each accelerator gives the verdicts of its reference, called through the switch by which a user chooses."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crystallm import check, match
from crystallm.base.errors import ConfigError
from crystallm.crystal.cell import Cell
from crystallm.crystal.checks.paths import CHECKS_PATHS, SYMMETRY_PATHS
from crystallm.crystal.checks.validity import CheckName
from crystallm.crystal.cif.writing import write_atoms
from crystallm.crystal.matching.matchers import MATCHERS
from crystallm.crystal.matching.tolerances import STANDARD, STRICT
from crystallm.crystal.switch import Switch, Way, told

SALT = Structure.from_spacegroup(225, Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
CSCL_TYPE = Structure(Lattice.cubic(3.4), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
RUTILE = Structure.from_spacegroup(136, Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]])
ANATASE = Structure.from_spacegroup(141, Lattice.tetragonal(3.784, 9.515), ["Ti", "O"], [[0, 0, 0], [0, 0, 0.208]])


def nearly(structure: Structure, angstrom: float) -> Structure:
    moved = structure.copy()
    moved.perturb(angstrom, seed=0)
    return moved


def cells() -> list[Cell]:
    found = [SALT, CSCL_TYPE, RUTILE, ANATASE, SALT * [1, 1, 2], nearly(RUTILE, 0.2), nearly(SALT, 0.9)]
    return [Cell.from_structure(structure) for structure in found]


def test_matchers_agree() -> None:
    reference, accelerator = MATCHERS.reference.load(), MATCHERS.accelerator.load()
    found = cells()
    matched = 0
    for truth in found:
        ours = accelerator.distances(found, truth, [STANDARD, STRICT])
        for one, other in zip(ours, reference.distances(found, truth, [STANDARD, STRICT]), strict=True):
            assert [rms is None for rms in one] == [rms is None for rms in other]
            assert [rms for rms in one if rms is not None] == pytest.approx(
                [r for r in other if r is not None], abs=1e-5
            )
            matched += one[0] is not None
        assert list(accelerator.equal(found, truth, STRICT)) == list(reference.equal(found, truth, STRICT))
    assert matched > len(found)  # each is itself, and some are others


def test_checks_agree() -> None:
    reference, accelerator = CHECKS_PATHS["reference"].load(), CHECKS_PATHS["fast"].load()
    for cell in cells():
        one, other = (path(write_atoms(cell)) for path in (reference, accelerator))
        assert {name: one[name].passed for name in CheckName} == {name: other[name].passed for name in CheckName}


@pytest.mark.parametrize(("length", "number", "verdict"), [(4.5, 123, True), (4.12, 123, False), (4.12, 221, True)])
def test_symmetry_of_caesium_chloride(length: float, number: int, verdict: bool) -> None:
    """A cube of 4.123 angstrom, stretched along one axis or hardly."""
    cell = Cell(np.diag([4.123, 4.123, length]), np.array([[0.0] * 3, [0.5] * 3]), np.array([55, 17]))
    assert [SYMMETRY_PATHS[path].load()(cell, number) for path in ("reference", "fast")] == [verdict] * 2


def test_one_line_of_python_chooses() -> None:
    first, second = (Cell.from_structure(one) for one in (RUTILE, nearly(RUTILE, 0.2)))
    found = [match(first, second, matcher=name) for name in ("pymatgen", "compiled")]  # type: ignore[arg-type]
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert check(first, path="fast").valid == check(first).valid is True
    with pytest.raises(ConfigError, match=r"unknown matcher 'gemmi'; choose from pymatgen, compiled"):
        match(first, second, matcher="gemmi")  # type: ignore[arg-type]


def test_a_report_names_the_judge_and_its_versions() -> None:
    way = MATCHERS["pymatgen"].to_json()
    assert way["name"] == "pymatgen"
    assert told(way).startswith("pymatgen's StructureMatcher (pymatgen 20")
    switch: Switch[str] = Switch("way", Way("a", "A", ("nowhere-to-be-found",), str), Way("b", "B", (), str))
    assert switch["a"].to_json()["versions"] == {"nowhere-to-be-found": None}


WARM_UP = """
from crystallm.crystal.checks import fast_bonds, fast_symmetry
from crystallm.crystal.checks.paths import CHECKS_PATHS, SYMMETRY_PATHS
from crystallm.crystal.matching import pairing
from crystallm.crystal.matching.matchers import MATCHERS
from tests.crystal.test_switch import cells, write_atoms, STANDARD, STRICT

def compiled():
    loops = [one for module in (fast_bonds, fast_symmetry, pairing) for one in vars(module).values()]
    return {repr(loop): len(loop.signatures) for loop in loops if hasattr(loop, "signatures")}

for switch in (CHECKS_PATHS, SYMMETRY_PATHS, MATCHERS):
    for way in (switch.reference, switch.accelerator):
        way.warm_up()
before = compiled()
assert before and all(before.values()), before
for cell in cells():
    CHECKS_PATHS["fast"].load()(write_atoms(cell))
    SYMMETRY_PATHS["fast"].load()(cell, 1)
    MATCHERS["compiled"].load().distances(cells(), cell, [STANDARD, STRICT])
assert compiled() == before
"""


def test_nothing_compiles_after_the_warm_up(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    made = subprocess.run([sys.executable, "-c", WARM_UP], env=environment, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-2000:]
