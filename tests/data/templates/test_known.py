"""Known crystals are returned as they are: textbook crystals, their copies, their phases."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher

from crystallm.base.errors import CheckpointError
from crystallm.crystal.cell import Cell
from crystallm.crystal.cif import read_cif
from crystallm.crystal.description import expand
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.crystal.symmetry import primitive
from crystallm.data.templates import KnownCrystal, TemplateLibrary
from crystallm.data.templates.schema import TEMPLATE_COLUMNS
from crystallm.tokenizer.layout import WYCKOFF

Rows = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def library(known_file: Path) -> TemplateLibrary:
    return TemplateLibrary(known_file)


@pytest.fixture(scope="module")
def crystals(library: TemplateLibrary, rows: Rows) -> dict[str, KnownCrystal]:
    """All known crystals of the library by id."""
    formulas = {row["reduced_formula"] for row in rows.values()}
    return {crystal.id: crystal for formula in formulas for crystal in library.known(parse_formula(formula))}


@pytest.mark.parametrize(
    ("formula", "id_", "group", "lengths", "density"),
    [
        ("TiO2", "mp-2657", 136, (4.594, 4.594, 2.959), 4.25),  # rutile
        ("TiO2", "mp-390", 141, (3.785, 3.785, 9.514), 3.89),  # anatase
        ("Al2O3", "mp-1143", 167, (4.759, 4.759, 12.991), 3.99),  # corundum
        ("C", "mp-66", 227, (3.567, 3.567, 3.567), 3.51),  # diamond
        ("Si", "mp-149", 227, (5.431, 5.431, 5.431), 2.33),
        ("MgO", "mp-1265", 225, (4.212, 4.212, 4.212), 3.58),  # periclase
    ],
)
def test_textbook_crystals(
    library: TemplateLibrary,
    formula: str,
    id_: str,
    group: int,
    lengths: tuple[float, ...],
    density: float,
) -> None:
    """Measured cells of the Handbook of Mineralogy; PBE with U is up to 2.5 % off."""
    found = {crystal.id: crystal for crystal in library.known(parse_formula(formula))}
    crystal = found[id_]
    assert (crystal.formula, crystal.space_group, crystal.description.space_group) == (formula, group, group)
    assert crystal.description.cell[:3] == pytest.approx(lengths, rel=0.025)
    assert crystal.density == pytest.approx(density, rel=0.06)
    assert crystal.observed is True
    assert crystal.exact


def test_numbers_are_those_of_the_source(crystals: dict[str, KnownCrystal], rows: Rows) -> None:
    """Cells to 0.005 angstrom, atoms to 0.01 angstrom, by pymatgen's matcher without scaling."""
    for id_, crystal in crystals.items():
        source = read_cif(rows[id_]["cif"])
        assert isinstance(source, Cell)
        ours = expand(crystal.description)
        assert ours.volume / len(ours) == pytest.approx(source.volume / len(source), rel=5e-3)
        cells = primitive(source), primitive(ours)
        # pymatgen looks for smaller cells at 0.25 angstrom and finds some that are none; so only where it has to.
        judge = StructureMatcher(scale=False, primitive_cell=len(cells[0]) != len(cells[1]))
        distances = judge.get_rms_dist(*(cell.to_structure() for cell in cells))
        assert distances is not None, id_
        scale = (source.volume / len(source)) ** (1 / 3)
        assert distances[1] * scale <= 0.01, id_


def test_lattice_of_the_source(crystals: dict[str, KnownCrystal], rows: Rows) -> None:
    for id_ in ("mp-2657", "mp-5986"):  # tetragonal P: the source's cell is the conventional one
        source = read_cif(rows[id_]["cif"])
        assert isinstance(source, Cell)
        assert np.sort(crystals[id_].description.cell[:3]) == pytest.approx(np.sort(source.lengths), abs=0.005)


def test_numbers_have_five_decimals(crystals: dict[str, KnownCrystal]) -> None:
    for crystal in crystals.values():
        numbers = [*crystal.description.cell, *(x for site in crystal.description.sites for x in site.free)]
        assert numbers == [round(number, 5) for number in numbers]


def test_the_measured_crystal_and_its_calculated_twin_are_one(library: TemplateLibrary) -> None:
    (rutile,) = library.known(parse_formula("TiO2"), space_group=136)
    assert rutile.ids == ("mp-2657", "cod-9009083")
    assert (rutile.measured, rutile.observed) == (True, True)
    assert rutile.energy_above_hull == pytest.approx(0.0215, abs=1e-4)
    (corundum,) = library.known(parse_formula("Al2O3"), space_group=167)
    assert corundum.ids == ("mp-1143", "cod-1010914")


def test_entries_that_the_source_has_merged_are_listed(crystals: dict[str, KnownCrystal]) -> None:
    assert crystals["mp-5986"].ids == ("mp-5986", "mp-12992")
    assert not crystals["mp-5986"].measured


def test_phases_stay_apart(library: TemplateLibrary) -> None:
    """BaTiO3: cubic, tetragonal, orthorhombic, rhombohedral; Ti moves by 0.1 angstrom or so."""
    barium = library.known(parse_formula("BaTiO3"))
    assert {"mp-2998", "mp-5986", "mp-5777", "mp-5020"} <= {crystal.id for crystal in barium}
    assert {crystal.space_group for crystal in barium} == {221, 99, 38, 160}
    strontium = library.known(parse_formula("SrTiO3"))
    assert {"mp-5229", "mp-4651"} <= {crystal.id for crystal in strontium}
    assert next(c for c in strontium if c.id == "mp-5229").ids == ("mp-5229", "cod-9006864")


def test_what_symmetry_would_move_too_far_is_described_with_less(crystals: dict[str, KnownCrystal]) -> None:
    buckled = crystals["mp-169"]  # graphite, C2/m at 0.01 angstrom
    assert (buckled.space_group, buckled.description.space_group, buckled.lowered) == (166, 12, True)
    assert not crystals["mp-2657"].lowered
    assert sum(crystal.lowered for crystal in crystals.values()) >= 5


def test_only_what_was_asked_for(library: TemplateLibrary) -> None:
    assert {crystal.id for crystal in library.known(parse_formula("TiO2"), formula_units=2)} >= {"mp-2657", "mp-390"}
    assert library.known(parse_formula("TiO2"), formula_units=7) == []
    assert library.known(parse_formula("SnO2")) == []
    assert library.known(parse_formula("Ba2YCu3O7")) == []


def test_a_library_of_version_0_1_has_four_decimals(known_file: Path, tmp_path: Path) -> None:
    old = tmp_path / "templates.parquet"
    pq.write_table(pq.read_table(known_file).select(TEMPLATE_COLUMNS), old)
    found = {crystal.id: crystal for crystal in TemplateLibrary(old).known(parse_formula("TiO2"))}
    assert {"mp-2657", "cod-9009083"} <= set(found)
    rutile = found["mp-2657"]
    assert not rutile.exact
    assert (rutile.observed, rutile.measured, rutile.energy_above_hull, rutile.energy) == (None, False, None, None)
    assert WYCKOFF.read(WYCKOFF.write(rutile.description)) == rutile.description


def test_damaged_numbers_are_named(known_file: Path, tmp_path: Path) -> None:
    table = pq.read_table(known_file)
    rows = table.to_pylist()
    for row in rows:
        row["exact"] = b"\x00" if row["exact"] else None
    damaged = tmp_path / "templates.parquet"
    pq.write_table(table.from_pylist(rows, schema=table.schema), damaged)
    with pytest.raises(CheckpointError, match="copy the checkpoint again"):
        TemplateLibrary(damaged).known(parse_formula("TiO2"))
