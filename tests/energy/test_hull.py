"""Hulls by hand, and the linear program of one composition against pymatgen's whole phase diagram."""

import random
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crystallm.base.errors import CheckpointError, InputError
from crystallm.crystal.formulas.composition import format_formula, parse_formula, reduce_amounts
from crystallm.energy.hull.hull import (
    AboveHull,
    DftAboveHull,
    Hull,
    HullEntry,
    HullTable,
    NoHull,
    make_hull,
    write_table,
)


def table_of(folder: Path, energies: dict[str, float], *, as_given: tuple[str, ...] = ()) -> HullTable:
    """A table of made-up energies; ids are the formulas in small letters."""
    entries = [
        HullEntry(parse_formula(text), energy, text.lower(), text not in as_given) for text, energy in energies.items()
    ]
    write_table(folder / "hull.parquet", entries, potential="made up 1")
    return HullTable.read(folder / "hull.parquet")


def above(table: HullTable, formula: str, energy: float) -> AboveHull:
    found = table.above(parse_formula(formula), energy)
    assert isinstance(found, AboveHull)
    return found


def test_three_phases_by_hand(tmp_path: Path) -> None:
    """A at 0, B at 0, AB at -1 eV per atom: the hull goes from (0, 0) to (1/2, -1) to (1, 0)."""
    table = table_of(tmp_path, {"Cu": 0.0, "Au": 0.0, "CuAu": -1.0})
    # A3B lies half way between A and AB.
    found = above(table, "Cu3Au", -0.4)
    assert found.energy == pytest.approx(0.1)
    assert {(part.formula, part.id, round(part.fraction, 6)) for part in found.products} == {
        ("Cu", "cu", 0.5),
        ("CuAu", "cuau", 0.5),
    }
    assert above(table, "Cu3Au", -0.7).energy == pytest.approx(-0.2)
    on_hull = above(table, "CuAu", -1.0)
    assert on_hull.energy == pytest.approx(0.0, abs=1e-6)
    assert [(part.formula, part.fraction) for part in on_hull.products] == [("CuAu", pytest.approx(1.0))]
    assert above(table, "Cu", 0.02).energy == pytest.approx(0.02)


def test_rock_salt_is_stable_against_its_elements(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"Na": -1.3, "Cl": -1.8, "NaCl": -3.4})
    assert above(table, "NaCl", -3.4).energy == pytest.approx(0.0, abs=1e-6)  # energies are stored in single precision
    # Na2Cl is NaCl (2 of 3 atoms) and Na (1 of 3): -(2 3.4 + 1.3) / 3 = -2.7 eV per atom.
    found = above(table, "Na2Cl", -2.6)
    assert found.energy == pytest.approx(0.1)
    assert [(part.formula, part.fraction) for part in found.products] == [
        ("NaCl", pytest.approx(2 / 3)),
        ("Na", pytest.approx(1 / 3)),
    ]


def test_an_unstable_reference_is_no_vertex(tmp_path: Path) -> None:
    """A2B at -0.1 lies above the line from A to AB, which is -2/3 there."""
    table = table_of(tmp_path, {"Cu": 0.0, "Au": 0.0, "CuAu": -1.0, "Cu2Au": -0.1})
    assert above(table, "Cu2Au", -0.1).energy == pytest.approx(2 / 3 - 0.1)


def test_a_missing_element_is_named(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"Na": -1.3, "NaCl": -3.4})
    assert table.above(parse_formula("NaCl"), -3.4) == NoHull("no reference energy of Cl")
    assert table.above(parse_formula("KBr"), -3.0) == NoHull("no reference energy of Br, K")


def test_it_is_told_when_a_reference_is_not_relaxed(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"Na": -1.3, "Cl": -1.8, "NaCl": -3.4}, as_given=("Cl",))
    assert above(table, "NaCl", -3.4).relaxed
    assert not above(table, "NaCl3", -3.0).relaxed


def test_published_energies_above_hull(tmp_path: Path) -> None:
    entries = [
        HullEntry((("Na", 1),), -1.3, "mp-1", relaxed=True, dft=DftAboveHull(0.0, "mp-1")),
        HullEntry((("Cl", 1),), -1.8, "mp-2", relaxed=True, dft=DftAboveHull(0.25, "mp-3")),
        HullEntry((("Na", 1), ("Cl", 1)), -3.4, "mp-4", relaxed=True),
    ]
    write_table(tmp_path / "hull.parquet", entries, potential="made up 1")
    table = HullTable.read(tmp_path / "hull.parquet")
    assert table.potential == "made up 1"
    assert [table.dft(parse_formula(text)) for text in ("Na", "Cl", "NaCl", "K")] == [
        DftAboveHull(0.0, "mp-1"),
        DftAboveHull(0.25, "mp-3"),
        None,
        None,
    ]


def test_the_linear_program_agrees_with_the_phase_diagram(tmp_path: Path) -> None:
    """On random energies in a system of five elements, at the references and between them."""
    rng, symbols = random.Random(0), ("Li", "Ti", "Fe", "P", "O")
    formulas = {symbol: -rng.uniform(1, 8) for symbol in symbols}
    while len(formulas) < 60:
        counts = {symbol: rng.randint(1, 4) for symbol in rng.sample(symbols, rng.randint(2, 5))}
        amounts = reduce_amounts(counts)
        mean = sum(formulas[symbol] * count for symbol, count in amounts) / sum(count for _, count in amounts)
        formulas.setdefault(format_formula(amounts), mean - rng.uniform(-0.3, 1.0))
    table = table_of(tmp_path, formulas)
    hull = make_hull(frozenset(symbols), [(text, parse_formula(text), energy) for text, energy in formulas.items()])
    assert isinstance(hull, Hull)
    for text in [*formulas, "LiFePO4", "Li4Ti5O12", "FeTiO3", "Li7P3O11", "LiTiFePO"]:
        amounts = parse_formula(text)
        found = table.above(amounts, 0.0)
        assert isinstance(found, AboveHull)
        assert found.energy == pytest.approx(hull.above(amounts, 0.0), abs=2e-6)
        assert {part.formula for part in found.products} == set(hull.below(amounts))


def test_a_large_table_is_read_and_asked_in_no_time(tmp_path: Path) -> None:
    """30,000 formulas; 0.3 s of processor time leave room, a tenth is used."""
    symbols = ["H", "Li", "Na", "K", "Mg", "Ca", "Ti", "Mn", "Fe", "Cu", "Zn", "Al", "Si", "P", "S", "F", "Cl", "O"]
    above(table_of(tmp_path, {"Na": 0.0, "Cl": 0.0}), "NaCl", 0.0)  # imports
    rng, entries = random.Random(1), {}
    while len(entries) < 30_000:
        amounts = reduce_amounts({symbol: rng.randint(1, 9) for symbol in rng.sample(symbols, rng.randint(1, 5))})
        entries[amounts] = HullEntry(amounts, -1.0 - rng.random(), f"mp-{len(entries)}", relaxed=True)
    write_table(tmp_path / "hull.parquet", entries.values(), potential="made up 1")
    start = time.process_time()
    above(HullTable.read(tmp_path / "hull.parquet"), "LiFePO4", -1.0)
    assert time.process_time() - start < 0.3


def test_files_that_are_no_table(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"no table of reference energies .*make it with `crystallm energy table`"
    ):
        HullTable.read(tmp_path / "hull.parquet")
    table_of(tmp_path, {"Na": -1.3})
    whole = (tmp_path / "hull.parquet").read_bytes()
    for broken in (b"", whole[: len(whole) // 2], b"PAR1" + bytes(100) + b"PAR1", b"data_NaCl\n"):
        (tmp_path / "hull.parquet").write_bytes(broken)
        with pytest.raises(CheckpointError, match="copy the file again"):
            HullTable.read(tmp_path / "hull.parquet")
    pq.write_table(pa.table({"id": ["mp-1"], "energy": [1.0]}), tmp_path / "hull.parquet")
    with pytest.raises(CheckpointError, match="is no table of reference energies"):
        HullTable.read(tmp_path / "hull.parquet")
    with pytest.raises(CheckpointError, match="an energy that is no number"):
        table_of(tmp_path, {"Na": float("nan")})


def test_a_table_of_another_version_is_refused(tmp_path: Path) -> None:
    table_of(tmp_path, {"Na": -1.3})
    rows = pq.read_table(tmp_path / "hull.parquet")
    pq.write_table(rows.replace_schema_metadata({"format": "99", "potential": "x"}), tmp_path / "hull.parquet")
    with pytest.raises(CheckpointError, match="another version; update crystallm"):
        HullTable.read(tmp_path / "hull.parquet")


def test_one_energy_for_a_formula(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two reference energies of Na"):
        write_table(
            tmp_path / "hull.parquet",
            [HullEntry((("Na", 1),), energy, "mp-1", relaxed=True) for energy in (-1.3, -1.2)],
            potential="made up 1",
        )
