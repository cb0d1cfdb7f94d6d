"""`python -m studies.streaming.stream_check`: peak memory of streaming, by the number of rows.

Parquet files of real texts, repeated, are written to a temporary folder; each number of rows is then streamed for one
epoch in a process of its own, tokenised, planned and padded as for training.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

ROWS_PER_FILE = 100_000


def write_rows(folder: Path, rows: int) -> None:
    """Write `rows` prepared rows into the folder `train`: texts of the validation corpus, over and over."""
    import pyarrow as pa

    from crystallm.data.general import validation_texts
    from crystallm.data.preparing.resumable import write_table
    from crystallm.tokenizer.layout import DEFAULT_LAYOUT
    from crystallm.train.starting_model import load_tokenizer

    (folder / "train").mkdir(parents=True)
    real = [item.text for item in validation_texts()]
    lengths = [len(ids) for ids in load_tokenizer(DEFAULT_LAYOUT, None)(real, add_special_tokens=False)["input_ids"]]
    texts = cycle(zip(real, lengths, strict=True))
    counts = [min(ROWS_PER_FILE, rows - start) for start in range(0, rows, ROWS_PER_FILE)]
    for i, count in enumerate(counts):
        own, tokens = zip(*islice(texts, count), strict=True)
        write_table(
            pa.table({"text": own, "n_tokens": tokens}),
            folder / "train" / f"train-{i:05d}-of-{len(counts):05d}.parquet",
        )


def stream_once(folder: Path, buffer: int) -> tuple[int, int, float, float]:
    """Stream an epoch; return texts, steps, seconds and the peak memory of this process in megabytes."""
    from torch.utils.data import Dataset

    from crystallm.train.config import TrainConfig
    from crystallm.train.starting_model import load_tokenizer
    from crystallm.train.texts.batches import Ints, pad, widths
    from crystallm.train.texts.corpus import Corpus
    from crystallm.train.texts.stream import StreamedSteps, TextStream

    config = TrainConfig(epochs=1, streaming=True, stream_buffer=buffer)
    budget = config.batch_tokens // config.accumulate

    class Padded(Dataset[list[int]]):
        """The texts in each padded pass of a step."""

        def __init__(self, corpus: Corpus, steps: list[list[Ints]], first_row: int) -> None:
            self.corpus, self.steps, self.wide = corpus, steps, widths(corpus.lengths)

        def __getitem__(self, index: int) -> list[int]:
            for rows in self.steps[index]:
                texts = [self.corpus.tokens(int(row)) for row in rows]
                wide = int(self.wide[rows].max())
                pad(texts, wide=wide, budget=budget, longest=config.longest_text, pad_id=0)
            return [len(rows) for rows in self.steps[index]]

    started = time.monotonic()
    stream = TextStream(
        folder / "train.parquet",
        load_tokenizer(config.layout, None),
        max_tokens=config.longest_text,
        seed=0,
        block_rows=buffer,
    )
    texts = steps = 0
    for passes, _ in StreamedSteps(stream, config, Padded, epoch=0, step_in_epoch=0, cursor=None):
        texts, steps = texts + sum(passes), steps + 1
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return texts, steps, seconds, peak


def main(argv: list[str]) -> None:
    """Print a line for each number of rows."""
    parser = argparse.ArgumentParser(prog="python -m studies.streaming.stream_check", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], metavar="N")
    parser.add_argument("--buffer", type=int, default=100_000, help="texts in memory at a time (default: %(default)s)")
    options = parser.parse_args(argv)
    print(f"buffer of {options.buffer:,} texts\n{'rows':>10} {'steps':>8} {'texts/s':>8} {'peak memory, MB':>16}")
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as name:
            context = multiprocessing.get_context("spawn")  # a peak is kept for the life of a process
            with context.Pool(1) as pool:
                pool.apply(write_rows, (Path(name), rows))
            with context.Pool(1) as pool:
                texts, steps, seconds, peak = pool.apply(stream_once, (Path(name), options.buffer))
        assert texts == rows, f"{texts} of {rows} texts came"
        print(f"{rows:>10,} {steps:>8,} {texts / seconds:>8,.0f} {peak:>16,.0f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
