"""Lists of crystals seen: what they answer, what they are made from, and what is refused."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crystallm.base.errors import CheckpointError, InputError
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.data.__main__ import main
from crystallm.data.seen import SEEN_FILE, Seen, seen_in, write_seen

RUTILE, SALT = parse_formula("TiO2"), parse_formula("NaCl")


def prepared(file: Path, rows: dict[str, str], **more: list[str | None]) -> Path:
    file.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"id": list(rows), "reduced_formula": list(rows.values()), **more}), file)
    return file


def test_a_list_answers_by_id_and_formula() -> None:
    seen = Seen(frozenset({("mp-2657", "TiO2")}), frozenset({("mp-390", "TiO2")}))
    assert seen.has_id("mp-2657")
    assert seen.has_id("mp_20:mp-2657", RUTILE)
    assert seen.has_id("mp-390", RUTILE)  # a copy
    assert not seen.has_id("mp-2657", SALT)  # a number may be an id in several sources
    assert not seen.has_id("mp-265")
    assert seen.has_formula(RUTILE)
    assert not seen.has_formula(SALT)


def test_it_is_written_and_read_whole(tmp_path: Path) -> None:
    seen = Seen(frozenset({("mp-1", "TiO2"), ("a", "NaCl"), ("a", "KCl")}), frozenset({("mp-2", "TiO2")}))
    seen.write(tmp_path / SEEN_FILE)
    again = Seen.read(tmp_path)
    assert again is not None
    assert (again.crystals, again.merged) == (seen.crystals, seen.merged)
    assert [file.name for file in tmp_path.iterdir()] == [SEEN_FILE]


def test_without_a_list_nothing_is_known(tmp_path: Path) -> None:
    assert Seen.read(tmp_path) is None


def test_an_empty_list_has_seen_nothing(tmp_path: Path) -> None:
    Seen(frozenset()).write(tmp_path / SEEN_FILE)
    seen = Seen.read(tmp_path)
    assert seen is not None
    assert not seen.has_formula(RUTILE)


@pytest.mark.parametrize("content", [b"", b"PAR1 and nothing else"])
def test_a_damaged_list_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / SEEN_FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot read .*seen\.parquet: .*copy the checkpoint again"):
        Seen.read(tmp_path)


def test_another_table_is_refused(tmp_path: Path) -> None:
    prepared(tmp_path / SEEN_FILE, {"mp-1": "TiO2"})
    with pytest.raises(CheckpointError, match="no list of crystals seen"):
        Seen.read(tmp_path)


def test_a_row_with_a_hole_is_refused(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"id": ["a"], "formula": pa.array([None], pa.string()), "merged": [False]}), tmp_path / SEEN_FILE
    )
    with pytest.raises(CheckpointError, match="a row without id or formula"):
        Seen.read(tmp_path)


def test_copies_that_were_dropped_count(tmp_path: Path) -> None:
    """Those that a corpus names, and those that preparation took out."""
    file = prepared(tmp_path / "train.parquet", {"mp-1": "O2Ti", "mp-2": "NaCl"})
    drops = [
        {"id": "mp-3", "reason": "duplicate", "detail": "of mp-1"},
        {"id": "mp-4", "reason": "duplicate", "detail": "of mp-9"},  # in the validation part
        {"id": "mp-5", "reason": "leakage", "detail": "mp_20:mp-5 in mp_20_test.parquet"},
    ]
    (tmp_path / "drops.jsonl").write_text("".join(json.dumps(row) + "\n" for row in drops))
    corpus = prepared(
        tmp_path / "more" / "corpus.parquet", {"mp-2": "NaCl", "mp-7": "KCl"}, merged_ids=["mp-6 mvc-6", "mp-8"]
    )
    seen = seen_in([file], copies=[corpus])
    assert seen is not None
    assert seen.crystals == {("mp-1", "TiO2"), ("mp-2", "NaCl")}
    assert seen.merged == {("mp-3", "TiO2"), ("mp-6", "NaCl"), ("mvc-6", "NaCl")}


def test_a_checkpoint_inherits_the_list_of_its_start(tmp_path: Path) -> None:
    start = tmp_path / "start"
    start.mkdir()
    Seen(frozenset({("mp-1", "TiO2")})).write(start / SEEN_FILE)
    own = prepared(tmp_path / "own" / "train.parquet", {"mp-2": "NaCl"})
    assert write_seen([own], tmp_path / SEEN_FILE, start=start)
    seen = Seen.read(tmp_path)
    assert seen is not None
    assert seen.crystals == {("mp-1", "TiO2"), ("mp-2", "NaCl")}


def test_where_the_start_is_unknown_so_is_the_rest(tmp_path: Path) -> None:
    own = prepared(tmp_path / "own" / "train.parquet", {"mp-2": "NaCl"})
    assert not write_seen([own], tmp_path / SEEN_FILE, start=tmp_path)
    assert not (tmp_path / SEEN_FILE).exists()


@pytest.mark.parametrize(
    "table", [pa.table({"text": ["NaCl"]}), pa.table({"id": ["a", None], "formula": ["NaCl", "NaCl"]})]
)
def test_texts_without_names_are_unknown(table: pa.Table, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "train.parquet")
    assert seen_in([tmp_path / "train.parquet"]) is None


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared(tmp_path / "prepared" / "train.parquet", {"mp-1": "TiO2", "mp-2": "TiO2"})
    (tmp_path / "model").mkdir()
    main(["seen", str(tmp_path / "prepared"), str(tmp_path / "model")])
    assert "2 crystals of 1 formulas, 0 copies" in capsys.readouterr().out
    assert (tmp_path / "model" / SEEN_FILE).is_file()


def test_the_command_refuses_texts_without_names(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["NaCl"]}), tmp_path / "train.parquet")
    with pytest.raises(InputError, match="has no columns id and reduced_formula"):
        main(["seen", str(tmp_path / "train.parquet"), str(tmp_path / "out.parquet")])
