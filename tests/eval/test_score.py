"""`crystallm eval score`: the truth scores 100 %, strangers score by chance, and bad input stays in the denominator."""

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pymatgen.core import Structure
from pymatgen.io.cif import CifWriter

from crystallm.base.command_line import Command
from crystallm.base.errors import InputError
from crystallm.base.workers import Fate
from crystallm.cli import main as cli
from crystallm.crystal.cell import Reason
from crystallm.eval.benchmarking.score_command import main, name_of, score_free_samples
from crystallm.eval.denovo.evaluation import DenovoConfig
from crystallm.eval.prediction import comparisons, plain_loop
from crystallm.eval.prediction.comparisons import Group, Outcome, Question, compare, match
from crystallm.eval.prediction.report_file import read_report
from crystallm.eval.prediction.scoring import ScoreConfig
from crystallm.eval.sets.benchmark import load_benchmark
from crystallm.eval.sets.samples import read_samples, samples_digest
from crystallm.eval.sets.targets import Target, make_target, read_targets

QUICK = ["--workers", "1", "--no-validity"]


def write_rows(path: Path, *rows: Mapping[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(salts: Path, samples: Path | list[Path], *more: str) -> dict[str, Any]:
    out = salts.parent / "out"
    files = samples if isinstance(samples, list) else [samples]
    main([str(salts), *map(str, files), "--data", str(salts.parent), "--out", str(out), *QUICK, *more])
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def test_the_truth_scores_100_percent_and_rmse_0(salts: Path, cifs: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "truth"
    folder.mkdir()
    for name in ("NaCl", "TiO2", "CsCl"):
        (folder / f"{name}__1.cif").write_text(cifs[name])
    report = run(salts, folder, "--json", str(tmp_path / "copy.json"), "--prompt", "formula", "--label", "truth")
    metrics = report["metrics"]
    for name in ("match_rate@1", "match_rate@5_smact", "match_rate@1_strict", "metre@1", "metre@5"):
        assert (metrics[name]["passed"], metrics[name]["attempted"]) == (3, 3), name
    assert metrics["space_group_accuracy"]["passed"] == metrics["formula_units_accuracy"]["passed"] == 3
    for name in ("rmse@1", "rmse@5_smact", "rmse@1_strict", "crmse@1"):
        assert metrics[name] == pytest.approx(0, abs=1e-6), name
    assert report["ceilings"]["smact"]["passed"] == 3
    assert report["parts"]["prototype"]["seen"]["match_rate@1"]["attempted"] == 1  # rock salt: LiF and KBr in training
    assert (report["label"], report["prompt"]) == ("truth", "formula")
    assert read_report(tmp_path / "copy.json") == read_report(tmp_path / "out")
    assert json.loads((tmp_path / "copy.json").read_text())["per_target_of_sets"][0][0]["first_match"] == 1
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| 1 | standard | 3/3 (100.0%, 43.9-100.0) | 0.0000 |" in text


def test_shuffled_predictions_score_as_chance(salts: Path, cifs: dict[str, str], tmp_path: Path) -> None:
    """Each target gets another target's structure: no formula agrees, so chance is nothing at all."""
    names = ["NaCl", "TiO2", "CsCl"]
    rows = [{"target_id": a, "sample": 0, "cif": cifs[b]} for a, b in zip(names, names[1:] + names[:1], strict=True)]
    report = run(salts, write_rows(tmp_path / "s.jsonl", *rows))
    assert report["metrics"]["match_rate@5"] | {"interval_95": 0} == {
        "passed": 0,
        "attempted": 3,
        "undecided": 0,
        "share": 0.0,
        "interval_95": 0,
    }
    assert report["metrics"]["crmse@1"] == 0.5
    assert report["samples"]["not_matched"] == {"another formula": 3}


def test_polymorphs_predicted_for_each_other_are_no_match_but_meet_in_metre(
    salts: Path, cifs: dict[str, str], tmp_path: Path, parquet: Callable[..., Path]
) -> None:
    """Two targets of one formula, each given the structure of the other: chance of the match rate, METRe of 100 %."""
    names = ("NaCl", "NaCl in the CsCl type")
    parquet("targets.parquet", *names, split="val")
    rows = [{"target_id": a, "sample": 0, "cif": cifs[b]} for a, b in zip(names, names[::-1], strict=True)]
    samples = write_rows(tmp_path / "s.jsonl", *rows)
    metrics = run(salts, samples)["metrics"]
    assert metrics["match_rate@1"]["passed"] == 0
    assert (metrics["metre@1"]["passed"], metrics["metre@1"]["attempted"]) == (2, 2)
    assert metrics["crmse@1"] == pytest.approx(0, abs=1e-6)
    assert "metre@1" not in run(salts, samples, "--no-metre")["metrics"]


def test_what_is_broken_is_counted_by_reason(
    salts: Path, cifs: dict[str, str], crystals: dict[str, Structure], tmp_path: Path
) -> None:
    mixed = crystals["NaCl"].copy()
    mixed.replace_species({"Na": {"Na": 0.5, "K": 0.5}})
    rows = [
        {"target_id": "NaCl", "sample": 0, "cif": "data_broken"},
        {"target_id": "NaCl", "sample": 1, "cif": str(CifWriter(mixed))},
        {"target_id": "NaCl", "sample": 2, "cif": cifs["NaCl in the CsCl type"]},
        {"target_id": "NaCl", "sample": 3, "cif": None, "reason": "given up"},
        {"target_id": "NaCl", "sample": 4, "cif": cifs["NaCl"]},
        {"target_id": "NaCl", "sample": 5, "cif": cifs["NaCl"]},  # the sixth is beyond the five of the benchmark
        {"target_id": "nobody", "sample": 0, "cif": cifs["NaCl"]},
    ]
    report = run(salts, write_rows(tmp_path / "s.jsonl", *rows))
    assert report["samples"]["matching"]["attempted"] == 5
    assert report["samples"]["not_matched"] == {"no atoms": 2, "disordered": 1, "no match": 1}
    assert report["samples"]["ignored"] == {"no such target": 1}
    assert report["samples"]["targets_without_samples"] == 2
    assert [report["metrics"][f"match_rate@{k}"]["passed"] for k in (1, 5)] == [0, 1]
    assert report["metrics"]["match_rate@5"]["attempted"] == 3


def test_a_swollen_copy_matches_and_its_volume_is_told(
    salts: Path, crystals: dict[str, Structure], tmp_path: Path
) -> None:
    """Rock salt with a cell edge of 6 instead of 5.64 angstrom: the matcher scales it, ln V is off by 3 ln(6/5.64)."""
    swollen = str(CifWriter(crystals["NaCl"].copy().scale_lattice(6.0**3)))
    report = run(salts, write_rows(tmp_path / "s.jsonl", {"target_id": "NaCl", "sample": 0, "cif": swollen}))
    assert report["metrics"]["rmse@1"] == pytest.approx(0, abs=1e-6)
    for name in ("volume_error_mean@1", "volume_error_median@5"):
        assert report["metrics"][name] == pytest.approx(3 * math.log(6.0 / 5.64), abs=1e-4)
    assert "| volume_error_median@1 | 0.1856 |" in (tmp_path / "out" / "report.md").read_text()


def test_seeds_share_targets(salts: Path, cifs: dict[str, str], tmp_path: Path) -> None:
    one = write_rows(tmp_path / "one.jsonl", {"target_id": "NaCl", "sample": 0, "cif": cifs["NaCl"]})
    two = write_rows(tmp_path / "two.jsonl", {"target_id": "NaCl", "sample": 0, "cif": cifs["TiO2"]})
    report = run(salts, [one, two])
    assert report["over_seeds"]["match_rate@1"]["values"] == [1 / 3, 0.0]
    assert "| match_rate@1 | 0.3333, 0.0000 | 0.1667 |" in (tmp_path / "out" / "report.md").read_text()


def test_validity_stands_beside_that_of_the_truth(salts: Path, cifs: dict[str, str], tmp_path: Path) -> None:
    rows = [{"target_id": name, "sample": 0, "cif": cifs["too close"]} for name in ("NaCl", "TiO2")]
    out = tmp_path / "out"
    samples = write_rows(tmp_path / "s.jsonl", *rows)
    main([str(salts), str(samples), "--data", str(tmp_path), "--out", str(out), "--workers", "1"])
    report = json.loads((out / "report.json").read_text())
    rates = {name: found["rates"]["valid"] for name, found in report["validity"].items()}
    assert (rates["samples"]["passed"], rates["samples"]["attempted"]) == (0, 2)
    assert (rates["truth as given"]["passed"], rates["truth as given"]["attempted"]) == (3, 3)
    assert sorted(file.name for file in out.glob("*.png")) == ["match_rate.png", "space_groups.png", "validity.png"]


def test_a_second_run_takes_finished_comparisons_from_its_log(
    salts: Path, cifs: dict[str, str], tmp_path: Path
) -> None:
    samples = write_rows(tmp_path / "s.jsonl", {"target_id": "NaCl", "sample": 0, "cif": cifs["NaCl"]})
    run(salts, samples)
    (log,) = (tmp_path / "out").glob("comparisons_*.jsonl")
    (row,) = [json.loads(line) for line in log.read_text().splitlines()]
    log.write_text(json.dumps(row | {"rms": 0.25}) + '\n{"target": "Na')
    assert run(salts, samples)["metrics"]["rmse@1"] == 0.25
    log.write_text('{"target": "Na')  # cut off by a kill: what follows must not be written behind it
    run(salts, samples)
    assert json.loads(log.read_text().splitlines()[1])["target"] == "NaCl"
    log.write_text(json.dumps(row | {"rms": None, "reason": str(Reason.TIMED_OUT)}) + "\n")
    assert run(salts, samples)["metrics"]["rmse@1"] == pytest.approx(0, abs=1e-6)  # too slow once is tried again


def slow(group: Group) -> list[Outcome]:
    """A matcher that hangs on crystals of a doubtful name."""
    while any("doubtful" in str(cif) for cif in group.cifs):
        pass
    return match(group)


def test_a_matcher_that_hangs_is_no_match(
    salts: Path, cifs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparisons, "match", slow)
    benchmark, targets = load_benchmark(str(salts)), read_targets(tmp_path / "targets.parquet")
    rows = [
        {"target_id": "NaCl", "sample": 0, "cif": cifs["NaCl"]},
        {"target_id": "TiO2", "sample": 0, "cif": cifs["TiO2"] + "# doubtful\n"},
        {"target_id": "TiO2", "sample": 1, "cif": cifs["TiO2"]},
    ]
    samples = read_samples(write_rows(tmp_path / "s.jsonl", *rows), targets)
    asked = [Question(row["target_id"], row["target_id"], row["sample"]) for row in rows]
    found = compare(
        targets,
        samples,
        asked,
        standard=benchmark.standard,
        strict=benchmark.strict,
        workers=1,
        time_limit_s=1.0,
        log=tmp_path / "log.jsonl",
    )
    assert found["TiO2", "TiO2", 0] == Outcome(None, str(Fate.TIMED_OUT))
    for key in (("TiO2", "TiO2", 1), ("NaCl", "NaCl", 0)):  # others of the same target are compared nevertheless
        assert found[key].rms == pytest.approx(0, abs=1e-6)


def test_the_plain_loop_agrees(salts: Path, cifs: dict[str, str], tmp_path: Path) -> None:
    rows = [
        {"target_id": "NaCl", "sample": 0, "cif": cifs["NaCl"]},
        {"target_id": "NaCl", "sample": 1, "cif": cifs["NaCl in the CsCl type"]},
        {"target_id": "TiO2", "sample": 0, "cif": cifs["TiO2"]},
        {"target_id": "TiO2", "sample": 1, "cif": "data_broken"},
        {"target_id": "CsCl", "sample": 0, "cif": cifs["TiO2"]},
    ]
    found = run(salts, write_rows(tmp_path / "s.jsonl", *rows), "--compare-plain", "50")["plain_loop"]
    assert (found["samples"], found["same_verdict"]["passed"], found["differing"]) == (5, 5, [])


def test_what_pymatgen_contradicts_itself_on_is_left_out_of_the_same_verdicts(
    salts: Path, cifs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_loop, "plain_verdicts", lambda group, by: [(False, False)] * len(group.cifs))
    monkeypatch.setattr(plain_loop, "_undecided", lambda *given: True)
    rows = [
        {"target_id": "NaCl", "sample": 0, "cif": cifs["NaCl"]},
        {"target_id": "NaCl", "sample": 1, "cif": cifs["NaCl in the CsCl type"]},
    ]
    found = run(salts, write_rows(tmp_path / "s.jsonl", *rows), "--compare-plain", "50")["plain_loop"]
    assert (found["samples"], found["undecided"]) == (2, 1)
    assert (found["same_verdict"]["passed"], found["same_verdict"]["attempted"]) == (1, 1)


def test_trusted_atoms_get_verdicts_of_their_own(salts: Path, cifs: dict[str, str], tmp_path: Path) -> None:
    wrong = re.sub(r"(_chemical_formula_sum\s+).*", r"\1'Na2 Cl'", cifs["NaCl"])
    samples = write_rows(tmp_path / "s.jsonl", {"target_id": "NaCl", "sample": 0, "cif": wrong})
    found = [run(salts, samples, *more)["metrics"]["match_rate@1"] for more in ([], ["--trust-atoms"], [])]
    assert [rate["passed"] for rate in found] == [0, 1, 0]
    assert len(list((tmp_path / "out").glob("comparisons_*.jsonl"))) == 2


def test_prototypes_that_older_versions_did_not_find_in_time_are_looked_for_again(
    salts: Path, cifs: dict[str, str], tmp_path: Path
) -> None:
    samples = write_rows(tmp_path / "s.jsonl", {"target_id": "NaCl", "sample": 0, "cif": cifs["NaCl"]})
    run(salts, samples)
    (cache,) = (tmp_path / "out").glob("structure_types_*.jsonl")
    key = cache.stem.removeprefix("structure_types_")
    cache.unlink()
    (tmp_path / "out" / f"prototypes_{key}.jsonl").write_text('["LiF", null]\n["KBr", null]\n')
    assert "seen" in run(salts, samples)["parts"]["prototype"]


def test_samples_are_called_after_their_file_or_its_folder(tmp_path: Path) -> None:
    assert name_of(Path("mine.jsonl")) == name_of(Path("mine")) == "mine"
    assert name_of(tmp_path / "seed0" / "samples.jsonl") == "seed0"


def test_targets_by_number_by_file_and_all(salts: Path, cifs: dict[str, str], tmp_path: Path) -> None:
    rows = [{"target_id": name, "sample": 0, "cif": cifs[name]} for name in ("NaCl", "TiO2", "CsCl")]
    samples = write_rows(tmp_path / "s.jsonl", *rows)
    assert run(salts, samples)["targets"] == 3
    two = run(salts, samples, "--targets", "2", "--target-seed", "1")
    assert (two["targets"], two["drawn"]["number"], two["drawn"]["seed"]) == (2, 2, 1)
    assert two["samples"]["ignored"] == {"no such target": 1}
    (tmp_path / "ids.txt").write_text("TiO2\nNaCl\n")
    chosen = run(salts, samples, "--targets", str(tmp_path / "ids.txt"))
    assert (chosen["targets"], chosen["drawn"]["file"]) == (2, "ids.txt")
    assert run(salts, samples, "--targets", str(tmp_path / "targets.parquet"))["targets"] == 3
    own = ["--targets", str(tmp_path / "targets.parquet"), "--out", str(tmp_path / "own")]
    main([str(salts), str(samples), *own, *QUICK])  # no folder of data files: nothing is asked of it
    assert "prototype" not in json.loads((tmp_path / "own" / "report.json").read_text())["parts"]
    (tmp_path / "ids.txt").write_text("TiO2\nNaBr\n")
    with pytest.raises(InputError, match="'NaBr' is no target of salts"):
        run(salts, samples, "--targets", str(tmp_path / "ids.txt"))


def test_mistakes_are_messages_with_exit_code_2(
    salts: Path, tmp_path: Path, cifs: dict[str, str], capsys: pytest.CaptureFixture[str], parquet: Callable[..., Path]
) -> None:
    samples = write_rows(tmp_path / "s.jsonl", {"target_id": "NaCl", "sample": 0, "cif": cifs["NaCl"]})
    there = ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
    for arguments, message in {
        ("salt", str(samples)): "unknown benchmark 'salt'",
        (str(salts), str(tmp_path / "none.jsonl")): "does not exist",
        (str(salts), str(samples), "--targets", "many"): "is no number, not `all`, and no file of ids",
        (str(salts), str(samples), "--targets", "0"): "at least 1",
        (str(salts), str(samples), "--json", str(tmp_path / "no" / "r.json")): "its folder is missing",
        (str(salts), str(samples), "--time-limit", "0"): "time limits must be > 0",
        (str(salts), str(samples), "--", "--energy"): "only benchmarks of free samples take options after --",
    }.items():
        place = arguments.index("--") if "--" in arguments else len(arguments)
        assert cli(["eval", "score", *arguments[:place], *there, *arguments[place:]]) == 2, arguments
        assert message in capsys.readouterr().err
    parquet("targets.parquet", "NaCl", "NaCl", split="val")
    assert cli(["eval", "score", str(salts), str(samples), *there]) == 2
    assert "occurs twice" in capsys.readouterr().err


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the judge of free samples is asked, call by call, instead of judging."""
    asked: list[dict[str, Any]] = []

    def judge(
        samples: Path, config: DenovoConfig, *, reference: tuple[Path, ...], out: Path, energy: bool = False
    ) -> None:
        asked.append({"samples": samples, "config": config, "reference": reference, "out": out, "energy": energy})

    monkeypatch.setattr("crystallm.eval.denovo.command.main", Command(judge, "crystallm eval denovo"))
    return asked


def test_free_samples_go_to_the_command_for_them(tmp_path: Path, judged: list[dict[str, Any]]) -> None:
    """The seam: samples, reference files with their split, and further options."""
    benchmark = load_benchmark("de_novo")
    for name in benchmark.rows.files:
        (tmp_path / name).touch()
    score_free_samples(benchmark, tmp_path / "s.jsonl", tmp_path, tmp_path / "out", ScoreConfig(), ["--energy"])
    (asked,) = judged
    assert (asked["samples"], asked["out"], asked["energy"]) == (tmp_path / "s.jsonl", tmp_path / "out", True)
    assert asked["reference"] == tuple(tmp_path / name for name in benchmark.rows.files)
    assert (asked["config"].split_column, asked["config"].split) == ("suggested_split", "train")


def test_options_after_the_dashes_go_before_those_of_the_benchmark(
    tmp_path: Path, judged: list[dict[str, Any]]
) -> None:
    benchmark = load_benchmark("de_novo")
    for name in benchmark.rows.files:
        (tmp_path / name).touch()
    more = ["--split", "val", "--out", str(tmp_path / "other"), "--reference", "a", "b"]
    score_free_samples(benchmark, tmp_path / "s.jsonl", tmp_path, tmp_path / "out", ScoreConfig(), more)
    (asked,) = judged
    assert (asked["config"].split, asked["out"]) == ("val", tmp_path / "other")
    assert asked["reference"] == (Path("a"), Path("b"))


@pytest.mark.parametrize("command", ["score", "run"])
def test_options_of_reading_reach_the_judge_of_free_samples(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judged: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr("crystallm.eval.benchmarking.run_command.draw", lambda command: None)
    for name in load_benchmark("de_novo").rows.files:
        (tmp_path / name).touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "denovo.json").write_text('{"rates": {}}')
    samples = [str(tmp_path / "s.jsonl")] if command == "score" else []
    there = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--trust-atoms", "--max-file-mb", "3"]
    assert cli(["eval", command, "de_novo", *samples, *there]) == 0
    (asked,) = judged
    assert (asked["config"].trust_atoms, asked["config"].max_file_mb) == (True, 3)


def test_a_large_sample_is_refused_by_name(tmp_path: Path, cifs: dict[str, str]) -> None:
    """`--max-file-mb` reaches the reader of samples."""
    (tmp_path / "NaCl__0.cif").write_text(" " * 20_000)
    target = make_target("NaCl", cifs["NaCl"])
    assert isinstance(target, Target)
    (sample,) = read_samples(tmp_path, [target], max_file_mb=0.01).by_target["NaCl"]
    assert "0.02 MB, more than the 0.01 MB" in str(sample.cif)


def test_files_that_cannot_be_named_or_read_cost_no_verdict(
    salts: Path, cifs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "NaCl__0.cif").write_text(cifs["NaCl"])
    before = samples_digest(folder)
    (folder / os.fsdecode(b"caf\xe9__0.cif")).write_text(cifs["TiO2"])
    (folder / "secret__0.cif").write_text(cifs["TiO2"])
    (folder / "gone__0.cif").symlink_to("nowhere")
    os.mkfifo(folder / "pipe__0.cif")
    opened = Path.open

    def refuse(self: Path, *arguments: object, **more: object) -> object:
        if self.name.startswith("secret"):
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *arguments, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    report = run(salts, folder)
    assert report["metrics"]["match_rate@1"]["passed"] == 1
    assert samples_digest(folder) != before
