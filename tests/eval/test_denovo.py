"""De novo evaluation on crystals whose verdicts are known: copies, known structures, broken draws."""

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Structure
from pymatgen.io.cif import CifWriter

from crystallm.base.errors import ConfigError, InputError
from crystallm.base.workers import Fate
from crystallm.cli import main as cli
from crystallm.crystal.cell import Reason, Rejection
from crystallm.crystal.checks.validity import failed_checks
from crystallm.crystal.cif import read_cif
from crystallm.energy.journal import Journal
from crystallm.eval.denovo import evaluation as denovo
from crystallm.eval.denovo import named_reference as reference_rows
from crystallm.eval.denovo import sameness
from crystallm.eval.denovo.distributions import distances, jensen_shannon, total_variation
from crystallm.eval.denovo.evaluation import RATES, DenovoConfig, DenovoScore, SampleVerdict, both, score_denovo
from crystallm.eval.denovo.named_reference import Reference
from crystallm.eval.denovo.report import draw_figures
from crystallm.eval.denovo.sameness import earlier_of_equal, find_twins
from crystallm.eval.denovo.sample_properties import Facts, facts_of
from crystallm.eval.rate import Rate
from crystallm.eval.sets.inputs import Record, read_records
from crystallm.eval.validity import ValidityCounts

Writer = Callable[..., Path]


@pytest.fixture
def copies(crystals: dict[str, Structure]) -> dict[str, str]:
    """Rutile again: moved as a whole, in a doubled cell, and swollen a little."""
    shifted, doubled, swollen = (crystals["TiO2"].copy() for _ in range(3))
    shifted.translate_sites(range(6), [0.21, 0.37, 0.11])
    doubled.make_supercell([1, 1, 2])
    swollen.scale_lattice(1.05 * swollen.volume)
    return {name: str(CifWriter(s)) for name, s in (("shifted", shifted), ("doubled", doubled), ("swollen", swollen))}


def judge(samples: list[Record], reference: Path, folder: Path) -> DenovoScore:
    config = DenovoConfig(workers=1, reference_rows=10)
    return score_denovo(samples, Reference([reference]), config, folder=folder)


def test_copies_are_not_unique_and_known_structures_not_novel(
    parquet: Writer, tmp_path: Path, cifs: dict[str, str], copies: dict[str, str]
) -> None:
    texts = {"TiO2": cifs["TiO2"], **copies, "NaCl": cifs["NaCl"], "CsCl type": cifs["NaCl in the CsCl type"]}
    reference = parquet("reference.parquet", "NaCl", "KCl", "LiF")
    score = judge([Record(name, text) for name, text in texts.items()], reference, tmp_path)
    found = {verdict.name: verdict for verdict in score.verdicts}
    assert {name: verdict.twin for name, verdict in found.items()} == {
        "TiO2": None,
        "shifted": "TiO2",
        "doubled": "TiO2",
        "swollen": "TiO2",
        "NaCl": None,
        "CsCl type": None,
    }
    assert {name for name, verdict in found.items() if not verdict.novel} == {"NaCl"}
    assert found["NaCl"].known_as == "NaCl"
    rates = {name: (rate.passed, rate.attempted) for name, rate in score.rates.items()}
    assert rates["valid"] == rates["composition_valid"] == (6, 6)
    assert (rates["unique"], rates["novel"], rates["unique_and_novel"]) == ((3, 6), (5, 6), (2, 6))
    assert "stable" not in rates


def test_what_is_no_crystal_stays_in_every_denominator(parquet: Writer, tmp_path: Path, cifs: dict[str, str]) -> None:
    disordered = cifs["NaCl"].replace("00000000  1\n", "00000000  0.5\n")
    lines = [
        json.dumps({"id": "good", "cif": cifs["CsCl"]}),
        json.dumps({"id": "failed draw", "cif": None, "reason": "dead end"}),
        json.dumps({"id": "disordered", "cif": disordered}),
        json.dumps({"id": "too close", "cif": cifs["too close"]}),
        json.dumps({"id": "cut", "cif": cifs["TiO2"][:-30]}),
        '{"id": "cut line',
    ]
    (tmp_path / "samples.jsonl").write_text("\n".join(lines))
    score = judge(read_records(tmp_path / "samples.jsonl"), parquet("reference.parquet", "NaCl"), tmp_path)
    rates = {name: (rate.passed, rate.attempted) for name, rate in score.rates.items()}
    assert rates["readable"] == (2, 6)
    assert rates["composition_valid"] == (2, 6)
    for name in ("structurally_valid", "valid", "unique", "novel", "unique_and_novel", "valid_unique_and_novel"):
        assert rates[name] == (1, 6), name
    assert score.reasons == {
        "no crystal": {"no atoms": 1, "disordered": 1, "unreadable": 2},
        "structure": {"atoms too close": 1},
    }
    assert score.validity.checked == 6


def test_a_matcher_that_hangs_leaves_a_sample_undecided(
    parquet: Writer, tmp_path: Path, cifs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang_on_rutile(question: tuple[str, list[str]], *, matcher: str) -> int | None:
        if question[0] == cifs["TiO2"]:
            time.sleep(60)
        return None

    monkeypatch.setattr(sameness, "first_equal", hang_on_rutile)
    reference = Reference([parquet("reference.parquet", "TiO2", "NaCl")])
    config = DenovoConfig(workers=1, reference_rows=2, time_limit=2.0)
    samples = [Record("rutile", cifs["TiO2"]), Record("salt", cifs["NaCl"])]
    score = score_denovo(samples, reference, config, folder=tmp_path)
    assert [verdict.novel for verdict in score.verdicts] == [None, True]
    assert score.reasons == {"undecided: novel": {"timed out": 1}}
    assert score.rates["novel"] == Rate(1, 2, undecided=1)
    assert score.rates["structurally_valid"] == Rate(2, 2)


def test_a_second_run_takes_comparisons_from_the_journal(
    tmp_path: Path, cifs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    crystals, rivals = {0: cifs["TiO2"]}, {0: [cifs["NaCl"], cifs["TiO2"]]}
    with Journal(tmp_path / "j.jsonl") as journal:
        first = find_twins(crystals, rivals, journal, workers=1, time_limit_s=30, title="")
    assert first[0].twin == 1
    (tmp_path / "j.jsonl").write_text((tmp_path / "j.jsonl").read_text() + '{"key": "cut')

    def unused(question: tuple[str, list[str]]) -> int | None:
        raise AssertionError("compared again")

    monkeypatch.setattr(sameness, "first_equal", unused)
    with Journal(tmp_path / "j.jsonl") as journal:
        assert find_twins(crystals, rivals, journal, workers=1, time_limit_s=30, title="") == first
        journal.add("next", 7)
    assert Journal(tmp_path / "j.jsonl").values["next"] == 7  # not glued to the line that was cut off


def test_a_second_run_takes_checks_from_the_journal(
    parquet: Writer, tmp_path: Path, cifs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [Record("salt", cifs["NaCl"]), Record("close", cifs["too close"]), Record("cut", "data_x")]
    samples.append(Record("failed", Rejection(Reason.EMPTY, "dead end")))
    reference = parquet("reference.parquet", "TiO2", "NaCl")
    first = judge(samples, reference, tmp_path)
    asked: list[str] = []

    def no_checks(texts: list[str | Rejection], config: object, *, on_result: Callable[..., None], title: str) -> None:
        for index, text in enumerate(texts):
            asked.append(str(text))
            on_result(index, failed_checks("no atoms", "dead end"))

    monkeypatch.setattr(denovo, "check_all", no_checks)
    second = judge(samples, reference, tmp_path)
    assert asked == ["no atoms: dead end"]  # what has no text costs nothing
    assert second.to_json() == first.to_json()


def test_rivals_are_the_earlier_ones_of_the_same_formula() -> None:
    assert earlier_of_equal({0: "a", 2: "b", 5: "a", 7: "a"}) == {0: [], 2: [], 5: [0], 7: [0, 5]}


def test_more_rivals_than_one_call_takes(tmp_path: Path, cifs: dict[str, str]) -> None:
    rivals = {0: [cifs["NaCl in the CsCl type"]] * 25 + [cifs["NaCl"]]}
    with Journal(tmp_path / "j.jsonl") as journal:
        found = find_twins({0: cifs["NaCl"]}, rivals, journal, workers=2, time_limit_s=30, title="")
    assert (found[0].twin, found[0].undecided) == (25, "")


def test_distances_of_a_set_to_itself_are_zero_and_to_another_known(cifs: dict[str, str]) -> None:
    salts = [facts for name in ("NaCl", "KCl", "CsCl") if isinstance(facts := facts_of(cifs[name]), Facts)]
    assert len(salts) == 3
    assert distances(salts, salts) == dict.fromkeys(distances([], salts), pytest.approx(0.0, abs=1e-12))
    denser = [Facts(s.amounts, s.n_atoms, s.density + 1.5, s.space_group, "", True) for s in salts]
    assert distances(denser, salts)["density_wasserstein"] == pytest.approx(1.5)
    assert distances([], salts)["density_wasserstein"] is None


def test_distances_of_shares_by_hand() -> None:
    assert total_variation("aabb", "aaab") == pytest.approx(0.25)
    assert total_variation([225, None], [1, 2]) == 1.0
    assert jensen_shannon([225, None], [1, 2]) == pytest.approx(1.0)
    # Half of one coin, all of the other: H(3/4) - H(1/2)/2 bits = 0.8113 - 0.5.
    assert jensen_shannon("ab", "aa") == pytest.approx(0.3113, abs=1e-4)


def test_facts_of_rock_salt_are_the_textbook_ones(cifs: dict[str, str]) -> None:
    facts = facts_of(cifs["NaCl"])
    assert isinstance(facts, Facts)
    assert (facts.amounts, facts.n_atoms, facts.space_group) == ((("Na", 1), ("Cl", 1)), 8, 225)
    assert facts.density == pytest.approx(2.16, abs=0.01)
    assert (facts.structural, facts.neutral, facts.n_elements) == ("", True, 2)
    assert isinstance(facts_of("data_nothing"), Rejection)


def test_a_reference_is_found_by_formula_with_and_without_the_column(
    parquet: Writer, tmp_path: Path, cifs: dict[str, str]
) -> None:
    named = Reference([parquet("named.parquet", "NaCl", "TiO2", "NaCl in the CsCl type")])
    bare = tmp_path / "bare.parquet"
    pq.write_table(pa.Table.from_pylist([{"cif": cifs["NaCl"]}, {"cif": "data_nothing"}, {"cif": cifs["TiO2"]}]), bare)
    salt = (("Na", 1), ("Cl", 1))
    assert [row.id for row in named.of_formulas([salt])[salt]] == ["NaCl", "NaCl in the CsCl type"]
    unnamed = Reference([bare])
    assert [row.id for row in unnamed.of_formulas([salt, (("Fe", 1),)])[salt]] == ["bare.parquet row 0"]
    assert (len(unnamed), dict(unnamed.refused)) == (2, {"no atoms": 1})
    assert {row.id for row in named.drawn(9, seed=0)} == {"NaCl", "TiO2", "NaCl in the CsCl type"}


def test_a_reference_can_be_one_split(parquet: Writer) -> None:
    paths = [parquet("train.parquet", "NaCl"), parquet("val.parquet", "TiO2", split="val")]
    assert len(Reference(paths)) == 2
    assert list(Reference(paths, split_column="suggested_split", split="val").formulas) == [(("Ti", 1), ("O", 2))]
    with pytest.raises(InputError, match="suggested_split == 'test'"):
        Reference(paths, split_column="suggested_split", split="test")
    with pytest.raises(InputError, match="has no column 'fold'"):
        Reference(paths, split_column="fold", split="val")


def test_the_command_writes_report_and_figures(
    parquet: Writer, tmp_path: Path, cifs: dict[str, str], copies: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    samples = tmp_path / "samples"
    samples.mkdir()
    for name, text in ({name: cifs[name] for name in ("NaCl", "TiO2", "CsCl")} | copies).items():
        (samples / f"{name}.cif").write_text(text)
    (samples / "z broken.cif").write_text("data_x")
    reference = parquet("reference.parquet", "NaCl", "KCl")
    out = tmp_path / "out"
    command = ["eval", "denovo", str(samples), "--reference", str(reference), "--out", str(out), "--workers", "1"]
    assert cli(command) == 0
    report = json.loads((out / "denovo.json").read_text())
    assert report["rates"]["unique_and_novel"] | {"share": 0, "interval_95": 0} == {
        "passed": 2,
        "attempted": 7,
        "undecided": 0,
        "share": 0,
        "interval_95": 0,
    }
    assert report["reference"] == ["reference.parquet"]
    assert report["hull"] is None
    assert report["provenance"]["inputs"].keys() >= {"samples/NaCl.cif", "reference.parquet"}
    assert str(tmp_path) not in (out / "denovo.json").read_text()
    assert set(report["figures"]) == {"rates.png", "space_groups.png", "density.png", "crystals.png"}
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in report["figures"])
    page = (out / "denovo.html").read_text()
    assert "<td>unique and novel</td><td>2/7 (28.6%" in page
    assert not re.search(r"(src|href)=.(?!data:)", page)  # works offline
    printed = capsys.readouterr().out
    assert "| unique and novel | 2/7 (28.6%" in printed
    assert printed == (out / "denovo.md").read_text() + "\n"


@pytest.mark.parametrize("number", [0, 1, 3])
def test_figures_of_few_samples_that_are_all_alike(number: int, tmp_path: Path, cifs: dict[str, str]) -> None:
    facts = facts_of(cifs["NaCl"])
    assert isinstance(facts, Facts)
    verdicts = [SampleVerdict(str(i), facts) for i in range(number)]
    score = DenovoScore(verdicts, ValidityCounts(), distances([], []), distances([], []), [facts], 1)
    assert draw_figures(score, [], tmp_path) == ["rates.png", "space_groups.png", "density.png"]


def test_mistakes_end_with_a_message(
    parquet: Writer, tmp_path: Path, cifs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    reference, out = str(parquet("reference.parquet", "NaCl")), str(tmp_path / "out")
    (tmp_path / "empty").mkdir()
    (tmp_path / "one.cif").write_text(cifs["NaCl"])
    assert cli(["eval", "denovo", str(tmp_path / "empty"), "--reference", reference, "--out", out]) == 2
    assert "holds no CIF" in capsys.readouterr().err
    broken = tmp_path / "broken.parquet"
    broken.write_text("nothing")
    for path, message in ((broken, "no parquet file"), (tmp_path / "gone.parquet", "cannot read")):
        assert cli(["eval", "denovo", str(tmp_path / "one.cif"), "--reference", str(path), "--out", out]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(ConfigError, match="-1"):
        DenovoConfig(time_limit=-1)
    with pytest.raises(ConfigError, match="split_column"):
        DenovoConfig(split="train", split_column="")


def test_what_could_not_be_read_in_time_is_undecided_in_every_rate() -> None:
    verdict = SampleVerdict("slow", lost="timed out")
    assert {judge(verdict) for judge in RATES.values()} == {None}
    assert verdict.to_json()["structurally_valid"] is None
    assert (both(True, None), both(False, None), both(True, True)) == (None, False, True)


def test_a_row_that_cannot_be_read_in_time_stays_with_its_formula(
    tmp_path: Path, cifs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever compares it finds it undecided; without a formula it is counted as refused."""

    def dies(text: str) -> object:
        return os._exit(3) if "doubtful" in text else read_cif(text)

    monkeypatch.setattr(reference_rows, "read_cif", dies)
    doubtful = cifs["NaCl"] + "# doubtful\n"
    rows = {
        "id": ["good", "named", "unnamed"],
        "reduced_formula": ["NaCl", "NaCl", None],
        "cif": [cifs["NaCl"], doubtful, doubtful],
    }
    path = tmp_path / "reference.parquet"
    pq.write_table(pa.table(rows), path)
    reference = Reference([path])
    (formula,) = reference.formulas
    assert [row.id for row in reference.of_formulas([formula])[formula]] == ["good", "named"]
    assert dict(reference.refused) == {str(Fate.DIED): 1}


def test_unreadable_rows_are_no_reference_whatever_their_formula_column_says(
    tmp_path: Path, cifs: dict[str, str]
) -> None:
    rows = {
        "id": ["good", "broken", "empty", "another", "unnamed"],
        "reduced_formula": ["NaCl", "NaCl", "NaCl", "NaCl", None],
        "cif": [cifs["NaCl"], "data_x", None, cifs["TiO2"], cifs["CsCl"]],
    }
    path = tmp_path / "reference.parquet"
    pq.write_table(pa.table(rows), path)
    reference = Reference([path])
    assert (len(reference), dict(reference.refused)) == (5, {})  # nothing but CsCl has been read yet
    drawn = reference.drawn(10, seed=0)
    assert sorted(row.id for row in drawn) == ["good", "unnamed"]
    assert (len(reference), reference.n_read) == (2, 5)
    refused = {"unreadable": 1, "no atoms": 1, "atoms of another formula than the column says": 1}
    assert dict(reference.refused) == refused
    (found,) = reference.of_formulas([(("Cl", 1), ("Na", 1)), (("Na", 1), ("Cl", 1))]).values()
    assert [row.id for row in found] == ["good"]
