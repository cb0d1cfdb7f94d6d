"""Has the model seen what it is measured on? Makers, verdicts, and reports that withhold or mark their rates."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crystallm.base.errors import CheckpointError
from crystallm.base.provenance import sha256
from crystallm.cli import main as cli
from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.cif import read_cif
from crystallm.crystal.description import describe
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.crystal.matching.tolerances import STANDARD
from crystallm.data.seen import SEEN_FILE, Seen
from crystallm.eval.benchmarking.compare import main as compare
from crystallm.eval.benchmarking.leaderboard import leaderboard
from crystallm.eval.benchmarking.score_command import main as score
from crystallm.eval.prediction.report_file import read_report
from crystallm.eval.prediction.results import MadeBy, Report, SeenTargets
from crystallm.eval.prediction.target_rows import TargetRow
from crystallm.eval.rate import Rate
from crystallm.eval.seen import Maker, Verdict, few_seen, judge_targets, maker_called, maker_in, maker_of_samples
from crystallm.eval.seen import verdicts as module
from crystallm.eval.seen.verdicts import (
    ANOTHER_FORMULA,
    NO_LIBRARY,
    NO_MATCH,
    NOT_LISTED,
    UNANSWERED,
    State,
    known_crystals,
)
from crystallm.eval.sets.targets import Target, make_target, read_targets
from crystallm.model.editions import edition_folder
from crystallm.tokenizer.layout import Layout, get_layout

HELD_OUT = Path(__file__).with_name("held_out.parquet")
"""24 test rows of MP-20 and MPTS-52 (Materials Project, CC-BY-4.0; MP-20 as distributed with CDVAE, MIT) of whose
formulas the benchmark edition has seen other structures."""


def target(cifs: dict[str, str], name: str, called: str | None = None) -> Target:
    found = make_target(called or name, cifs[name])
    assert not isinstance(found, Rejection)
    return found


def library(folder: Path, *cifs: str) -> None:
    """A library of crystals in a folder."""
    layout = get_layout("wyckoff")
    assert isinstance(layout, Layout)
    rows = []
    for cif in cifs:
        cell = read_cif(cif)
        assert isinstance(cell, Cell)
        description = describe(cell)
        assert not isinstance(description, Rejection)
        text = layout.write(description)
        assert isinstance(text, str)
        rows.append({"formula": "".join(f"{s}{n if n > 1 else ''}" for s, n in description.amounts), "text": text})
    table = pa.Table.from_pylist(rows, schema=pa.schema([("formula", pa.string()), ("text", pa.string())]))
    pq.write_table(table.replace_schema_metadata({"layout": "wyckoff"}), folder / "templates.parquet")


def judged(targets: list[Target], folder: Path) -> dict[str, tuple[State, str]]:
    found = judge_targets(targets, folder, tolerances=STANDARD, workers=1, time_limit_s=30)
    return {name: (verdict.state, verdict.how) for name, verdict in found.items()}


def test_by_id_by_copy_and_by_structure(cifs: dict[str, str], tmp_path: Path) -> None:
    """Rock salt as KCl and NaCl; NaCl in the CsCl type is another crystal of a known formula."""
    Seen(frozenset({("mp-1", "NaCl"), ("mp-2", "KCl")}), frozenset({("mp-3", "TiO2")})).write(tmp_path / SEEN_FILE)
    library(tmp_path, cifs["NaCl"], cifs["KCl"])
    targets = [
        target(cifs, "NaCl in the CsCl type", "mp_20:mp-1"),
        target(cifs, "TiO2", "mp_20:mp-3"),
        target(cifs, "KCl"),
        target(cifs, "NaCl in the CsCl type", "x"),
        target(cifs, "CsCl"),
    ]
    assert judged(targets, tmp_path) == {
        "mp_20:mp-1": (State.SEEN, "id"),
        "mp_20:mp-3": (State.SEEN, "id"),
        "KCl": (State.SEEN, "structure"),
        "x": (State.UNSEEN, NO_MATCH),
        "CsCl": (State.UNSEEN, ANOTHER_FORMULA),
    }


def test_what_cannot_be_told_is_undecided(cifs: dict[str, str], tmp_path: Path) -> None:
    targets = [target(cifs, "NaCl"), target(cifs, "CsCl")]
    assert judged(targets, tmp_path) == dict.fromkeys(("NaCl", "CsCl"), (State.UNDECIDED, NOT_LISTED))
    library(tmp_path, cifs["NaCl"])  # a checkpoint of version 0.1: a library, no list
    assert judged(targets, tmp_path)["NaCl"] == (State.SEEN, "structure")
    assert judged(targets, tmp_path)["CsCl"] == (State.UNDECIDED, NOT_LISTED)
    (tmp_path / "templates.parquet").unlink()
    Seen(frozenset({("mp-1", "NaCl")})).write(tmp_path / SEEN_FILE)  # of a layout without library
    assert judged(targets, tmp_path) == {"NaCl": (State.UNDECIDED, NO_LIBRARY), "CsCl": (State.UNSEEN, ANOTHER_FORMULA)}


def hang(group: object) -> None:
    while True:
        pass


def test_a_comparison_without_answer_is_undecided(
    cifs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Seen(frozenset({("mp-1", "NaCl")})).write(tmp_path / SEEN_FILE)
    library(tmp_path, cifs["NaCl"])
    monkeypatch.setattr(module, "has_twin", hang)
    found = judge_targets([target(cifs, "NaCl")], tmp_path, tolerances=STANDARD, workers=1, time_limit_s=0.2)
    assert found == {"NaCl": Verdict(State.UNDECIDED, UNANSWERED, formula=True)}
    assert found["NaCl"].seen is None


def test_a_damaged_library_or_list_is_refused(cifs: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "templates.parquet").write_bytes(b"PAR1")
    with pytest.raises(CheckpointError, match="copy the checkpoint again"):
        known_crystals(tmp_path / "templates.parquet", {"NaCl"})
    (tmp_path / SEEN_FILE).write_bytes(b"PAR1")
    with pytest.raises(CheckpointError, match=r"cannot read .*seen\.parquet"):
        judged([target(cifs, "NaCl")], tmp_path)


def test_the_benchmark_edition_has_not_seen_its_benchmarks() -> None:
    """The other structures of these formulas are in its library, so each one is compared."""
    targets = read_targets(HELD_OUT)
    found = judge_targets(targets, edition_folder("benchmark"), tolerances=STANDARD, workers=1, time_limit_s=60)
    assert len(found) == 24
    assert {(verdict.state, verdict.how, verdict.formula) for verdict in found.values()} == {
        (State.UNSEEN, NO_MATCH, True)
    }


def test_the_benchmark_edition_owns_up_to_what_preparation_missed() -> None:
    """Eleven test rows equal a training row, most of them a slightly distorted one: they are listed as copies."""
    seen = Seen.read(edition_folder("benchmark"))
    assert seen is not None
    missed = {"mp-5699": "K2CuF4", "mp-18896": "V6O13", "mp-1187792": "Tl2S", "mp-1205375": "LaMnO3"}
    assert all(seen.has_id(f"mp_20:{name}", parse_formula(formula)) for name, formula in missed.items())


def test_the_benchmark_edition_has_seen_what_it_was_trained_on(cifs: dict[str, str]) -> None:
    """Potassium bromide as rock salt, CsCl, and the hypothetical NaCl of the CsCl type are training rows."""
    seen = Seen.read(edition_folder("benchmark"))
    assert seen is not None
    assert (len(seen), len(seen.formulas)) == (117_738, 82_410)
    assert seen.has_formula(parse_formula("NaCl"))
    names = ["KBr", "CsCl", "NaCl in the CsCl type"]
    found = judged([target(cifs, name) for name in names], edition_folder("benchmark"))
    assert found == dict.fromkeys(names, (State.SEEN, "structure"))


def test_the_maker_is_found_by_the_weights_that_samples_name(tmp_path: Path) -> None:
    digest = sha256(edition_folder("benchmark") / "model.safetensors")
    samples = tmp_path / "samples.jsonl"
    rows = [{"target_id": "NaCl", "sample": 0, "cif": "", "model": f"default@{digest[:12]}"}]
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    maker = maker_of_samples([samples, samples])
    assert (maker.name, maker.edition) == ("benchmark edition", "benchmark")
    (tmp_path / "provenance.json").write_text(json.dumps({"settings": {"templates": "0" * 12}}))
    assert "another library of known crystals" in maker_of_samples([samples]).why
    samples.write_text(json.dumps(rows[0] | {"model": "mine@" + "0" * 12}) + "\n")
    assert "give its folder with --made-by DIR" in maker_of_samples([samples]).why
    samples.write_text(json.dumps({"target_id": "NaCl", "cif": ""}) + "\n")
    assert maker_of_samples([samples]) == Maker("unknown", why="the samples do not say which model made them")


def test_several_models_are_no_maker(tmp_path: Path) -> None:
    samples = tmp_path / "samples.jsonl"
    rows = [{"target_id": "NaCl", "cif": "", "model": f"{name}@{'0' * 12}"} for name in "ab"]
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert maker_of_samples([samples]).why.startswith("the samples name 2 models: a@")


def test_a_folder_of_cifs_names_its_model_in_provenance(tmp_path: Path) -> None:
    digest = sha256(edition_folder("benchmark") / "model.safetensors")
    (tmp_path / "provenance.json").write_text(json.dumps({"settings": {"model": f"benchmark@{digest[:12]}"}}))
    assert maker_of_samples([tmp_path]).edition == "benchmark"


def test_a_copy_of_an_edition_is_that_edition(tmp_path: Path) -> None:
    shutil.copytree(edition_folder("benchmark"), tmp_path / "mine")
    assert maker_in(tmp_path / "mine") == Maker("benchmark edition", tmp_path / "mine", "benchmark")
    assert maker_called("benchmark").folder == edition_folder("benchmark")
    with pytest.raises(CheckpointError, match=r"no checkpoint folder .*or name an edition: full, benchmark"):
        maker_called("half")


@pytest.fixture
def scored(salts: Path, cifs: dict[str, str], tmp_path: Path) -> Callable[..., Report]:
    """Reports of perfect samples that the benchmark edition is said to have made; of the targets it knows CsCl."""
    rows = [{"target_id": name, "sample": 0, "cif": cifs[name]} for name in ("NaCl", "TiO2", "CsCl")]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(out: str, *more: str) -> Report:
        quick = ["--workers", "1", "--no-validity", "--data", str(tmp_path), "--out", str(tmp_path / out)]
        score([str(salts), str(tmp_path / "s.jsonl"), *quick, *more])
        return read_report(tmp_path / out)

    return make


def test_rates_of_seen_targets_are_withheld(
    scored: Callable[..., Report], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = scored("out", "--made-by", "benchmark")
    assert report.made_by == MadeBy(name="benchmark edition", edition="benchmark")
    assert report.seen is not None
    assert (report.seen.targets, report.seen.of, report.seen.shown) == (1, 3, False)
    assert (report.metrics, report.parts, report.curve) == ({}, {}, {})
    assert TargetRow(id="CsCl", samples=1, seen=True) in report.per_target[0]
    said = capsys.readouterr().out
    assert "1 of 3 targets were seen by the model that made these samples (benchmark edition)" in said
    assert "match rates are withheld" in said
    assert "match rate |" not in said
    assert "100.0%" not in said
    assert not list((tmp_path / "out").glob("match_rate.png"))


def test_a_few_seen_targets_count_as_not_matched(
    scored: Callable[..., Report], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here up to a half are few. The denominator stays; the rate is a lower bound."""
    monkeypatch.setattr("crystallm.eval.seen.reporting.FEW", 0.5)
    report = scored("out", "--made-by", "benchmark")
    assert report.seen is not None
    assert (report.seen.targets, report.seen.shown, report.seen.missed) == (1, False, True)
    assert report.metrics["match_rate@1"] == Rate(2, 3)
    assert report.metrics["space_group_accuracy"] == report.metrics["metre@1"] == Rate(2, 3)
    assert report.samples.not_matched == {"of a target seen in training": 1}
    assert "1 of 3 targets were seen by the model that made these samples (benchmark edition): they count as not" in (
        capsys.readouterr().out
    )


def test_few_is_one_in_a_hundred() -> None:
    verdicts = {str(number): Verdict(State.UNSEEN, NO_MATCH) for number in range(199)}
    assert few_seen(verdicts) == frozenset()
    assert few_seen(verdicts | {"a": Verdict(State.SEEN, "id")}) == {"a"}
    seen = {name: Verdict(State.SEEN, "id") for name in "abc"}
    assert few_seen(verdicts | seen) == frozenset()


def test_they_are_printed_on_request_and_marked(
    scored: Callable[..., Report], capsys: pytest.CaptureFixture[str]
) -> None:
    report = scored("out", "--made-by", "benchmark", "--print-seen")
    assert report.seen is not None
    assert (report.seen.targets, report.seen.of, report.seen.shown) == (1, 3, True)
    assert report.metrics["match_rate@1"] == Rate(3, 3)
    assert {row.id for row in report.per_target[0] if row.seen} == {"CsCl"}
    assert report.parts["seen in training"]["unseen"]["match_rate@1"] == Rate(2, 2)
    said = capsys.readouterr().out
    assert "| samples | counted as | match rate, seen in training: not a prediction | RMSE |" in said


def test_without_provenance_it_is_unknown(scored: Callable[..., Report], capsys: pytest.CaptureFixture[str]) -> None:
    report = scored("out")
    assert report.seen == SeenTargets(targets=None, of=3, shown=True)
    assert report.metrics["match_rate@1"] == Rate(3, 3)
    said = "Made by: unknown. Whether the model has seen the targets is unknown: the samples do not say which model"
    assert said in capsys.readouterr().out


def test_what_no_target_was_seen_of_says_so(
    scored: Callable[..., Report], cifs: dict[str, str], parquet: Callable[..., Path]
) -> None:
    parquet("targets.parquet", "NaCl", "TiO2", split="val")
    report = scored("out", "--made-by", "benchmark")
    assert report.seen is not None
    assert (report.seen.targets, report.seen.shown) == (0, True)
    assert report.metrics["match_rate@1"] == Rate(2, 2)


def test_compare_and_leaderboard_tell(
    scored: Callable[..., Report], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    withheld, shown = scored("a", "--made-by", "benchmark"), scored("b", "--made-by", "benchmark", "--print-seen")
    scored("c")
    capsys.readouterr()
    compare([str(tmp_path / name) for name in "abc"])
    said = capsys.readouterr().out
    assert "| made by | benchmark edition | benchmark edition | unknown |" in said
    told = "1 of 3: rates withheld | 1 of 3: seen in training: not a prediction | unknown |"
    assert f"| targets seen | {told}" in said
    assert "score its samples again with --print-seen to compare them" in said
    page = leaderboard({"a": withheld, "b": shown}, [])
    assert "(reports/a) | benchmark | - | - |" in page
    assert "1 of 3 targets seen in training: match rates withheld" in page
    assert "1 of 3 targets seen in training: not a prediction" in page


def test_mistakes(salts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
    mine = str(tmp_path / "mine")
    for arguments, message in {
        ("run", str(salts), "--edition", "benchmark", "--model", mine): "both name a model; leave one of them out",
        ("run", str(salts), "--edition", "half"): "invalid choice: 'half'",
        ("run", str(salts), "--model", mine): "there is no checkpoint folder",
        ("run", str(salts), "--", "--edition", "full"): "give --model or --edition to `eval run`, before the --",
        ("score", str(salts), mine, "--made-by", "half"): "or name an edition: full, benchmark",
    }.items():
        place = arguments.index("--") if "--" in arguments else len(arguments)
        try:
            code = cli(["eval", *arguments[:place], *there, *arguments[place:]])
        except SystemExit as ended:  # argparse ends itself
            code = ended.code
        assert code == 2, arguments
        assert message in capsys.readouterr().err
