"""Training texts that need not fit in memory: an epoch is a row of blocks, each a small corpus read when it is due.

A block is planned like a whole corpus in memory, so each text occurs once in an epoch, none is cut, and the passes hold
texts of similar length. The pieces of the files (row groups) come in an order drawn for each epoch; all processes read
them alike. `datasets` keeps the place of the reader. Its own shuffle buffer would lose its content when a run is
resumed; here a place is the reader's state before the block, and how many steps of the block were taken.
"""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from torch.utils.data import Dataset, IterableDataset

from crystallm.base.errors import CheckpointError, InputError
from crystallm.train.config import TrainConfig
from crystallm.train.schedule import Cursor
from crystallm.train.texts.batches import Ints, plan_epoch
from crystallm.train.texts.corpus import Corpus, corpus_of
from crystallm.train.texts.packing import plan_packed
from crystallm.train.texts.split_files import files_of, piece_rows, read_all, read_piece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

P = TypeVar("P")
"""The forward passes of a step, in the form in which they are trained on."""


@dataclass(frozen=True, eq=False)
class Block:
    """A stretch of an epoch that is in memory at one time."""

    corpus: Corpus
    first_row: int
    """Rows of the epoch before the block, those left out included."""
    rows: int
    """Rows read for the block, those left out included."""
    reader: Any
    """State of the reader before the block."""


class TextStream:
    """The texts of a split, read anew in each epoch; holds the names and sizes of the pieces, never a text."""

    def __init__(
        self,
        path: Path,
        tokenizer: "PreTrainedTokenizerFast",
        *,
        max_tokens: int,
        seed: int,
        block_rows: int,
        keep_texts: bool = False,
    ) -> None:
        """Look through the files of `path`: InputError if one is missing or damaged, or no text is short enough."""
        self.files = files_of(path)
        self.tokenizer, self.max_tokens, self.keep_texts = tokenizer, max_tokens, keep_texts
        self.seed, self.block_rows = seed, block_rows
        counts = [piece_rows(file) for file in self.files]
        self.pieces = np.array([(f, p) for f, rows in enumerate(counts) for p in range(len(rows))]).reshape(-1, 2)
        self.rows = sum(map(sum, counts))
        """All rows, those left out included."""
        self.left_out, self.n_tokens = self._count()
        if self.left_out == self.rows:
            raise InputError(f"{path} holds no text of at most {max_tokens} tokens; raise max_tokens")
        logger.info(
            "%s: %d texts in %d files, %d tokens, streamed; %d left out (above %d tokens)",
            *(path.stem, len(self), len(self.files), self.n_tokens, self.left_out, max_tokens),
        )

    def __len__(self) -> int:
        return self.rows - self.left_out

    def _count(self) -> tuple[int, int]:
        """Texts left out for their length and tokens of the others, by the column `n_tokens`."""
        left_out = tokens = 0
        for file in self.files:
            for values in read_all(file, "n_tokens"):
                lengths = np.asarray(values)
                left_out += int((lengths > self.max_tokens).sum())
                tokens += int(lengths[lengths <= self.max_tokens].sum())
        return left_out, tokens

    def blocks(self, epoch: int, cursor: Cursor | None) -> Iterator[Block]:
        """Yield the blocks of an epoch from the one `cursor` stands in; the next one is read in the meantime."""
        blocks = self._blocks(epoch, cursor)
        with ThreadPoolExecutor(max_workers=1) as reader:
            due = reader.submit(next, blocks, None)
            while (block := due.result()) is not None:
                due = reader.submit(next, blocks, None)
                yield block

    def _blocks(self, epoch: int, cursor: Cursor | None) -> Iterator[Block]:
        rows = self._rows(epoch)
        before, first_row = rows.state_dict(), 0
        if cursor is not None:
            if cursor.rows != self.rows:
                raise CheckpointError(
                    f"the run was started on {cursor.rows} training texts and now there are {self.rows}; "
                    "give it the data it was started with, or start another run"
                )
            rows.load_state_dict(cursor.reader)
            before, first_row = cursor.reader, cursor.first_row  # the data set takes it over with the first row
        batches, read = [], 0
        for row in rows:
            batches.append((self.files[row["file"]], row["texts"]))
            read += len(row["texts"])
            if read >= self.block_rows:
                yield Block(self._corpus(batches), first_row, read, before)
                before, batches, first_row, read = rows.state_dict(), [], first_row + read, 0
        if batches:
            yield Block(self._corpus(batches), first_row, read, before)

    def _corpus(self, batches: list[tuple[Path, list[str]]]) -> Corpus:
        return corpus_of(batches, self.tokenizer, max_tokens=self.max_tokens, keep_texts=self.keep_texts)

    def _rows(self, epoch: int) -> Any:
        """Return the batches of texts of an epoch as a data set that knows where its reader stands."""
        import datasets

        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.pieces))
        files, pieces = self.pieces[order].T.tolist()
        return datasets.IterableDataset.from_generator(
            _batches, gen_kwargs={"files": files, "pieces": pieces, "names": tuple(map(str, self.files))}
        )


def _batches(files: list[int], pieces: list[int], names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for file, piece in zip(files, pieces, strict=True):
        for texts in read_piece(Path(names[file]), piece, "text"):
            yield {"file": file, "texts": texts}


class StreamedSteps(IterableDataset[tuple[P, Cursor]]):
    """The steps of an epoch from where a run stands, each with the place where a run goes on that has taken it."""

    def __init__(
        self,
        stream: TextStream,
        config: TrainConfig,
        build: Callable[[Corpus, list[list[Ints]], int], Dataset[P]],
        *,
        epoch: int,
        step_in_epoch: int,
        cursor: Cursor | None,
    ) -> None:
        """`build` turns the planned steps of a corpus, whose first text is the epoch's n-th, into passes."""
        self.stream, self.config, self.build = stream, config, build
        self.epoch, self.step_in_epoch, self.cursor = epoch, step_in_epoch, cursor

    def __iter__(self) -> Iterator[tuple[P, Cursor]]:
        taken, first = self.step_in_epoch, self.cursor.step if self.cursor is not None else 0
        for block in self.stream.blocks(self.epoch, self.cursor):
            steps = self._plan(block)
            built = self.build(block.corpus, steps, block.first_row)
            for step in range(first, len(steps)):
                taken += 1
                share = (block.first_row + block.rows * (step + 1) / len(steps)) / self.stream.rows
                yield (
                    built[step],
                    Cursor(
                        reader=block.reader,
                        first_row=block.first_row,
                        step=step + 1,
                        rows=self.stream.rows,
                        steps_in_epoch=taken / share,
                    ),
                )
            first = 0
        if taken == 0:
            raise InputError(
                f"none of {self.stream.rows} texts has at most {self.stream.max_tokens} tokens, although their column "
                "n_tokens says so; prepare the data again with `crystallm data prepare`"
            )

    def _plan(self, block: Block) -> list[list[Ints]]:
        # Blocks of equal size would otherwise all be shuffled by the same permutation.
        seed = int(np.random.SeedSequence((self.config.seed, block.first_row)).generate_state(1)[0])
        plan = plan_packed if self.config.packing == "packed" else plan_epoch
        return plan(
            block.corpus.lengths,
            seed=seed,
            epoch=self.epoch,
            batch_tokens=self.config.batch_tokens,
            accumulate=self.config.accumulate,
        )
