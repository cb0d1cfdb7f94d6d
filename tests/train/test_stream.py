"""Streamed texts: each once an epoch, resumed to the bit, in bounded memory; on two processes in test_processes.py."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch.utils.data import DataLoader, Dataset

from crystallm.base.config import from_mapping
from crystallm.base.errors import CheckpointError, ConfigError, InputError
from crystallm.train.config import TrainConfig
from crystallm.train.schedule import Cursor, Position, progress
from crystallm.train.texts.corpus import Corpus, load_corpus
from crystallm.train.texts.split_files import files_of
from crystallm.train.texts.stream import StreamedSteps, TextStream
from studies.streaming.stream_check import stream_once, write_rows

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
CONFIG = TrainConfig(max_steps=1, max_tokens=40, batch_tokens=512, accumulate=2)
SETTINGS: dict[str, Any] = {"streaming": True, "stream_buffer": 60, "eval_every": 1000}
"""Three or four blocks for the 200 texts."""

StreamOf = Callable[..., TextStream]


class Rows(Dataset[Any]):
    """Stands in for what pads and draws texts: the passes of a step as plain lists of token ids."""

    def __init__(self, corpus: Corpus, steps: list[list[Any]], first_row: int) -> None:
        self.corpus, self.steps = corpus, steps

    def __getitem__(self, index: int) -> Any:
        return [[self.corpus.tokens(row).tolist() for row in rows] for rows in self.steps[index]]


def steps_of(stream: TextStream, *, epoch: int = 0, at: Position | None = None) -> Iterator[tuple[Any, Cursor]]:
    at = at or Position()
    return iter(StreamedSteps(stream, CONFIG, Rows, epoch=epoch, step_in_epoch=at.step_in_epoch, cursor=at.cursor))


@pytest.fixture(scope="module")
def stream(sharded: Path, stream_of: StreamOf) -> TextStream:
    return stream_of(sharded)


def test_each_text_occurs_once_an_epoch_within_the_budget(stream: TextStream, prepared: Path) -> None:
    whole = load_corpus(prepared / "train.parquet", stream.tokenizer, max_tokens=40)
    expected = Counter(tuple(whole.tokens(row).tolist()) for row in range(len(whole)))
    assert (len(stream), stream.n_tokens) == (len(whole), len(whole.ids))
    epochs = [list(steps_of(stream, epoch=epoch)) for epoch in (0, 1)]
    for steps in epochs:
        passes = [texts for step, _ in steps for texts in step]
        assert Counter(tuple(text) for texts in passes for text in texts) == expected
        assert max(len(texts) * -(-max(map(len, texts)) // 8) * 8 for texts in passes) <= 512 // 2
    assert [passes for passes, _ in epochs[0]] != [passes for passes, _ in epochs[1]]


def test_progress_reaches_one_with_the_last_step_and_not_before(stream: TextStream) -> None:
    done = []
    for taken, (_, cursor) in enumerate(steps_of(stream)):
        at = Position(step_in_epoch=taken)
        done.append(progress(TrainConfig(epochs=1), at, steps_in_epoch=cursor.steps_in_epoch))
    assert cursor.steps_in_epoch == taken + 1
    assert (done[0], max(done) < 1) == (0, True)
    assert (np.diff(done) > 0).all()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_epoch_goes_on_exactly(stream: TextStream, workers: int) -> None:
    """After any step, its place written to JSON and read again; also where a worker process reads."""
    whole = list(steps_of(stream, epoch=3))
    for taken in range(1, len(whole) + 1, 1 if workers == 0 else 7):
        position = Position(epoch=3, step_in_epoch=taken, cursor=whole[taken - 1][1])
        read = from_mapping(Position, json.loads(json.dumps(asdict(position))))
        rest: Any = steps_of(stream, epoch=3, at=read)
        if workers:
            places = {"epoch": 3, "step_in_epoch": taken, "cursor": read.cursor}
            rest = DataLoader(StreamedSteps(stream, CONFIG, Rows, **places), batch_size=None, num_workers=1)
        assert list(map(tuple, rest)) == whole[taken:]


def test_other_data_than_the_run_was_started_with(stream: TextStream) -> None:
    cursor = Cursor(reader=None, first_row=0, step=1, rows=stream.rows + 1, steps_in_epoch=9)
    with pytest.raises(CheckpointError, match="started on 201 training texts and now there are 200"):
        next(steps_of(stream, at=Position(step_in_epoch=1, cursor=cursor)))


def test_arrow_files_of_datasets_are_read_alike(
    tmp_path: Path, stream_of: StreamOf, texts_of: Any, stream: TextStream
) -> None:
    texts = texts_of(2_500, seed=5)
    columns = {"text": texts, "n_tokens": [len(text.split()) for text in texts]}
    datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / "train", num_shards=2)
    found = stream_of(tmp_path)
    corpora = [block.corpus for block in found.blocks(0, None)]
    assert [piece.tolist() for piece in found.pieces] == [[0, 0], [1, 0]]
    assert (sum(map(len, corpora)), sum(corpus.n_tokens for corpus in corpora)) == (2_500, found.n_tokens)


def test_texts_that_are_too_long_are_left_out_and_counted(sharded: Path, stream_of: StreamOf) -> None:
    short = stream_of(sharded, max_tokens=12)
    blocks = list(short.blocks(0, None))
    assert 0 < len(short) < short.rows == 200
    assert sum(len(block.corpus) for block in blocks) == len(short)
    assert sum(block.corpus.left_out for block in blocks) == short.left_out
    with pytest.raises(InputError, match="no text of at most 2 tokens"):
        stream_of(sharded, max_tokens=2)


KILLED = """
import os, signal, sys
from crystallm.cli import main
from crystallm.train.state.run_folder import RunFolder

log = RunFolder.log

def die_at_step_13(run, line):
    log(run, line)
    if line["step"] == 13:
        os.kill(os.getpid(), signal.SIGKILL)

RunFolder.log = die_at_step_13
main(["train", *sys.argv[1:]])
"""


@pytest.fixture(scope="module")
def uninterrupted(sharded: Path, arguments: Any, train_here: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("streamed") / "run"
    assert train_here(arguments(out, data=sharded, epochs=2, max_steps="null", **SETTINGS)) == 0
    return out


def test_a_killed_run_resumes_with_the_same_losses(
    uninterrupted: Path, sharded: Path, arguments: Any, train_here: Any, metrics: Any, tmp_path: Path
) -> None:
    settings = {"data": sharded, "epochs": 2, "max_steps": "null", **SETTINGS}
    killed = [sys.executable, "-c", KILLED, *arguments(tmp_path / "run", workers=1, **settings)]
    done = subprocess.run(killed, env=ENVIRONMENT, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert train_here(arguments(tmp_path / "run", "--resume", **settings)) == 0
    whole = metrics(uninterrupted, "train")
    assert len(whole) > 13
    assert metrics(tmp_path / "run", "train") == whole
    assert metrics(tmp_path / "run", "eval") == metrics(uninterrupted, "eval")
    about = json.loads((uninterrupted / "final" / "crystallm.json").read_text(encoding="utf-8"))
    assert about["provenance"]["training"]["epochs"] == 2
    assert about["provenance"]["training"]["train_texts"] == 200


def test_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path, stream_of: StreamOf, texts_of: Any) -> None:
    """The ids of 50,000 texts of 32 tokens are 12.8 MB; two blocks of 2,000 and the reader are there at any time."""
    texts = [text for text in texts_of(40_000, seed=3) if len(text.split()) == 32][:1_000]
    columns = {"text": texts, "n_tokens": [len(text.split()) for text in texts]}
    (tmp_path / "train").mkdir()
    for i in range(50):
        pq.write_table(pa.table(columns), tmp_path / "train" / f"train-{i:05d}-of-00050.parquet")
    stream = stream_of(tmp_path, block_rows=2_000)
    blocks, live = stream.blocks(0, None), []
    process, rows = psutil.Process(), 0
    for number, block in enumerate(blocks):
        rows += len(block.corpus)
        if number >= 5:
            live.append(process.memory_info().rss)
    assert rows == 50_000
    assert max(live) - live[0] < 5e6


@pytest.mark.parametrize("streaming", [True, False])
def test_broken_shards_are_named(
    sharded: Path, tmp_path: Path, arguments: Any, train_here: Any, capsys: Any, streaming: bool
) -> None:
    def copy(name: str) -> Path:
        for file in ("train", "val.parquet"):
            subprocess.run(["cp", "-r", sharded / file, tmp_path / name / file], check=True)
        return tmp_path / name / "train" / "train-00001-of-00003.parquet"

    def complaint(name: str) -> str:
        settings = {"data": tmp_path / name, "streaming": streaming}
        assert train_here(arguments(tmp_path / f"run-{name}", **settings)) == 2
        return str(capsys.readouterr().err)

    for name in ("cut", "lost", "both", "foreign", "gaps"):
        (tmp_path / name).mkdir()
    cut, foreign = copy("cut"), copy("foreign")
    cut.write_bytes(cut.read_bytes()[:-20])
    assert "train-00001-of-00003.parquet is not a prepared file or is damaged" in complaint("cut")
    copy("lost").unlink()
    assert "lacks 1 of the 00003 files that the names of the others speak of, such as number 00001" in complaint("lost")
    (copy("both").parents[1] / "train.parquet").write_bytes(b"")
    assert "there are both" in complaint("both")
    pq.write_table(pa.table({"cif": ["data_NaCl"]}), foreign)
    assert "has no column" in complaint("foreign")
    pq.write_table(pa.table({"text": ["data_ w1 #END", None], "n_tokens": [3, 3]}), copy("gaps"))
    assert "train-00001-of-00003.parquet has rows without text" in complaint("gaps")


def test_a_shard_damaged_in_its_middle_stops_the_run_and_is_named(
    tmp_path: Path, stream_of: StreamOf, texts_of: Any
) -> None:
    """The footer is whole, so only reading the rows shows it."""
    stream = stream_of(tmp_path, texts_of(200, seed=1))
    content = bytearray(stream.files[2].read_bytes())
    content[4:400] = bytes(396)
    stream.files[2].write_bytes(content)
    with pytest.raises(InputError, match=r"train-00002-of-00003\.parquet is not a prepared file or is damaged"):
        list(stream.blocks(0, None))


def test_a_column_of_lengths_that_is_wrong(tmp_path: Path, stream_of: StreamOf, texts_of: Any) -> None:
    """Training would otherwise begin one empty epoch after the other."""
    (tmp_path / "train").mkdir()
    pq.write_table(pa.table({"text": texts_of(5, seed=1), "n_tokens": [1] * 5}), tmp_path / "train" / "a.parquet")
    with pytest.raises(InputError, match="none of 5 texts has at most 2 tokens"):
        list(steps_of(stream_of(tmp_path, max_tokens=2)))


def test_impossible_streaming() -> None:
    with pytest.raises(ConfigError, match="replay_share"):
        TrainConfig(epochs=1, streaming=True, replay_share=0.1)
    with pytest.raises(ConfigError, match="stream_buffer"):
        TrainConfig(epochs=1, stream_buffer=0)


def test_files_whose_names_say_nothing_are_all_read(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for name in ("b.parquet", "a.arrow", "notes.txt"):
        (tmp_path / "train" / name).touch()
    assert [file.name for file in files_of(tmp_path / "train.parquet")] == ["a.arrow", "b.parquet"]


def test_the_check_of_the_documentation_streams_every_row(tmp_path: Path) -> None:
    """`python -m studies.streaming.stream_check`, in this process and on few rows of real texts."""
    write_rows(tmp_path, 1_300)
    texts, steps, seconds, peak_mb = stream_once(tmp_path, buffer=500)
    assert texts == 1_300
    assert 10 < steps < 1_300 / 50
    assert min(seconds, peak_mb) > 0
