"""A tiny language of its own: texts over twelve words, so that training needs neither crystals nor their tokenizer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

WORDS = [f"w{i}" for i in range(12)]


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


def write_prepared(folder: Path, *, train: int = 200, val: int = 40) -> Path:
    folder.mkdir(parents=True)
    for name, count, seed in (("train", train, 1), ("val", val, 2)):
        pq.write_table(pa.table({"text": make_texts(count, seed=seed)}), folder / f"{name}.parquet")
    make_tokenizer().save_pretrained(folder / "tokenizer")
    return folder


@pytest.fixture(scope="session")
def make_prepared() -> Callable[[Path], Path]:
    """Write a prepared folder of the tiny language, its tokenizer inside."""
    return write_prepared


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    return write_prepared(tmp_path / "prepared")
