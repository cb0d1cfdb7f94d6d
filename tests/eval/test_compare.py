"""`crystallm eval compare` and the leaderboard: reports side by side, and kept current."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from crystallm.base.errors import ConfigError, InputError
from crystallm.cli import main as cli
from crystallm.eval.benchmarking.compare import main, matched
from crystallm.eval.benchmarking.leaderboard import FreeReport, Published, PublishedTable, leaderboard, page
from crystallm.eval.benchmarking.score_command import main as score
from crystallm.eval.prediction.report_file import read_report
from crystallm.eval.prediction.results import Sampling
from crystallm.eval.prediction.target_rows import TABLE, TargetRow
from crystallm.eval.rate import Rate
from crystallm.sample.grammar.contacts import Refusal
from studies.size.move_rows import move_rows

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def reports(salts: Path, cifs: dict[str, str], tmp_path: Path) -> list[Path]:
    """A model that is right on all three targets, and one that is right on one of them."""
    for name, drawn in {"right": ("NaCl", "TiO2", "CsCl"), "half": ("NaCl", "NaCl", "NaCl")}.items():
        rows = [
            {"target_id": target, "sample": 0, "cif": cifs[crystal]}
            for target, crystal in zip(("NaCl", "TiO2", "CsCl"), drawn, strict=True)
        ]
        samples = tmp_path / f"{name}.jsonl"
        samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
        out = ["--out", str(tmp_path / name), "--no-validity", "--workers", "1"]
        score([str(salts), str(samples), "--data", str(tmp_path), *out])
    return [tmp_path / "right", tmp_path / "half" / "report.json"]


def test_side_by_side_with_mcnemar(reports: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*map(str, reports), "--tops", "1", "--json", str(tmp_path / "c.json")])
    said = capsys.readouterr().out
    assert "| match_rate@1 | 3/3 (100.0%, 43.9-100.0) | 1/3 (33.3%, 6.1-79.2) |" in said
    assert "| match_rate@1 | right | half | 3 | 2 | 0 | 0.5 |" in said
    tests = json.loads((tmp_path / "c.json").read_text())["mcnemar"]
    assert [test["metric"] for test in tests] == ["match_rate@1", "match_rate@1_smact", "match_rate@1_strict"]


def test_other_versions_are_not_tested_against_each_other(
    reports: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = read_report(reports[0]).to_json()
    report["benchmark"] |= {"version": 2, "changes": ["first", "second"]}
    (tmp_path / "newer.json").write_text(json.dumps(report))
    main([str(reports[0]), str(tmp_path / "newer.json")])
    said = capsys.readouterr().out
    assert "different benchmarks or versions: no test" in said
    assert "right (2)" in said
    report["per_target_of_sets"] = [[row | {"id": f"{row['id']}!"} for row in report["per_target_of_sets"][0]]]
    report["benchmark"] |= {"version": 1, "changes": ["first"]}
    (tmp_path / "newer.json").write_text(json.dumps(report))
    main([str(reports[0]), str(tmp_path / "newer.json")])
    assert "share no target" in capsys.readouterr().out


def test_mistakes(reports: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.json").write_text("{}")
    for other, message in {"none.json": "cannot read the report", "x.json": "is no report"}.items():
        assert cli(["eval", "compare", str(reports[0]), str(tmp_path / other)]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(InputError, match="give at least two"):
        main([str(reports[0])])


def test_the_leaderboard_shows_reports_and_published_rows(reports: list[Path]) -> None:
    report = read_report(reports[1])
    row = Published(
        method="a model",
        benchmark="salts",
        samples=1,
        match_rate_percent=50.0,
        smact_filter=True,
        prompt="formula",
        rows="all rows",
        source="a paper",
    )
    text = leaderboard({"half": report}, [row])
    assert "| [half](reports/half) | - | 1/3 (33.3%, 6.1-79.2) | - | 1/3" in text
    assert "| a model | 1 | 50 % | - | given formula; filter of CDVAE; all rows | a paper |" in text
    for options, told in {
        ("--temperature", "0.5"): "independent draws at temperature 0.5",
        ("--repeat", "1", "--repeat", "0", "--temperature=0.3"): "unlike draws at temperature 0.3",
    }.items():
        assert f"given formula_units; {told}; 3 targets" in leaderboard(
            {"a": replace(report, sampling=Sampling(options=options))}, []
        )
    drawn = Sampling(options=("--repeat", "1"), followed_templates=Rate(3, 4))
    told = "independent draws, 75% of them like a known crystal; 3 targets"
    assert told in leaderboard({"a": replace(report, sampling=drawn)}, [])
    drawn = replace(drawn, redrawn={str(Refusal.BONDS): Rate(1, 4)})
    told = "75% of them like a known crystal, 25% drawn again because of bonds; 3 targets"
    assert told in leaderboard({"a": replace(report, sampling=drawn)}, [])
    with pytest.raises(ConfigError, match="occurs twice"):
        PublishedTable(results=(row, row))


def test_the_leaderboard_shows_free_samples() -> None:
    rate = {"passed": 3, "attempted": 4}
    report = {"samples": 4, "rates": {"valid": rate}, "distances": {}, "reference_rows": 1000}
    assert "| [free](reports/free) | - | 4 | 3/4 (75.0%, 30.1-95.4) | - |" in leaderboard(
        {"free": FreeReport.from_json(report)}, []
    )


def test_the_leaderboard_knows_the_edition_of_older_reports(reports: list[Path]) -> None:
    """Version 0.1 called the model that ships `default`."""
    report = replace(read_report(reports[1]), made_by=None, seen=None)
    assert "(reports/a) | benchmark |" in leaderboard({"a": replace(report, label="default_unlike")}, [])
    assert "(reports/a) | - |" in leaderboard({"a": replace(report, label="mp20_only")}, [])


def test_the_committed_leaderboard_is_current() -> None:
    """Otherwise run `crystallm eval leaderboard`."""
    assert (REPOSITORY / "eval" / "LEADERBOARD.md").read_text(encoding="utf-8") == page(REPOSITORY)


def test_targets_without_a_verdict_are_no_evidence() -> None:
    found = [
        {"id": "a", "first_match": None, "undecided": [1]},
        {"id": "b", "first_match": 2, "undecided": [1]},
        {"id": "c", "first_match": None, "undecided": [3]},
        {"id": "d", "first_match": None},  # reports of version 1 know nothing of it
    ]
    rows = [TargetRow.from_json(row | {"samples": 3}) for row in found]
    assert matched(rows, top=2) == {"b": True, "c": False, "d": False}
    assert matched(rows, top=1) == {"c": False, "d": False}


def test_rows_move_out_of_an_older_report_and_nothing_else_changes(reports: list[Path], tmp_path: Path) -> None:
    whole = read_report(reports[0])
    (tmp_path / "old").mkdir()
    file = tmp_path / "old" / "report.json"
    file.write_text(json.dumps(whole.to_json()))
    before = json.loads(file.read_text())
    assert read_report(file) == whole
    assert move_rows(file)
    after = json.loads(file.read_text())
    assert after | {"per_target_of_sets": 0} == before | {"per_target_of_sets": 0}
    assert list(after) == list(before)
    assert read_report(file) == whole
    assert not move_rows(file)


def test_a_table_of_another_report_is_refused(reports: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    table, other = reports[0] / TABLE, reports[1].parent / TABLE
    table.write_bytes(other.read_bytes())
    assert cli(["eval", "compare", *map(str, reports)]) == 2
    assert "is not the table that report.json was written with" in capsys.readouterr().err
    table.unlink()
    assert cli(["eval", "compare", *map(str, reports)]) == 2
    assert "needs its table in the same folder" in capsys.readouterr().err


@pytest.mark.parametrize("folder", sorted(file.parent.name for file in REPOSITORY.glob("eval/reports/*/report.json")))
def test_committed_reports_come_back_as_they_are(folder: str) -> None:
    """Whatever a version did not write comes back as nothing."""
    file = REPOSITORY / "eval" / "reports" / folder / "report.json"
    kept, report = json.loads(file.read_text(encoding="utf-8")), read_report(file)
    assert all(len(rows) == report.targets for rows in report.per_target)
    back = json.loads(json.dumps(report.to_json(table=kept["per_target_of_sets"])))
    assert _without_nothing(back) == _without_nothing(kept)


def _without_nothing(value: object) -> object:
    """Without counts of what is undecided where it is 0, and without empty lists of what was drawn again."""
    if isinstance(value, dict):
        left = {name: _without_nothing(item) for name, item in value.items()}
        return {name: item for name, item in left.items() if (name, item) not in (("undecided", 0), ("redrawn", {}))}
    return [_without_nothing(item) for item in value] if isinstance(value, list) else value
