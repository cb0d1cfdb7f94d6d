"""Into text and back: textbook crystals survive, what cannot be written is counted with its reason."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crystallm.cli import main
from crystallm.crystal.cell import Reason, Rejection
from studies.audit import roundtrip
from studies.audit.roundtrip import Encoded, Trip, encode, round_trip

Parquet = Callable[..., Path]


def test_rutile_there_and_back(cifs: dict[str, str]) -> None:
    assert encode(cifs["TiO2"], "wyckoff") == Encoded(space_group=136, n_tokens=23)
    trip = round_trip(cifs["TiO2"], "wyckoff")
    assert isinstance(trip, Trip)
    assert (trip.space_group, trip.moyopy_again, trip.spglib_before, trip.spglib_again) == (136, 136, 136, 136)
    assert trip.rms == pytest.approx(0, abs=1e-4)
    assert trip.rms_primitive == pytest.approx(0, abs=1e-4)


def test_what_cannot_be_written(cifs: dict[str, str]) -> None:
    for text, reason in (
        ("no CIF", Reason.UNREADABLE),
        (cifs["CsCl"].replace("Cl  Cl1", "X  X1"), Reason.UNKNOWN_SPECIES),
        (cifs["CsCl"].replace("4.123", "412.3"), Reason.NOT_EXPRESSIBLE),
    ):
        refused = encode(text, "wyckoff")
        assert isinstance(refused, Rejection)
        assert refused.reason is reason
        assert isinstance(round_trip(text, "wyckoff"), Rejection)


@pytest.fixture
def mixed(tmp_path: Path, cifs: dict[str, str]) -> Path:
    rows = [*(cifs[name] for name in ("NaCl", "KCl", "LiF", "KBr", "CsCl", "TiO2")), "no CIF", cifs["NaCl"][:200]]
    pq.write_table(pa.table({"cif": rows}), tmp_path / "mixed.parquet")
    return tmp_path / "mixed.parquet"


def test_report(mixed: Path, parquet: Parquet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    side = parquet("side.parquet", "TiO2", "NaCl")
    target = tmp_path / "text.json"
    options = ["--random", "100", "--per-group", "2", "--workers", "2", "--json", str(target)]
    assert main(["eval", "roundtrip", str(mixed), "--length-only", str(side), *options]) == 0
    report = json.loads(target.read_text())
    assert report["complete"]
    assert (report["encoded"]["passed"], report["encoded"]["attempted"]) == (6, 8)
    assert sum(report["refused"].values()) == 2
    assert report["length_only"]["side.parquet"]["mean_tokens"] == (23 + 16) / 2
    at_random, of_groups = report["trips"]["random"], report["trips"]["per group"]
    # Rows that cannot be written stay in the denominator.
    assert (at_random["matches_itself"]["passed"], at_random["matches_itself"]["attempted"]) == (6, 8)
    # Two of the four rock salts, CsCl, TiO2.
    assert (of_groups["same_space_group_spglib"]["passed"], of_groups["matches_itself"]["attempted"]) == (4, 4)
    for key in (
        "matches_itself_in_our_cells",
        "matches_itself_from_primitive_cells",
        "same_space_group_spglib_before_and_after",
    ):
        assert at_random[key] == at_random["matches_itself"]
    assert at_random["median_rms"] < 1e-4
    assert [row.split(":")[0] for row in report["refused_rows"]] == ["mixed.parquet row 6", "mixed.parquet row 7"]
    assert report["not_matched"] == ["mixed.parquet row 6", "mixed.parquet row 7"]
    assert report["speed"]["structures"] == 6
    assert target.with_suffix(".md").read_text() == capsys.readouterr().out


def test_rows_that_a_stop_left_out_are_undecided(
    parquet: Parquet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*given: object) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(roundtrip, "send_round", stopped)
    target = tmp_path / "text.json"
    with pytest.raises(KeyboardInterrupt):
        roundtrip.main([str(parquet("two.parquet", "TiO2", "NaCl")), "--workers", "1", "--json", str(target)])
    report = json.loads(target.read_text())
    assert not report["complete"]
    assert (report["not_matched"], report["undecided"]) == ([], ["two.parquet row 0", "two.parquet row 1"])
    assert report["trips"]["random"]["matches_itself"]["undecided"] == 2


def test_the_same_rows_are_drawn_with_the_same_seed(mixed: Path, tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        target = tmp_path / f"{name}.json"
        options = ["--random", "3", "--per-group", "1", "--seed", "5", "--workers", "1", "--json", str(target)]
        assert main(["eval", "roundtrip", str(mixed), *options]) == 0
        found.append({key: json.loads(target.read_text())[key] for key in ("trips", "not_matched", "encoded")})
    assert found[0] == found[1]
    assert found[0]["trips"]["random"]["matches_itself"]["attempted"] == 3


def test_bad_input(mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    for arguments, message in (
        ([str(tmp_path / "missing.parquet")], "cannot read"),
        ([str(tmp_path / "other.parquet")], "has no column `cif`; its columns are text"),
        ([str(tmp_path / "text.parquet")], "give a parquet file"),
        ([str(mixed), str(mixed)], "two files are named mixed.parquet"),
        ([str(mixed), "--random", "-1"], "random must be >= 0, got -1"),
        ([str(mixed), "--layout", "prose"], "unknown layout 'prose'"),
        ([str(mixed), "--json", str(tmp_path / "none" / "r.json")], "its folder is missing"),
    ):
        assert main(["eval", "roundtrip", *arguments]) == 2
        assert message in capsys.readouterr().err
