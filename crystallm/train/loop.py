"""The training loop, on Accelerate: the same losses on one process or many, uninterrupted or resumed."""

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from accelerate import Accelerator
from safetensors import SafetensorError
from torch.utils.data import DataLoader, Dataset

from crystallm.errors import CheckpointError
from crystallm.train.batches import IGNORED, Ints, draw_replay, pad, plan_epoch, plan_evaluation, share, widths
from crystallm.train.config import TrainConfig
from crystallm.train.corpus import Corpus, joined, redraw
from crystallm.train.loading import step_loader
from crystallm.train.meter import Meter
from crystallm.train.optimizers import make_optimizers
from crystallm.train.packing import pack, plan_packed
from crystallm.train.run import RunFolder
from crystallm.train.schedule import Position, learning_rate, progress
from crystallm.train.throughput import Throughput, peak_flops

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

Pass = tuple[torch.Tensor, ...]
"""Token ids (B, T), labels (B, T) and, of packed rows, positions (B, T) of one forward pass."""


@dataclass(frozen=True)
class EvaluationLoss:
    """Loss over a whole split, in nats."""

    per_token: float
    per_crystal: float
    """Sum over the tokens of a crystal, averaged over crystals: what the model pays to write one."""


class Trainer:
    """One run: holds what a step changes, and nothing else."""

    def __init__(
        self,
        config: TrainConfig,
        accelerator: Accelerator,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerFast",
        run: RunFolder,
        *,
        train: Corpus,
        val: Corpus,
        replay: Corpus | None = None,
        export: Callable[["PreTrainedModel", Position, EvaluationLoss, bool], None],
    ) -> None:
        self.config, self.accelerator, self.tokenizer, self.run = config, accelerator, tokenizer, run
        self.own_texts = len(train)
        self.train_corpus, self.val_corpus, self.export = joined(train, replay), val, export
        self.plain_model = model
        """Without the wrappers of compilation and data parallelism, which share its weights."""
        optimizers = make_optimizers(config, model)
        if config.compile:
            model = torch.compile(model, dynamic=True)
        self.loss = torch.compile(summed_cross_entropy, dynamic=True) if config.compile else summed_cross_entropy
        self.model, *self.optimizers = accelerator.prepare(model, *optimizers)
        self.position = Position()
        self.best_loss = float("inf")
        self.evaluated: tuple[int, EvaluationLoss] | None = None
        self.stale = 0
        """Evaluations since the lowest loss."""
        self.steps_in_epoch = 1
        self.stop_asked = False
        self.main = accelerator.is_main_process

    @property
    def epochs(self) -> float:
        """How often the training texts were seen, replay left out."""
        return self.position.epoch + self.position.step_in_epoch / self.steps_in_epoch

    def fit(self, *, resume: bool) -> EvaluationLoss:
        """Train to the end of the budget and return the last evaluation; asked to stop, save and interrupt."""
        checkpoint = self.run.latest() if resume else None
        if checkpoint is not None:
            self.position = self.run.read_position(checkpoint)
            try:
                self.accelerator.load_state(str(checkpoint))
            except (OSError, SafetensorError) as error:
                raise CheckpointError(f"{checkpoint} is damaged: {error}; delete it to use the one before") from error
        if self.main:
            self.run.rewind(self.position.step)
        self.accelerator.wait_for_everyone()
        for line in self.run.lines():
            if line["kind"] == "eval":
                loss = EvaluationLoss(per_token=line["loss"], per_crystal=line["loss_per_crystal"])
                self._count(line["step"], loss)
        parameters = sum(parameter.numel() for parameter in self.plain_model.parameters())
        peak = peak_flops(self.accelerator.device, precision=self.config.precision)
        throughput = Throughput(self.config.model, parameters=parameters, peak=peak)
        with _asked_to_stop(self), Meter(self.run, self.position, throughput, enabled=self.main) as meter:
            if self.position.step == 0 and self.config.start_from is not None:
                self._evaluate(meter)  # so that the best model is never worse than the one it started from
            self._steps(meter)
            return self._evaluate(meter, last=True)

    def _steps(self, meter: Meter) -> None:
        config, position = self.config, self.position
        clock = saved = time.monotonic()
        while True:
            steps = self._plan()
            self.steps_in_epoch = len(steps)
            for passes in meter.throughput.waiting(self._passes(steps)):
                done = progress(config, position, steps_in_epoch=len(steps))
                meter.expect(position, done)
                if done >= 1 or (config.patience is not None and self.stale >= config.patience):
                    self._save(meter)
                    return
                now = time.monotonic()
                seconds, clock = now - clock, now
                due = config.save_every is None and now - saved > 60 * config.save_minutes
                # The main process decides for all, in the one message that also counts the tokens of the step.
                tokens, seconds, due, stop = self._agree(passes, seconds, due)
                if stop:
                    self._save(meter)
                    logger.info("stopped at step %d and saved; --resume continues", position.step)
                    raise KeyboardInterrupt
                position.seconds += seconds
                rate = learning_rate(config, step=position.step, done=done)
                loss, norm = self._step(passes, tokens, rate)
                position.step, position.step_in_epoch = position.step + 1, position.step_in_epoch + 1
                position.tokens += tokens
                meter.throughput.add(passes)
                meter.add(loss=loss, tokens=tokens, rate=rate, norm=norm, epoch=self.epochs)
                if position.step % config.log_every == 0:
                    meter.log(position, self.accelerator)
                if position.step % config.eval_every == 0:
                    self._evaluate(meter)
                if due or (config.save_every is not None and position.step % config.save_every == 0):
                    self._save(meter)
                    saved = time.monotonic()
            position.epoch, position.step_in_epoch = position.epoch + 1, 0

    def _plan(self) -> list[list[Ints]]:
        """Return the steps of the epoch the run stands in: all its own texts, and the replayed ones drawn for it."""
        config, epoch = self.config, self.position.epoch
        others = len(self.train_corpus) - self.own_texts
        drawn = draw_replay(self.own_texts, others, share=config.replay_share, seed=config.seed, epoch=epoch)
        rows = np.concatenate([np.arange(self.own_texts), self.own_texts + drawn])
        plan = plan_packed if config.packing == "packed" else plan_epoch
        steps = plan(
            self.train_corpus.lengths[rows],
            seed=config.seed,
            epoch=epoch,
            batch_tokens=config.batch_tokens,
            accumulate=config.accumulate,
        )
        return [[rows[places] for places in passes] for passes in steps]

    def _step(self, passes: list[Pass], tokens: int, rate: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Take one optimiser step on the mean loss over all `tokens` of all processes; return the summed local loss."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("rate_scale", 1.0)  # runs saved before there was one lack it
        total = torch.zeros((), device=self.accelerator.device)
        for i, tensors in enumerate(passes):
            last = i + 1 == len(passes)
            ids_BT, labels_BT, *positions = (tensor.to(total.device, non_blocking=True) for tensor in tensors)
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                loss = self.loss(logits(self.model, ids_BT, *positions), labels_BT)
                # Data-parallel training averages gradients over processes; the sum is meant.
                self.accelerator.backward(loss * (self.accelerator.num_processes / tokens))
            total += loss.detach()
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return total, norm

    def _agree(self, passes: list[Pass], seconds: float, due: bool) -> tuple[int, float, bool, bool]:
        """Return tokens of the step, seconds, and whether to save and to stop, equal on all processes."""
        tokens = sum(int((labels_BT[:, 1:] != IGNORED).sum()) for _, labels_BT, *_ in passes)
        if self.accelerator.num_processes == 1:
            return tokens, seconds, due, self.stop_asked
        said = [tokens, seconds * self.main, due * self.main, self.stop_asked]
        heard = self.accelerator.reduce(torch.tensor(said, dtype=torch.float64, device=self.accelerator.device), "sum")
        tokens_all, seconds_main, due_main, stops = heard.tolist()
        return round(tokens_all), seconds_main, bool(due_main), bool(stops)

    def _passes(self, steps: list[list[Ints]]) -> DataLoader[list[Pass]]:
        """Return this process's part of the steps of the epoch, from where the run stands."""
        dataset = _Steps(self, steps, epoch=self.position.epoch)
        remaining = range(self.position.step_in_epoch, len(steps))
        return step_loader(dataset, remaining, self.config, on_gpu=self.accelerator.device.type == "cuda")

    def _evaluate(self, meter: Meter, *, last: bool = False) -> EvaluationLoss:
        started = time.monotonic()
        fresh = self.evaluated is None or self.evaluated[0] != self.position.step
        if fresh:
            loss = evaluation_loss(
                self.model, self.val_corpus, self.accelerator, self.config, self.tokenizer.pad_token_id
            )
            meter.log_evaluation(self.position, loss)
            self._count(self.position.step, loss)
        assert self.evaluated is not None
        loss = self.evaluated[1]
        # Also when found in the log: a run killed between the log line and the export exports again.
        better = loss.per_token == self.best_loss
        if self.main:
            if better:
                self.export(self.plain_model, self.position, loss, False)
            if last:
                self.export(self.plain_model, self.position, loss, True)
        self.accelerator.wait_for_everyone()
        meter.pause(time.monotonic() - started)
        return loss

    def _count(self, step: int, loss: EvaluationLoss) -> None:
        """Take an evaluation into account: the last one, the lowest, and how many came since that."""
        self.stale = 0 if loss.per_token < self.best_loss else self.stale + 1
        self.evaluated, self.best_loss = (step, loss), min(self.best_loss, loss.per_token)

    def _save(self, meter: Meter) -> None:
        """Write a checkpoint that is either whole or not there."""
        meter.log(self.position, self.accelerator)
        self.accelerator.save_state(str(self.run.partial(self.position)))
        self.accelerator.wait_for_everyone()
        if self.main:
            self.run.finish(self.position)
        self.accelerator.wait_for_everyone()


@contextmanager
def _asked_to_stop(trainer: Trainer) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM finish the step and save; a second one ends the process at once."""

    def ask(number: int, frame: FrameType | None) -> None:
        trainer.stop_asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def logits(model: torch.nn.Module, ids_BT: torch.Tensor, positions_BT: torch.Tensor | None = None) -> torch.Tensor:
    """Return the logits (B, T, V) of the tokens that follow each token; of packed rows, given places in texts."""
    logits_BTV: torch.Tensor = model(input_ids=ids_BT, position_ids=positions_BT, use_cache=False).logits
    return logits_BTV


def summed_cross_entropy(logits_BTV: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
    """Return the negative log-likelihood in nats of every token after the first, summed; padding is left out."""
    return F.cross_entropy(
        logits_BTV[:, :-1].flatten(0, 1).float(), labels_BT[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
    )


@torch.no_grad()
def evaluation_loss(
    model: torch.nn.Module, corpus: Corpus, accelerator: Accelerator, config: TrainConfig, pad_id: int
) -> EvaluationLoss:
    """Return the loss over all texts of `corpus`, shared between the processes."""
    model.eval()
    device = accelerator.device
    total = torch.zeros((), dtype=torch.float64, device=device)
    budget = config.batch_tokens // config.accumulate
    wide = widths(corpus.lengths)
    for rows in plan_evaluation(corpus.lengths, budget=budget):
        mine = share(rows, process=accelerator.process_index, processes=accelerator.num_processes)
        if len(mine):
            arrays = pad(
                [corpus.tokens(i) for i in mine],
                wide=int(wide[rows].max()),
                budget=-(-budget // accelerator.num_processes),
                longest=config.longest_text,
                pad_id=pad_id,
            )
            ids_BT, labels_BT = (torch.from_numpy(array).to(device) for array in arrays)
            total += summed_cross_entropy(logits(model, ids_BT), labels_BT)
    model.train()
    nats = float(accelerator.reduce(total, "sum"))
    crystals = len(corpus)
    tokens = len(corpus.ids) - crystals  # the first token is given, not predicted
    return EvaluationLoss(per_token=nats / tokens, per_crystal=nats / crystals)


class _Steps(Dataset[list[Pass]]):
    """Builds the forward passes of a step, in a worker process where the recipe asks for workers."""

    def __init__(self, trainer: Trainer, steps: list[list[Ints]], *, epoch: int) -> None:
        self.config, self.corpus, self.tokenizer = trainer.config, trainer.train_corpus, trainer.tokenizer
        self.process, self.processes = trainer.accelerator.process_index, trainer.accelerator.num_processes
        self.steps, self.epoch = steps, epoch
        self.widths = widths(self.corpus.lengths)
        self.budget = -(-(self.config.batch_tokens // self.config.accumulate) // self.processes)

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
            row=row,
            chance=self.config.augmented_share,
        )
        ids: Ints = self.tokenizer(text, add_special_tokens=False, return_tensors="np")["input_ids"][0]
        return ids if len(ids) <= self.config.longest_text else self.corpus.tokens(row)
