"""`crystallm eval compare` and the leaderboard: reports side by side, and kept current."""

import json
from pathlib import Path
from typing import Any

import pytest

from crystallm.base.errors import ConfigError, InputError
from crystallm.cli import main as cli
from crystallm.eval.benchmarking.compare import main, matched, read_report
from crystallm.eval.benchmarking.leaderboard import Published, PublishedTable, leaderboard, page
from crystallm.eval.benchmarking.score_command import main as score
from crystallm.sample.grammar.contacts import Refusal

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
    report = read_report(reports[0])
    report["benchmark"]["version"] = 2
    (tmp_path / "newer.json").write_text(json.dumps(report))
    main([str(reports[0]), str(tmp_path / "newer.json")])
    said = capsys.readouterr().out
    assert "different benchmarks or versions: no test" in said
    assert "right (2)" in said
    report["per_target_of_sets"] = [[row | {"id": f"{row['id']}!"} for row in report["per_target_of_sets"][0]]]
    report["benchmark"]["version"] = 1
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
    report: dict[str, Any] = read_report(reports[1])
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
        assert f"given formula_units; {told}; 3 targets" in leaderboard({"a": {**report, "sampling": options}}, [])
    drawn = {"sampling": ("--repeat", "1"), "followed_templates": {"passed": 3, "attempted": 4, "share": 0.75}}
    assert "independent draws, 75% of them like a known crystal; 3 targets" in leaderboard({"a": report | drawn}, [])
    drawn |= {"redrawn": {str(Refusal.BONDS): {"passed": 1, "attempted": 4, "share": 0.25}}}
    told = "75% of them like a known crystal, 25% drawn again because of bonds; 3 targets"
    assert told in leaderboard({"a": report | drawn}, [])
    with pytest.raises(ConfigError, match="occurs twice"):
        PublishedTable(results=(row, row))


def test_the_leaderboard_shows_free_samples() -> None:
    rate = {"passed": 3, "attempted": 4}
    report = {"samples": 4, "rates": {"valid": rate}, "distances": {}, "reference_rows": 1000}
    assert "| [free](reports/free) | - | 4 | 3/4 (75.0%, 30.1-95.4) | - |" in leaderboard({"free": report}, [])


def test_the_leaderboard_knows_the_edition_of_older_reports(reports: list[Path]) -> None:
    """Version 0.1 called the model that ships `default`."""
    report = read_report(reports[1])
    del report["made_by"], report["seen"]
    assert "(reports/a) | benchmark |" in leaderboard({"a": report | {"label": "default_unlike"}}, [])
    assert "(reports/a) | - |" in leaderboard({"a": report | {"label": "mp20_only"}}, [])


def test_the_committed_leaderboard_is_current() -> None:
    """Otherwise run `crystallm eval leaderboard`."""
    assert (REPOSITORY / "eval" / "LEADERBOARD.md").read_text(encoding="utf-8") == page(REPOSITORY)


def test_targets_without_a_verdict_are_no_evidence() -> None:
    rows = [
        {"id": "a", "first_match": None, "undecided": [1]},
        {"id": "b", "first_match": 2, "undecided": [1]},
        {"id": "c", "first_match": None, "undecided": [3]},
        {"id": "d", "first_match": None},  # reports of version 1 know nothing of it
    ]
    report = {"per_target_of_sets": [rows]}
    assert matched(report, top=2) == {"b": True, "c": False, "d": False}
    assert matched(report, top=1) == {"c": False, "d": False}
