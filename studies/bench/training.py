"""`python -m studies.bench.training`: useful crystals a second, against a plain loop over windows of the same texts."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from crystallm.base.errors import ConfigError, InputError
from crystallm.cli import run_program
from crystallm.train.config import TrainConfig
from crystallm.train.monitor.throughput import Work, training_flops, work_of
from crystallm.train.process import prepare_process
from crystallm.train.texts.batches import Ints

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedTokenizerFast

    from crystallm.model.architecture import ModelConfig
    from crystallm.train.texts.corpus import Corpus

WINDOWS = "windows"
BUCKETS, PACKED, RECIPE = OURS = ("buckets", "packed", "recipe")
WARM = 2
"""Rounds before the clock counts: kernels, compilation."""

Step = Callable[[], Work]
"""Takes one optimiser step and returns what it learned from: crystals are those seen whole."""


@dataclass
class Timing:
    """One way of training: the seconds of each of its steps, and what they learned from in all."""

    way: str
    crystals_per_token: float
    """Useful crystals for each token read, over all texts; those of the few passes timed may be short or long."""
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    """Of this process's threads together: what a machine that does other things as well leaves alone."""
    work: Work = field(default_factory=Work)

    @property
    def tokens(self) -> int:
        """Tokens read, padding left out."""
        return self.work.tokens + self.work.crystals

    @property
    def crystals_per_second(self) -> float:
        """Crystals whose text is seen whole, from its start."""
        return self.crystals_per_token * self.tokens / sum(self.seconds)


class Windows:
    """The plain loop, after nanoGPT (Karpathy 2022): windows of the context's length at random places of all texts.

    Texts lie end to end without masks or reset positions, the attention is torch's fused causal one, the optimiser its
    fused AdamW, and a step is cut into as many passes of as many tokens as ours. A text that does not lie whole in one
    window, predicted tokens included, is not useful: its start, or its end, is missing.
    """

    def __init__(
        self, config: TrainConfig, tokenizer: PreTrainedTokenizerFast, corpus: Corpus, device: torch.device
    ) -> None:

        from crystallm.train.optim.optimizers import make_optimizers
        from crystallm.train.starting_model import starting_model

        self.config, self.corpus, self.device = config, corpus, device
        self.rng = np.random.default_rng(config.seed)
        self.width = config.model.context
        self.rows = max(config.batch_tokens // config.accumulate // self.width, 1)
        if len(corpus.ids) <= self.width:
            raise InputError(f"the texts hold {len(corpus.ids)} tokens, less than one window; give more data")
        torch.manual_seed(config.seed)
        fused = replace(config, attention="sdpa")
        self.plain = starting_model(fused, tokenizer, on_cpu=device.type == "cpu").to(device).train()
        self.model = torch.compile(self.plain) if config.compile else self.plain
        self.optimizers = make_optimizers(config, self.plain)

    def step(self) -> Work:
        """Take one step, at the top of the learning rate."""
        work = Work()
        for _ in range(self.config.accumulate):
            places = self.rng.integers(len(self.corpus.ids) - self.width, size=self.rows)
            spans = np.stack([self.corpus.ids[place : place + self.width + 1] for place in places])
            ids_BT = torch.from_numpy(spans).to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
                logits_BTV = self.model(input_ids=ids_BT[:, :-1], use_cache=False).logits
                loss = F.cross_entropy(logits_BTV.flatten(0, 1).float(), ids_BT[:, 1:].flatten())
            torch.autograd.backward(loss / self.config.accumulate)
            for place in places:
                crystals = whole_texts(self.corpus.starts, int(place), self.width)
                # A text has a token more than it predicts, a window has not.
                work += Work(tokens=self.width - crystals, crystals=crystals, squares=self.width**2)
        torch.nn.utils.clip_grad_norm_(self.plain.parameters(), self.config.clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return work


def whole_texts(starts: Ints, place: int, width: int) -> int:
    """Count the texts that lie whole in the `width` + 1 tokens from `place` on: what a window reads or predicts."""
    first = np.searchsorted(starts, place, side="left")
    last = np.searchsorted(starts, place + width + 1, side="right") - 1
    return max(int(last - first), 0)


def useful_in_windows(corpus: Corpus, width: int) -> float:
    """Return the useful crystals for each token of windows, on average over all places where a window may begin."""
    places = len(corpus.ids) - width
    # Where a text lies whole: from its last predicted token backwards to its first one, as far as the corpus goes.
    begins, ends = corpus.starts[:-1], corpus.starts[1:]
    hits = np.minimum(begins, places - 1) - np.maximum(ends - width - 1, 0) + 1
    return float(np.maximum(hits, 0).sum() / places / width)


def our_step(
    config: TrainConfig, tokenizer: PreTrainedTokenizerFast, corpus: Corpus, accelerator: Accelerator, folder: Path
) -> Step:
    """Return one step of `crystallm train`, taken by its own loop: texts laid out, counted, learned."""
    from crystallm.train.loop import Trainer
    from crystallm.train.starting_model import starting_model
    from crystallm.train.state.run_folder import RunFolder
    from crystallm.train.texts.loading import Pass

    torch.manual_seed(config.seed)
    model = starting_model(config, tokenizer, on_cpu=accelerator.device.type == "cpu").train()
    export: Any = None  # nothing is evaluated here
    trainer = Trainer(config, accelerator, model, tokenizer, RunFolder(folder), train=corpus, val=corpus, export=export)
    trainer.model.train()

    def epochs() -> Iterator[list[Pass]]:
        while True:
            yield from trainer._passes(trainer._plan())
            trainer.position.epoch += 1

    steps = epochs()

    def step() -> Work:
        passes = next(steps)
        tokens, *_ = trainer._agree(passes, 0.0, False)
        trainer._step(passes, tokens, config.learning_rate)
        return work_of(passes)

    return step


def timed(ways: dict[str, Step], timings: dict[str, Timing], *, steps: int, warm: int = WARM) -> None:
    """Take the steps of all ways in turn, so that a busy moment of the machine meets all of them alike."""
    for number in range(warm + steps):
        order = list(ways)
        for way in order[number % len(order) :] + order[: number % len(order)]:
            start, cpu_start = time.perf_counter(), time.process_time()
            work = ways[way]()
            if torch.accelerator.is_available():
                torch.accelerator.synchronize()
            if number >= warm:
                timings[way].seconds.append(time.perf_counter() - start)
                timings[way].cpu_seconds.append(time.process_time() - cpu_start)
                timings[way].work += work


def ratio(timing: Timing, base: Timing) -> dict[str, float]:
    """Return how many times as many useful crystals a second as `base`.

    By the clock over all steps, by the clock in the quartiles of the rounds, and by the processor's time. A round's
    tokens are the mean ones of its way; only the seconds are its own.
    """
    useful = [way.crystals_per_token * way.tokens for way in (timing, base)]
    more = useful[0] / useful[1]
    low, high = np.percentile(more * np.array(base.seconds) / np.array(timing.seconds), [25, 75])
    return {
        "ratio": more * sum(base.seconds) / sum(timing.seconds),
        "ratio_low": float(low),
        "ratio_high": float(high),
        "ratio_cpu": more * sum(base.cpu_seconds) / sum(timing.cpu_seconds),
    }


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m studies.bench.training", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="prepared folder with train.parquet")
    parser.add_argument("--recipe", type=Path, help="YAML file (default: the defaults of the recipe)")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer folder; by default built from the recipe's layout")
    parser.add_argument("--steps", type=int, default=20, help="steps of each way (%(default)s)")
    parser.add_argument("--ways", nargs="+", choices=OURS, default=OURS, help="of ours (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures here")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="also write report.md and a figure here")
    parser.add_argument("--note", help="a sentence for the report, such as what else the machine did")
    parser.add_argument("--profile", action="store_true", help="also show where the time of a step goes")
    return parser


def main(argv: list[str]) -> None:
    """Time the training loop against a plain loop over windows: same weights, texts and tokens of a step."""
    options = make_parser().parse_args(argv)
    if options.steps < 1:
        raise ConfigError(f"--steps must be at least 1, got {options.steps}")
    from crystallm.base.config import from_mapping, load_recipe, with_overrides

    default = with_overrides({"max_steps": 1}, options.set)
    config = (
        load_recipe(TrainConfig, options.recipe, overrides=options.set)
        if options.recipe
        else from_mapping(TrainConfig, default)
    )
    prepare_process()
    from crystallm.base.provenance import output_folder, provenance, write_json
    from crystallm.train.accelerator import make_accelerator
    from crystallm.train.monitor.throughput import peak_flops
    from crystallm.train.starting_model import load_tokenizer
    from crystallm.train.state.memory import keep_freed_memory, or_advice
    from crystallm.train.texts.corpus import load_corpus
    from crystallm.train.texts.packing import settle
    from studies.bench.training_report import profile, write_report

    keep_freed_memory()
    accelerator = make_accelerator(config)
    if accelerator.num_processes > 1:
        raise ConfigError(
            f"the benchmark times one process, got {accelerator.num_processes}; start it without launcher"
        )
    settled = settle(config, on_cpu=accelerator.device.type == "cpu")
    tokenizer = load_tokenizer(config.layout, options.tokenizer)
    corpus = load_corpus(options.data / "train.parquet", tokenizer, max_tokens=config.longest_text)
    plain = replace(config, optimizer="adamw", descriptions="canonical", replay_share=0.0)
    with tempfile.TemporaryDirectory() as folder, or_advice(config):
        windows = Windows(plain, tokenizer, corpus, accelerator.device)
        ours = {BUCKETS: replace(plain, packing="buckets"), PACKED: replace(plain, packing="packed")}
        ours[RECIPE] = replace(plain, packing=settled.packing, optimizer=config.optimizer)
        ways: dict[str, Step] = {WINDOWS: windows.step} | {
            way: our_step(ours[way], tokenizer, corpus, accelerator, Path(folder)) for way in options.ways
        }
        timings = {way: Timing(way, len(corpus) / len(corpus.ids)) for way in ways}
        timings[WINDOWS].crystals_per_token = useful_in_windows(corpus, windows.width)
        timed(ways, timings, steps=options.steps)
        profiles = {way: profile(step) for way, step in ways.items()} if options.profile else {}
    peak = peak_flops(accelerator.device, precision=config.precision)
    parameters = sum(parameter.numel() for parameter in windows.plain.parameters())
    result = facts(list(timings.values()), config.model, parameters=parameters, peak=peak)
    result |= {"texts": len(corpus), "tokens_a_text": float(corpus.lengths.mean()), "window": windows.width}
    result |= {"note": options.note, "profiles": profiles}
    result["provenance"] = provenance(settled, inputs=[options.data / "train.parquet"])
    if options.json:
        write_json(options.json, result)
    print(write_report(result, output_folder(options.report) if options.report else None))


def facts(timings: Sequence[Timing], model: ModelConfig, *, parameters: int, peak: float | None) -> dict[str, Any]:
    """Return everything that was measured, for people to look through and for the report; the first way is the base."""
    threads, lines = torch.get_num_threads(), []
    for timing in timings:
        seconds, cpu_seconds = sum(timing.seconds), sum(timing.cpu_seconds) / threads
        flops = training_flops(timing.work, model, parameters=parameters)
        lines.append(
            asdict(timing)
            | ratio(timing, timings[0])
            | {"crystals_per_second": timing.crystals_per_second, "tokens_per_second": timing.tokens / seconds}
            | {"mfu": None if peak is None else flops / seconds / peak}
            | {"mfu_cpu": None if peak is None else flops / cpu_seconds / peak}
        )
    return {"timings": lines, "parameters": parameters, "peak_flops": peak, "threads": threads}


if __name__ == "__main__":
    run_program(main)
