"""What a trained checkpoint has seen: its own texts and all that its start had seen, or nobody knows."""

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crystallm.base.errors import CheckpointError
from crystallm.data.seen import SEEN_FILE, Seen
from crystallm.model.editions import edition_folder
from crystallm.train.config import TrainConfig
from crystallm.train.export import list_of_seen, warn_of_seen
from crystallm.train.starting_model import folder_of
from crystallm.train.state.run_folder import RunFolder


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    table = pa.table({"text": ["..."], "id": ["mine-1"], "reduced_formula": ["NaCl"]})
    pq.write_table(table, tmp_path / "train.parquet")
    return tmp_path / "train.parquet"


def start(folder: Path, *crystals: tuple[str, str]) -> Path:
    folder.mkdir()
    if crystals:
        Seen(frozenset(crystals)).write(folder / SEEN_FILE)
    return folder


def test_editions_are_named() -> None:
    assert folder_of("benchmark") == folder_of("default") == edition_folder("benchmark")  # `default`: version 0.1
    assert folder_of("full") == edition_folder("full")
    assert folder_of("mine/best") == Path("mine/best")


def test_a_run_from_nothing_has_seen_its_texts(texts: Path, tmp_path: Path) -> None:
    file = list_of_seen(TrainConfig(max_steps=1), [texts], RunFolder(tmp_path))
    assert file == tmp_path / SEEN_FILE
    seen = Seen.read(tmp_path)
    assert seen is not None
    assert seen.crystals == {("mine-1", "NaCl")}


def test_a_run_from_a_checkpoint_inherits_its_list(texts: Path, tmp_path: Path) -> None:
    config = TrainConfig(max_steps=1, start_from=str(start(tmp_path / "start", ("mp-1", "TiO2"))))
    assert list_of_seen(config, [texts], RunFolder(tmp_path)) is not None
    seen = Seen.read(tmp_path)
    assert seen is not None
    assert seen.crystals == {("mp-1", "TiO2"), ("mine-1", "NaCl")}


def test_from_a_checkpoint_without_a_list_nothing_is_known(texts: Path, tmp_path: Path) -> None:
    config = TrainConfig(max_steps=1, start_from=str(start(tmp_path / "start")))
    assert list_of_seen(config, [texts], RunFolder(tmp_path)) is None


def test_a_damaged_list_stops_the_run(texts: Path, tmp_path: Path) -> None:
    folder = start(tmp_path / "start")
    (folder / SEEN_FILE).write_bytes(b"PAR1")
    with pytest.raises(CheckpointError, match="copy the checkpoint again"):
        list_of_seen(TrainConfig(max_steps=1, start_from=str(folder)), [texts], RunFolder(tmp_path))


def test_validation_crystals_that_the_start_has_seen_are_told(
    texts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        warn_of_seen(start(tmp_path / "other", ("mine-1", "KCl")), [texts])
        assert not caplog.messages
        warn_of_seen(start(tmp_path / "start", ("mine-1", "NaCl")), [texts])
    assert "1 of 1 validation crystals were seen by start" in caplog.messages[0]
