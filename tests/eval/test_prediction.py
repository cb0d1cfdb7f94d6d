"""Structure prediction: targets, scores and the substitution baseline on rock salts."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pymatgen.core import Lattice, Structure

from crystallm.cli import main as cli
from crystallm.crystal.cell import Cell
from crystallm.crystal.composition import parse_formula
from crystallm.errors import ConfigError, InputError
from crystallm.eval.prediction import main
from crystallm.eval.score import Match, score
from crystallm.eval.select import SelectConfig, select_targets
from crystallm.eval.substitution import SubstitutionLibrary, anonymous
from crystallm.eval.targets import Sample, SampleSet, Target, read_samples, read_targets

Writer = Callable[..., Path]


def write_samples(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_targets_know_formula_and_units_of_the_primitive_cell(parquet: Writer, tmp_path: Path) -> None:
    # The conventional cell of rock salt holds four units, its primitive cell one; rutile is primitive with two.
    source = parquet("corpus.parquet", "NaCl", "TiO2", "CsCl", split="val")
    assert cli(["eval", "select", str(source), "--out", str(tmp_path / "drawn"), "--max-sites", "8"]) == 0
    prompts = [json.loads(line) for line in (tmp_path / "drawn" / "prompts.jsonl").read_text().splitlines()]
    assert {p["formula"]: p["formula_units"] for p in prompts} == {"NaCl": 1, "TiO2": 2, "CsCl": 1}
    assert pq.read_table(tmp_path / "drawn" / "targets.parquet").num_rows == 3
    assert len(read_targets(tmp_path / "drawn" / "targets.parquet")) == 3


def test_the_draw_depends_on_the_seed_not_on_the_order_of_rows(cifs: dict[str, str]) -> None:
    rows = [
        {"id": f"{name} {i}", "cif": cifs[name], "suggested_split": "val"} for name in ("NaCl", "TiO2") for i in "abcd"
    ]
    drawn = [row["id"] for row in select_targets(rows, SelectConfig(number=3))[0]]
    assert drawn == [row["id"] for row in select_targets(rows[::-1], SelectConfig(number=3))[0]]
    assert drawn != [row["id"] for row in select_targets(rows, SelectConfig(number=3, seed=1))[0]]
    assert {row["n_sites"] for row in select_targets(rows, SelectConfig(max_sites=6))[0]} == {6}
    with pytest.raises(InputError, match="it takes the values val"):
        select_targets(rows, SelectConfig(split="test"))


def score_of(*attempts: tuple[float | None, float | None]) -> dict[str, object]:
    """Score of one target with attempts (rms or None, log-probability), and of a second one without samples."""
    cell = Cell.from_structure(Structure(Lattice.cubic(3), ["Po"], [[0, 0, 0]]))
    targets = [Target(name, "", (("Po", 1),), 1, None) for name in ("a", "b")]  # type: ignore[arg-type]
    assert len(cell) == 1
    samples = [Sample(i, "", log_probability) for i, (_, log_probability) in enumerate(attempts)]
    matches = {("a", i): Match(rms, "" if rms is not None else "no match") for i, (rms, _) in enumerate(attempts)}
    return score(targets, SampleSet({"a": samples, "b": []}), matches, tops=[1, 2, 20]).to_json()


def test_every_target_is_in_the_denominator_and_the_order_counts() -> None:
    found = score_of((None, -9.0), (0.3, -5.0), (0.1, -7.0))
    rates = {k: (v["passed"], v["attempted"]) for k, v in found.items() if k.startswith("match_rate")}  # type: ignore[index]
    assert rates == {
        "match_rate@1": (0, 2),
        "match_rate@2": (1, 2),
        "match_rate@20": (1, 2),
        "match_rate@1_by_log_probability": (1, 2),
    }
    assert (found["rmse@1"], found["rmse@2"], found["rmse@20"]) == (None, 0.3, 0.1)
    assert found["rmse@1_by_log_probability"] == 0.3
    assert found["samples"] | {"share": 0, "interval_95": 0} == {  # type: ignore[operator]
        "passed": 2,
        "attempted": 3,
        "share": 0,
        "interval_95": 0,
    }
    assert found["reasons"] == {"no match": 1}
    assert found["targets_without_samples"] == 1


def test_samples_that_belong_nowhere_are_counted(parquet: Writer, tmp_path: Path, cifs: dict[str, str]) -> None:
    targets = read_targets(parquet("targets.parquet", "NaCl", "TiO2"))
    path = write_samples(
        tmp_path / "samples.jsonl",
        {"target_id": "NaCl", "sample": 1, "cif": cifs["NaCl"], "log_probability": -3.5},
        {"target_id": "NaCl", "sample": 0, "cif": None, "reason": "dead end"},
        {"target_id": "NaCl", "sample": 1, "cif": cifs["NaCl"]},
        {"target_id": "MgO", "sample": 0, "cif": cifs["NaCl"]},
        {"sample": 0, "cif": cifs["NaCl"]},
    )
    with path.open("a") as file:
        file.write('{"target_id": "TiO2", "sam')
    samples = read_samples(path, targets)
    assert [(s.number, s.log_probability) for s in samples.by_target["NaCl"]] == [(0, None), (1, -3.5)]
    assert samples.by_target["TiO2"] == []
    assert samples.ignored == {
        "target and sample number repeated": 1,
        "no such target": 1,
        "no target_id": 1,
        "broken line": 1,
    }


def test_truth_as_prediction_scores_100_percent_and_others_none(
    parquet: Writer, tmp_path: Path, cifs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    targets = parquet("targets.parquet", "NaCl", "TiO2", split="val")
    samples = write_samples(
        tmp_path / "samples.jsonl",
        {"target_id": "NaCl", "sample": 0, "cif": cifs["NaCl in the CsCl type"], "log_probability": -9.0},
        {"target_id": "NaCl", "sample": 1, "cif": cifs["NaCl"], "log_probability": -2.0},
        {"target_id": "NaCl", "sample": 2, "cif": cifs["KCl"]},
        {"target_id": "NaCl", "sample": 3, "cif": "data_broken"},
        {"target_id": "TiO2", "sample": 0, "cif": cifs["TiO2"], "log_probability": -4.0},
    )
    main([str(targets), str(samples), "--out", str(tmp_path / "report"), "--workers", "2"])
    report = json.loads((tmp_path / "report" / "prediction.json").read_text())
    found = report["prediction"]["samples"]
    assert [found[f"match_rate@{k}"]["passed"] for k in (1, 5, 20)] == [1, 2, 2]
    assert found["match_rate@1_by_log_probability"]["passed"] == 2
    assert found["rmse@20"] == pytest.approx(0, abs=1e-6)
    assert found["reasons"] == {"no match": 1, "another formula": 1, "no atoms": 1}
    assert report["validity"]["truth as given"]["rates"]["valid"]["passed"] == 2
    assert report["validity"]["truth through the text"]["rates"]["space group"]["passed"] == 2
    assert "| match_rate@20 | 2/2 (100.0%" in capsys.readouterr().out


def test_a_second_run_takes_finished_comparisons_from_its_log(
    parquet: Writer, tmp_path: Path, cifs: dict[str, str]
) -> None:
    targets = parquet("targets.parquet", "NaCl", split="val")
    samples = write_samples(tmp_path / "s.jsonl", {"target_id": "NaCl", "sample": 0, "cif": cifs["NaCl"]})
    command = [str(targets), str(samples), "--out", str(tmp_path / "out"), "--validity-samples", "0", "--workers", "1"]
    main(command)
    (log,) = (tmp_path / "out").glob("matches_samples_*.jsonl")
    assert len(log.read_text().splitlines()) == 1
    log.write_text('{"target_id": "NaCl", "sample": 0, "rms": 0.25, "reason": ""}\n{"target_id": "Na')
    main(command)
    report = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert report["prediction"]["samples"]["rmse@1"] == 0.25


def test_substitution_finds_rock_salt_from_rock_salts(parquet: Writer, tmp_path: Path) -> None:
    targets = parquet("targets.parquet", "NaCl", split="val")
    train = parquet("train.parquet", "LiF", "KBr", "CsCl", "TiO2")
    main([str(targets), "--train", str(train), "--out", str(tmp_path / "report"), "--workers", "1"])
    found = json.loads((tmp_path / "report" / "prediction.json").read_text())["prediction"]["substitution"]
    assert found["match_rate@20"]["passed"] == 1
    rows = [json.loads(line) for line in (tmp_path / "report" / "substitution.jsonl").read_text().splitlines()]
    assert {row["template"] for row in rows} == {"LiF", "KBr", "CsCl"}


def test_templates_have_the_asked_formula_units_and_keep_amounts(cifs: dict[str, str]) -> None:
    library = SubstitutionLibrary([("rutile", "TiO2", cifs["TiO2"], 6), ("salt", "NaCl", cifs["NaCl"], None)])
    library.fit_volumes()
    assert anonymous(parse_formula("TiO2")) == (1, 2)
    (tin,) = library.candidates(parse_formula("SnO2"), 2)
    assert tin.template_id == "rutile"
    assert tin.cell.amounts == {50: 2, 8: 4}
    assert library.candidates(parse_formula("SnO2"), 4) == []
    assert library.candidates(parse_formula("SrTiO3"), 1) == []
    both = library.candidates(parse_formula("KBr"), 1)
    assert [candidate.template_id for candidate in both] == ["salt"] * len(both)
    assert both[0].cell.amounts == {19: 4, 35: 4}


def test_mistakes_end_with_a_message(parquet: Writer, tmp_path: Path, cifs: dict[str, str]) -> None:
    targets = parquet("targets.parquet", "NaCl")
    out = ["--out", str(tmp_path / "report")]
    with pytest.raises(ConfigError, match="nothing to score"):
        main([str(targets), *out])
    with pytest.raises(InputError, match="occurs twice"):
        read_targets(parquet("twice.parquet", "NaCl", "NaCl"))
    with pytest.raises(InputError, match="no sample for any target"):
        main([str(targets), str(write_samples(tmp_path / "s.jsonl", {"target_id": "x", "cif": cifs["NaCl"]})), *out])
    with pytest.raises(ConfigError, match="suggested_split"):
        main([str(targets), "--train", str(parquet("val.parquet", "LiF", split="val")), *out])
