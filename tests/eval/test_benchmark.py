"""Benchmarks are versioned files that load, and what they say of the data is true where the data are at hand."""

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from crystallm.base.errors import ConfigError, InputError
from crystallm.cli import main as cli
from crystallm.eval.charge_neutrality import smact_valid
from crystallm.eval.sets.benchmark import (
    DATA_VARIABLE,
    PLACES,
    benchmark_folder,
    data_folder,
    draw_targets,
    load_benchmark,
)

NAMES = ("carbon_24", "de_novo", "mp_20", "mpts_52", "perov_5", "validity")
REPOSITORY = Path(__file__).parents[2]


def test_all_are_there_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(sorted(file.stem for file in (REPOSITORY / "eval" / "benchmarks").glob("*.yaml"))) == NAMES
    assert cli(["eval", "list"]) == 0
    said = capsys.readouterr().out
    assert all(f"{name} (version 2)" in said for name in NAMES)
    assert "7,397 rows of 9,046 published" in said


@pytest.mark.parametrize("name", NAMES)
def test_each_states_its_source_its_pitfalls_and_the_published_tolerances(name: str) -> None:
    found = load_benchmark(name)
    assert found.sources
    assert found.pitfalls
    assert (found.standard.stol, found.standard.ltol, found.standard.angle_tol) == (0.5, 0.3, 10.0)
    assert (found.strict.stol, found.strict.ltol, found.strict.angle_tol) == (0.3, 0.2, 5.0)


@pytest.mark.skipif(DATA_VARIABLE not in os.environ, reason=f"the data files are not at hand; set {DATA_VARIABLE}")
@pytest.mark.parametrize("name", NAMES)
def test_row_counts_and_smact_ceilings_are_those_of_the_files(name: str) -> None:
    """Perov-5: 3732 of 3785, as published for the filter of CDVAE."""
    found = load_benchmark(name)
    columns = ["reduced_formula", *([found.rows.column] if found.rows.column else [])]
    rows = []
    for file in found.rows.files:
        rows += pq.read_table(data_folder(None) / file, columns=columns).to_pylist()
    if found.rows.column:
        rows = [row for row in rows if row[found.rows.column] == found.rows.value]
    assert len(rows) == found.rows_at_hand
    if found.ceiling is not None:
        from crystallm.crystal.formulas.composition import parse_formula

        passed = sum(smact_valid(dict(parse_formula(row["reduced_formula"]))) for row in rows)
        assert (passed, len(rows)) == (found.ceiling.smact_passed, found.ceiling.rows)


def test_targets_are_drawn_alike_each_time(salts: Path) -> None:
    benchmark = load_benchmark(str(salts))
    everything = draw_targets(benchmark, salts.parent, number=None, seed=0).targets
    assert {target.id for target in everything} == {"NaCl", "TiO2", "CsCl"}
    two = [target.id for target in draw_targets(benchmark, salts.parent, number=2, seed=3).targets]
    assert two == [target.id for target in draw_targets(benchmark, salts.parent, number=3, seed=3).targets][:2]
    (rutile,) = [target for target in everything if target.id == "TiO2"]
    assert rutile.prompt("formula") == {"id": "TiO2", "formula": "TiO2"}
    assert rutile.prompt("formula_units") == {"id": "TiO2", "formula": "TiO2", "formula_units": 2}
    assert rutile.prompt("space_group")["space_group"] == 136


def test_the_wheel_holds_the_files() -> None:
    """Installed without the repository, benchmarks are looked for where pyproject.toml puts them."""
    assert '"eval/benchmarks" = "crystallm/eval/benchmarks"' in (REPOSITORY / "pyproject.toml").read_text()
    assert PLACES[0].relative_to(REPOSITORY).as_posix() == "crystallm/eval/benchmarks"
    assert benchmark_folder() == REPOSITORY / "eval" / "benchmarks"


def test_mistakes_name_the_remedy(tmp_path: Path, salts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    with pytest.raises(InputError, match="choose from carbon_24, de_novo"):
        load_benchmark("mp20")
    with pytest.raises(InputError, match="give --benchmarks DIR"):
        benchmark_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match=f"give --data DIR, or set {DATA_VARIABLE}"):
        data_folder(None)
    with pytest.raises(InputError, match=r"lacks mp_20_test_partial\.parquet"):
        draw_targets(load_benchmark("mp_20"), tmp_path, number=1, seed=0)
    other = tmp_path / "other.yaml"
    other.write_text(salts.read_text())
    with pytest.raises(InputError, match="name and file must agree"):
        load_benchmark(str(other))
    salts.write_text(salts.read_text().replace("version: 1", "version: 2"))
    with pytest.raises(ConfigError, match="needs as many entries in `changes`"):
        load_benchmark(str(salts))
