"""Rows that contradict themselves: crystals whose right answer is known."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crystallm.base.errors import InputError
from crystallm.data.__main__ import main
from crystallm.data.consistency import Contradiction, check_row, findings_of_sources
from crystallm.data.consistency.checking import far_above
from crystallm.data.consistency.findings import contradicted

Atoms = list[tuple[str, float, float, float]]


def cif(lengths: tuple[float, float, float], atoms: Atoms, gamma: float = 90.0) -> str:
    """A crystal in P1."""
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    cell = [f"_cell_{name} {value}" for name, value in zip(names, (*lengths, 90, 90, gamma), strict=True)]
    loop = ["loop_", *(f"_atom_site_{name}" for name in ("label", "type_symbol", "fract_x", "fract_y", "fract_z"))]
    sites = [f"{e}{n} {e} {x} {y} {z}" for n, (e, x, y, z) in enumerate(atoms)]
    return "\n".join(["data_x", *cell, *loop, *sites]) + "\n"


def hydroxide(metal: str, a: float, c: float, z: float, z_hydrogen: float | None = None) -> str:
    """The structure of brucite, P-3m1, with or without hydrogen."""
    atoms: Atoms = [(metal, 0, 0, 0), ("O", 1 / 3, 2 / 3, z), ("O", 2 / 3, 1 / 3, 1 - z)]
    if z_hydrogen is not None:
        atoms += [("H", 1 / 3, 2 / 3, z_hydrogen), ("H", 2 / 3, 1 / 3, 1 - z_hydrogen)]
    return cif((a, a, c), atoms, gamma=120)


SALT: Atoms = [
    (element, x + dx, y, z)
    for element, dx in (("Na", 0.0), ("Cl", 0.5))
    for x, y, z in ((0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0))
]
ROCK_SALT = cif((5.64, 5.64, 5.64), SALT)
SALT_ROW = {
    "formula": "Na4 Cl4",
    "reduced_formula": "NaCl",
    "n_sites": 8,
    "n_elements": 2,
    "density": 2.164,
    "volume_per_atom": 22.4256,
    "spacegroup_number": 225,
}


def reasons(text: str, **columns: Any) -> dict[Contradiction, bool]:
    return {finding.reason: finding.certain for finding in check_row({"id": "1", "cif": text, **columns})}


def test_rock_salt_is_what_it_says() -> None:
    assert check_row({"id": "1", "cif": ROCK_SALT, "origin": "experiment", **SALT_ROW}) == []


@pytest.mark.parametrize(
    ("column", "value", "reason", "certain"),
    [
        ("formula", "Na4 Cl3", Contradiction.FORMULA, True),
        ("reduced_formula", "NaCl2", Contradiction.FORMULA, True),
        ("n_sites", 2, Contradiction.COUNTS, True),
        ("n_elements", 3, Contradiction.COUNTS, True),
        ("density", 2.3, Contradiction.DENSITY, True),
        ("volume_per_atom", 24.0, Contradiction.DENSITY, True),
        ("spacegroup_number", 221, Contradiction.SPACE_GROUP, False),
    ],
)
def test_columns_that_contradict_the_atoms(column: str, value: object, reason: Contradiction, certain: bool) -> None:
    assert reasons(ROCK_SALT, **(SALT_ROW | {column: value})) == {reason: certain}


def test_what_cannot_be_read() -> None:
    assert reasons("no CIF") == {Contradiction.UNREADABLE: True}


def test_brucite_without_its_hydrogen() -> None:
    """Mg(OH)2, Catti et al. 1995: MgO2 would be a peroxide, yet its oxygens are 2.8 angstrom apart."""
    lost = hydroxide("Mg", 3.142, 4.766, 0.2203)
    assert reasons(lost, origin="experiment")[Contradiction.LOST_HYDROGEN] is True
    assert reasons(lost, origin="experiment", merged_ids="mp-1")[Contradiction.LOST_HYDROGEN] is False
    assert reasons(lost, origin="dft") == {}
    whole = hydroxide("Mg", 3.142, 4.766, 0.2203, 0.413)
    assert reasons(whole, origin="experiment") == {}


def test_nickel_hydroxide_without_its_hydrogen_is_suspected() -> None:
    """Nickel can have four charges; but the oxygens have not enough bonds."""
    assert reasons(hydroxide("Ni", 3.126, 4.605, 0.24), origin="experiment") == {Contradiction.LOST_HYDROGEN: False}


def test_peroxides_and_metals_have_lost_nothing() -> None:
    """BaO2 (C2/m type of CaC2): oxygens 1.49 angstrom apart."""
    atoms: Atoms = [("Ba", 0, 0, 0), ("O", 0, 0, 0.391), ("O", 0, 0, 0.609)]
    atoms += [(e, x + 0.5, y + 0.5, z + 0.5) for e, x, y, z in atoms]
    assert reasons(cif((3.81, 3.81, 6.84), atoms), origin="experiment") == {}


def test_atoms_on_top_of_each_other() -> None:
    squeezed = cif((3.0, 3.0, 3.0), SALT)
    assert reasons(squeezed, origin="experiment")[Contradiction.TOO_CLOSE] is True
    assert reasons(squeezed, origin="dft")[Contradiction.TOO_CLOSE] is False  # may be hypothetical
    assert reasons(cif((2.0, 2.0, 2.0), SALT))[Contradiction.TOO_CLOSE] is True
    assert Contradiction.VOLUME in reasons(cif((12.0, 12.0, 12.0), SALT))


def test_hydrogen_bonded_to_nothing_and_too_close() -> None:
    far = cif((8.0, 8.0, 8.0), [("Na", 0, 0, 0), ("Cl", 0.3, 0, 0), ("H", 0.5, 0.5, 0.5)])
    assert reasons(far, origin="experiment")[Contradiction.LONELY_HYDROGEN] is True
    pair = cif((6.0, 6.0, 6.0), [("Na", 0, 0, 0), ("H", 0.3, 0, 0), ("H", 0.39, 0, 0)])
    assert reasons(pair)[Contradiction.CLOSE_HYDROGEN] is True
    hydride: Atoms = [("K" if e == "Na" else "H", x, y, z) for e, x, y, z in SALT]
    assert reasons(cif((5.7, 5.7, 5.7), hydride), origin="experiment") == {}  # K-H 2.85


def test_energies_far_above() -> None:
    formulas = {"a": "TiO2", "b": "TiO2", "c": "SiO2"}
    (finding,) = far_above(formulas, {"a": -9.0, "b": -5.5, "c": -1.0})
    assert (finding.id, finding.detail, finding.certain) == ("b", "3.50 eV/atom above the lowest of 2", False)
    assert far_above(formulas, {"a": -9.0, "b": -5.5}, {"b"})[0].certain  # what was measured cannot be
    assert far_above(formulas, {"a": -9.0, "b": float("nan")}) == []


def test_the_command_writes_report_and_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"id": "salt", "cif": ROCK_SALT, "origin": "dft", "reduced_formula": "NaCl"},
        {"id": "wrong", "cif": ROCK_SALT, "origin": "dft", "reduced_formula": "NaCl3"},
        {
            "id": "brucite",
            "cif": hydroxide("Mg", 3.142, 4.766, 0.2203),
            "origin": "experiment",
            "reduced_formula": "MgO2",
        },
    ]
    source, out = tmp_path / "rows.parquet", tmp_path / "report" / "contradictions"
    pq.write_table(pa.Table.from_pylist(rows), source)
    main(["check", str(source), str(out)])
    assert "3 rows, 2 with a certain contradiction" in capsys.readouterr().out
    assert contradicted(out.with_suffix(".jsonl")) == {"wrong", "brucite"}
    assert "| hydrogen lost | 1 | 0 | 1 |" in out.with_suffix(".md").read_text()
    assert findings_of_sources([source], workers=2) == findings_of_sources([source])


def test_files_that_are_none_of_these(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        findings_of_sources([tmp_path / "missing.parquet"])
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text(json.dumps({"id": "1"}))
    with pytest.raises(InputError, match="crystallm data check"):
        contradicted(wrong)
