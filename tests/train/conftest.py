"""A tiny language of its own: texts over twelve words, so that training needs neither crystals nor their tokenizer."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from crystallm import cli
from crystallm.train.state.run_folder import RunFolder
from crystallm.train.texts.stream import TextStream

WORDS = [f"w{i}" for i in range(12)]

RECIPE = """
model: {layers: 1, hidden: 32, heads: 2, ffn: 32, context: 40, dropout: 0.1}
max_steps: 24
batch_tokens: 512
accumulate: 2
warmup_steps: 4
learning_rate: 0.01
precision: fp32
log_every: 1
eval_every: 9
save_every: 5
"""
# Dropout is on: a resumed run must find the random state where it left it. 24 steps are about three epochs.


def make_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<unk>", "data_", "#END", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="data_", eos_token="#END", pad_token="<pad>", unk_token="<unk>"
    )


def make_texts(count: int, *, seed: int) -> list[str]:
    """Texts that count upwards modulo 12 from a random start, for 3 to 30 words: easy to learn."""
    rng = np.random.default_rng(seed)
    texts = []
    for _ in range(count):
        start, length = int(rng.integers(12)), int(rng.integers(3, 31))
        texts.append(" ".join(["data_", *(WORDS[(start + i) % 12] for i in range(length)), "#END"]))
    return texts


def write_shards(folder: Path, texts: list[str], *, files: int = 3, group: int = 16) -> Path:
    """The texts as `train/train-0000i-of-0000n.parquet`, with few rows in a row group."""
    (folder / "train").mkdir(parents=True)
    for i in range(files):
        own = texts[i * len(texts) // files : (i + 1) * len(texts) // files]
        columns = {"text": own, "n_tokens": [len(text.split()) for text in own]}
        name = f"train-{i:05d}-of-{files:05d}.parquet"
        pq.write_table(pa.table(columns), folder / "train" / name, row_group_size=group)
    return folder


def write_prepared(folder: Path, *, train: int = 200, val: int = 40) -> Path:
    folder.mkdir(parents=True)
    for name, count, seed in (("train", train, 1), ("val", val, 2)):
        pq.write_table(pa.table({"text": make_texts(count, seed=seed)}), folder / f"{name}.parquet")
    make_tokenizer().save_pretrained(folder / "tokenizer")
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def read_metrics(out: Path, kind: str) -> list[tuple[int, float, int]]:
    """Step, loss and tokens of each line of one kind."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"], line["tokens"]) for line in lines if line["kind"] == kind]


Arguments = Callable[..., list[str]]
TrainHere = Callable[..., int]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder of the tiny language, its tokenizer and a recipe inside."""
    return write_prepared(tmp_path_factory.mktemp("tiny") / "prepared")


@pytest.fixture(scope="session")
def sharded(prepared: Path) -> Path:
    """The same texts in three files of small row groups, beside the same validation texts."""
    texts = pq.read_table(prepared / "train.parquet")["text"].to_pylist()
    folder = write_shards(prepared.parent / "sharded", texts)
    shutil.copy(prepared / "val.parquet", folder)
    return folder


@pytest.fixture(scope="session")
def stream_of() -> Callable[..., TextStream]:
    """A stream over texts of the tiny language, which are written to a folder."""

    def make(folder: Path, texts: list[str] | None = None, **settings: Any) -> TextStream:
        if texts is not None:
            write_shards(folder, texts)
        defaults = {"max_tokens": 40, "seed": 0, "block_rows": 60}
        return TextStream(folder / "train.parquet", make_tokenizer(), **defaults | settings)

    return make


@pytest.fixture(scope="session")
def texts_of() -> Callable[..., list[str]]:
    return make_texts


@pytest.fixture(scope="session")
def metrics() -> Callable[[Path, str], list[tuple[int, float, int]]]:
    return read_metrics


@pytest.fixture(scope="session")
def arguments(prepared: Path) -> Arguments:
    """Arguments of `crystallm train` on the tiny language; keywords change fields of the recipe."""

    def make(out: Path, *options: str, **fields: object) -> list[str]:
        data = fields.pop("data", prepared)
        changes = [part for name, value in fields.items() for part in ("--set", f"{name.replace('__', '.')}={value}")]
        inputs = ["--data", str(data), "--tokenizer", str(prepared / "tokenizer")]
        return [str(prepared / "recipe.yaml"), *inputs, "--out", str(out), *options, *changes]

    return make


@pytest.fixture(scope="session")
def train_here() -> Iterator[TrainHere]:
    """Run `crystallm train` in this process, which has torch loaded already, and return the exit status."""

    def run(arguments: list[str]) -> int:
        # Accelerate keeps one state for the whole process; each run needs a fresh one.
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        return cli.main(["train", *arguments])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crystallm.train.state.memory.keep_freed_memory", lambda: None)  # would outlive the run
        patch.setenv("ACCELERATE_USE_CPU", "true")
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield run
        torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def interrupted_at() -> Callable[[int], AbstractContextManager[None]]:
    """While it lasts, Ctrl-C is pressed when a run logs the given step."""

    @contextmanager
    def pressing(step: int) -> Iterator[None]:
        log = RunFolder.log

        def press_ctrl_c(run: RunFolder, line: dict[str, Any]) -> None:
            log(run, line)
            if line["step"] == step:
                os.kill(os.getpid(), signal.SIGINT)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RunFolder, "log", press_ctrl_c)
            yield

    return pressing


@pytest.fixture(scope="session")
def rutile_text() -> str:
    """In layout `wyckoff`."""
    return """data_
_chemical_formula_sum
Ti
O2
_cell_formula_units_Z_primitive 2
_space_group_IT_number 136
_cell_length_a 4.5937
_cell_length_c 2.9587
loop_atom_site
Ti a
O f 0.3053
#END"""


@pytest.fixture(scope="session")
def rock_salt_text() -> str:
    """In layout `wyckoff`."""
    return """data_
_chemical_formula_sum
Na
Cl
_cell_formula_units_Z_primitive 1
_space_group_IT_number 225
_cell_length_a 5.6402
loop_atom_site
Na a
Cl b
#END"""
