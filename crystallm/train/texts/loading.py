"""How the texts of a step reach the processor: padded or packed, made ahead where it pays, copied beside its work."""

import os
from collections.abc import Sequence
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from crystallm.base.launch import end_with
from crystallm.train.config import TrainConfig
from crystallm.train.texts.batches import Ints, pad, share, widths
from crystallm.train.texts.corpus import Corpus, redraw
from crystallm.train.texts.packing import pack

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Item = TypeVar("Item")

Pass = tuple[torch.Tensor, ...]
"""Token ids (B, T), labels (B, T) and, of packed rows, positions (B, T) of one forward pass."""

GPU_WORKERS = 2
"""Processes that prepare texts for a GPU unless the recipe says otherwise; it is faster than one thread of Python."""

PREFETCHED = 4
"""Steps that each of them is ahead."""


class Steps(Dataset[list[Pass]]):
    """Builds the forward passes of a step, in a worker process where the recipe asks for workers."""

    def __init__(
        self,
        config: TrainConfig,
        corpus: Corpus,
        tokenizer: "PreTrainedTokenizerFast",
        steps: list[list[Ints]],
        *,
        epoch: int,
        part: tuple[int, int],
    ) -> None:
        """Part: which process this is, of how many."""
        self.config, self.corpus, self.tokenizer = config, corpus, tokenizer
        self.process, self.processes = part
        self.steps, self.epoch, self.first_row = steps, epoch, 0
        self.widths = widths(self.corpus.lengths)
        self.budget = -(-(self.config.batch_tokens // self.config.accumulate) // self.processes)

    def of(self, corpus: Corpus, steps: list[list[Ints]], first_row: int) -> "Steps":
        """Return the same for the steps of another corpus, whose first text is the epoch's n-th."""
        other = copy(self)
        other.corpus, other.steps, other.first_row, other.widths = corpus, steps, first_row, widths(corpus.lengths)
        return other

    def __getitem__(self, index: int) -> list[Pass]:
        return [tuple(map(torch.from_numpy, self._arrays(rows))) for rows in self.steps[index]]

    def _arrays(self, rows: Ints) -> tuple[Ints, ...]:
        """Return this process's share of a pass."""
        mine = share(rows, process=self.process, processes=self.processes)
        texts, pad_id = [self._text(int(row)) for row in mine], self.tokenizer.pad_token_id
        if self.config.packing == "packed":
            return pack(texts, budget=self.budget, pad_id=pad_id)
        wide = int(self.widths[rows].max())
        return pad(texts, wide=wide, budget=self.budget, longest=self.config.longest_text, pad_id=pad_id)

    def _text(self, row: int) -> Ints:
        if self.corpus.texts is None:
            return self.corpus.tokens(row)
        text = redraw(
            self.corpus.texts[row],
            layout_name=self.config.layout,
            seed=self.config.seed,
            epoch=self.epoch,
            row=self.first_row + row,
            chance=self.config.augmented_share,
        )
        ids: Ints = self.tokenizer(text, add_special_tokens=False, return_tensors="np")["input_ids"][0]
        return ids if len(ids) <= self.config.longest_text else self.corpus.tokens(row)


def step_loader(dataset: Dataset[Item], order: Sequence[int], config: TrainConfig, *, on_gpu: bool) -> DataLoader[Item]:
    """Return the items of `dataset` in the given order, by workers where the recipe or a GPU asks for them."""
    return _loader(dataset, order, workers=_workers(config, on_gpu=on_gpu), on_gpu=on_gpu)


def stream_loader(dataset: IterableDataset[Item], config: TrainConfig, *, on_gpu: bool) -> DataLoader[Item]:
    """Return the items of a stream in its own order, by one worker at most: several would have to share the reading."""
    return _loader(dataset, None, workers=min(_workers(config, on_gpu=on_gpu), 1), on_gpu=on_gpu)


def _workers(config: TrainConfig, *, on_gpu: bool) -> int:
    return config.workers if config.workers is not None else GPU_WORKERS if on_gpu else 0


def _end_with(trainer: int, worker: int) -> None:
    """Let a worker end with the process that trains, even where that is killed."""
    end_with(trainer)


def _loader(dataset: Dataset[Item], order: Sequence[int] | None, *, workers: int, on_gpu: bool) -> DataLoader[Item]:
    return DataLoader(
        dataset,
        sampler=order,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=PREFETCHED if workers else None,
        worker_init_fn=partial(_end_with, os.getpid()) if workers else None,
        pin_memory=on_gpu,  # copies from pinned memory run beside the computation
        # Its own generator, unused: the loader would otherwise draw from the random state that dropout continues.
        generator=torch.Generator(),
    )
