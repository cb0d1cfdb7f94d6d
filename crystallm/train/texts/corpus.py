"""Tokenised texts of a prepared folder, and the texts drawn anew for augmented descriptions."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crystallm.base.errors import InputError, LayoutError
from crystallm.train.texts.batches import Ints
from crystallm.train.texts.split_files import files_of, read_all

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Corpus:
    """Texts as token ids, end to end in one array."""

    ids: Ints
    starts: Ints
    """Text i is ids[starts[i]:starts[i + 1]]."""
    texts: list[str] | None
    """The texts themselves, kept only where they are to be augmented."""
    left_out: int
    """Texts refused for their length."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Ints:
        """Tokens of each text."""
        return np.diff(self.starts)

    @property
    def n_tokens(self) -> int:
        """Tokens of all texts."""
        return len(self.ids)

    def tokens(self, row: int) -> Ints:
        """Return the ids of one text."""
        return self.ids[self.starts[row] : self.starts[row + 1]]


def joined(first: Corpus, second: Corpus | None) -> Corpus:
    """Return the texts of both, those of `first` first."""
    if second is None:
        return first
    return Corpus(
        ids=np.concatenate([first.ids, second.ids]),
        starts=np.concatenate([first.starts, first.starts[-1] + second.starts[1:]]),
        texts=None if first.texts is None or second.texts is None else first.texts + second.texts,
        left_out=first.left_out + second.left_out,
    )


NOTHING = Corpus(ids=np.zeros(0, np.int64), starts=np.zeros(1, np.int64), texts=[], left_out=0)
"""No texts at all."""


def load_corpus(
    path: Path, tokenizer: "PreTrainedTokenizerFast", *, max_tokens: int, keep_texts: bool = False
) -> Corpus:
    """Read and tokenise the `text` column of a prepared split; texts above `max_tokens` are left out and counted.

    path: a file such as `train.parquet`, which may also be a folder `train` of several files (see `shards.files_of`).
    """
    batches = ((file, texts) for file in files_of(path) for texts in read_all(file, "text"))
    corpus = corpus_of(batches, tokenizer, max_tokens=max_tokens, keep_texts=keep_texts)
    if not len(corpus):
        raise InputError(f"{path} holds no text of at most {max_tokens} tokens; prepare more data or raise max_tokens")
    logger.info(
        "%s: %d texts, %d tokens, %.1f on average, longest %d; %d left out (above %d tokens)",
        *(path.name, len(corpus), len(corpus.ids), corpus.lengths.mean(), corpus.lengths.max()),
        *(corpus.left_out, max_tokens),
    )
    return corpus


def corpus_of(
    batches: Iterable[tuple[Path, list[str]]],
    tokenizer: "PreTrainedTokenizerFast",
    *,
    max_tokens: int,
    keep_texts: bool = False,
) -> Corpus:
    """Tokenise batches of texts, each with the file it is from, which is named if a text is of another layout."""
    ids_of_batches = [NOTHING.ids]
    lengths: list[int] = []
    kept: list[str] = []
    left_out = 0
    for file, texts in batches:
        encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
        short = [i for i, ids in enumerate(encoded) if len(ids) <= max_tokens]
        for text, ids in zip(texts, encoded, strict=True):
            _check(ids, text, tokenizer, file)
        ids_of_batches.append(np.fromiter(chain.from_iterable(encoded[i] for i in short), np.int64))
        lengths.extend(len(encoded[i]) for i in short)
        left_out += len(texts) - len(short)
        if keep_texts:
            kept.extend(texts[i] for i in short)
    return Corpus(
        ids=np.concatenate(ids_of_batches),
        starts=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        texts=kept if keep_texts else None,
        left_out=left_out,
    )


def _check(ids: list[int], text: str, tokenizer: "PreTrainedTokenizerFast", path: Path) -> None:
    # The published texts of layout `crystallm` have no token of their own for the end.
    last = (ids[-1] if ids else None) if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    if len(ids) < 2 or ids[0] != tokenizer.bos_token_id or ids[-1] != last:
        raise LayoutError(
            f"a text of {path} does not start with {tokenizer.bos_token!r} and end with {tokenizer.eos_token!r}: "
            f"{text[:60]!r}; prepare the data with the layout of the recipe"
        )
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
        raise LayoutError(f"a text of {path} cannot be tokenised: {text[:60]!r}; prepare it with the recipe's layout")


def redraw(text: str, *, layout_name: str, seed: int, epoch: int, row: int, chance: float = 1.0) -> str:
    """Return, with the given chance, an equivalent text of the same crystal; drawn from (seed, epoch, row)."""
    from crystallm.crystal.cell import Rejection
    from crystallm.crystal.description import augment
    from crystallm.tokenizer.layout import get_layout

    rng = np.random.default_rng((seed, epoch, row))
    if chance < 1 and rng.random() >= chance:
        return text
    layout = get_layout(layout_name)
    description = layout.read(text)
    if isinstance(description, Rejection):
        raise InputError(f"a training text cannot be read: {description.detail}; prepare the data again: {text[:80]!r}")
    return layout.write(augment(description, rng))
