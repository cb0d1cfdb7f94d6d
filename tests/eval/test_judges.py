"""Who judges is a choice: the verdicts are the same, and reports name the judge with its version."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from crystallm.eval.benchmarking.score_command import main as score
from crystallm.eval.denovo.sameness import first_equal
from crystallm.eval.validity import main as validity


def report_of(salts: Path, samples: Path, out: Path, *more: str) -> dict[str, Any]:
    words = [
        str(salts),
        str(samples),
        "--data",
        str(salts.parent),
        "--out",
        str(out),
        "--workers",
        "1",
        "--no-validity",
    ]
    score([*words, *more])
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def test_both_matchers_give_one_report_that_names_its_judge(salts: Path, cifs: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name, drawn in {"NaCl": "NaCl", "TiO2": "TiO2", "CsCl": "NaCl"}.items():
        (folder / f"{name}__1.cif").write_text(cifs[drawn])
    found = [report_of(salts, folder, tmp_path / "out", *more) for more in ([], ["--matcher", "pymatgen"])]
    judges = [report["provenance"]["judges"]["matcher"] for report in found]
    assert [judge["name"] for judge in judges] == ["compiled", "pymatgen"]
    assert judges[1]["versions"] == {"pymatgen": version("pymatgen")}
    rates = [{name: value for name, value in report["metrics"].items() if "rate" in name} for report in found]
    assert rates[0] == rates[1]
    assert rates[0]["match_rate@1"]["passed"] == 2
    assert len(list((tmp_path / "out").glob("comparisons_*.jsonl"))) == 2  # no verdict of one is taken for the other's
    text = (tmp_path / "out" / "report.md").read_text()
    assert f"Judged by matcher: pymatgen's StructureMatcher (pymatgen {version('pymatgen')})." in text


@pytest.mark.parametrize("matcher", ["compiled", "pymatgen"])
def test_repeats_are_found_by_either_matcher(matcher: Any, cifs: dict[str, str]) -> None:
    rivals = ["no CIF", cifs["TiO2"], cifs["NaCl"], cifs["NaCl"]]
    assert first_equal((cifs["NaCl"], rivals), matcher=matcher) == 2
    assert first_equal((cifs["CsCl"], rivals), matcher=matcher) is None


@pytest.mark.parametrize(("words", "path"), [([], "reference"), (["--fast"], "fast"), (["--checks", "fast"], "fast")])
def test_validity_names_the_path_of_its_checks(
    words: list[str], path: str, cifs: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "salt.cif").write_text(cifs["NaCl"])
    validity([str(tmp_path / "salt.cif"), "--json", str(tmp_path / "found.json"), "--workers", "1", *words])
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["judges"]["checks"]["name"] == path
    assert found["rates"]["valid"]["passed"] == 1
