"""How the texts of a step reach the processor: prepared ahead, and copied to a GPU without waiting for the copy."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from crystallm.train.config import TrainConfig

Item = TypeVar("Item")

GPU_WORKERS = 2
"""Processes that prepare texts for a GPU unless the recipe says otherwise; it is faster than one thread of Python."""

PREFETCHED = 4
"""Steps that each of them is ahead."""


def step_loader(dataset: Dataset[Item], order: Sequence[int], config: TrainConfig, *, on_gpu: bool) -> DataLoader[Item]:
    """Return the items of `dataset` in the given order, by workers where the recipe or a GPU asks for them."""
    return _loader(dataset, order, workers=_workers(config, on_gpu=on_gpu), on_gpu=on_gpu)


def stream_loader(dataset: IterableDataset[Item], config: TrainConfig, *, on_gpu: bool) -> DataLoader[Item]:
    """Return the items of a stream in its own order, by one worker at most: several would have to share the reading."""
    return _loader(dataset, None, workers=min(_workers(config, on_gpu=on_gpu), 1), on_gpu=on_gpu)


def _workers(config: TrainConfig, *, on_gpu: bool) -> int:
    return config.workers if config.workers is not None else GPU_WORKERS if on_gpu else 0


def _loader(dataset: Dataset[Item], order: Sequence[int] | None, *, workers: int, on_gpu: bool) -> DataLoader[Item]:
    return DataLoader(
        dataset,
        sampler=order,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=PREFETCHED if workers else None,
        pin_memory=on_gpu,  # copies from pinned memory run beside the computation
        # Its own generator, unused: the loader would otherwise draw from the random state that dropout continues.
        generator=torch.Generator(),
    )
