"""The training loop, on Accelerate: the same losses on one process or many, uninterrupted or resumed."""

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from crystallm.train.config import TrainConfig
from crystallm.train.monitor.meter import Meter
from crystallm.train.monitor.throughput import Throughput, peak_flops
from crystallm.train.optim.ema import make_average
from crystallm.train.optim.evaluation_loss import EvaluationLoss, Export, losses_of
from crystallm.train.optim.losses import evaluation_loss, logits, summed_cross_entropy
from crystallm.train.optim.optimizers import make_optimizers
from crystallm.train.optim.sharding import is_sharded, whole, whole_model
from crystallm.train.schedule import Cursor, Position, decaying, learning_rate, progress, step_seed
from crystallm.train.state.checkpoints import Checkpoints
from crystallm.train.state.decay import before_decay, has_begun, mark
from crystallm.train.state.run_folder import RunFolder
from crystallm.train.texts.batches import IGNORED, Ints, draw_replay, plan_epoch
from crystallm.train.texts.corpus import NOTHING, Corpus, joined
from crystallm.train.texts.loading import Pass, Steps, step_loader, stream_loader
from crystallm.train.texts.packing import plan_packed
from crystallm.train.texts.stream import StreamedSteps, TextStream

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from crystallm.train.probe import Probe

logger = logging.getLogger(__name__)

STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGUSR1", signal.SIGTERM)}
"""SIGUSR1 is what batch systems are told to send before the time limit; Windows has none."""


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
        train: Corpus | TextStream,
        val: Corpus,
        replay: Corpus | None = None,
        export: Export,
        probe: "Probe | None" = None,
    ) -> None:
        self.config, self.accelerator, self.tokenizer, self.run = config, accelerator, tokenizer, run
        self.own_texts = len(train)
        self.stream = train if isinstance(train, TextStream) else None
        self.train_corpus = joined(train, replay) if isinstance(train, Corpus) else NOTHING
        self.val_corpus, self.export = val, export
        self.plain_model = model
        """Without the wrappers of compilation and data parallelism, which share its weights."""
        optimizers = make_optimizers(config, model)
        sharded = is_sharded(accelerator)
        if config.compile and not sharded:
            model = torch.compile(model, dynamic=True)
        self.loss = torch.compile(summed_cross_entropy, dynamic=True) if config.compile else summed_cross_entropy
        self.model, *self.optimizers = accelerator.prepare(model, *optimizers)
        if config.compile and sharded:  # after the weights were cut: cutting a compiled model would lose its layers
            self.model = torch.compile(self.model, dynamic=True)
        self.checkpoints = Checkpoints(
            run, accelerator, self.plain_model, self.optimizers, sharded=config.checkpoints == "sharded"
        )
        self.average = make_average(config, accelerator, model)
        self.probe = probe
        self.position = Position()
        self.best_loss = float("inf")
        self.evaluated: tuple[int, EvaluationLoss, EvaluationLoss | None] | None = None
        """Step of the last evaluation, loss of the weights, and of their average where there is one."""
        self.stale = 0
        """Evaluations since the lowest loss."""
        self.steps_in_epoch: float = 1
        self.next_cursor: Cursor | None = None
        self.stop_asked = False
        self.main = accelerator.is_main_process

    @property
    def _on_gpu(self) -> bool:
        return bool(self.accelerator.device.type == "cuda")

    @property
    def epochs(self) -> float:
        """How often the training texts were seen, replay left out."""
        return self.position.epoch + self.position.step_in_epoch / self.steps_in_epoch

    def fit(self, *, resume: bool) -> EvaluationLoss:
        """Train to the end of the budget and return the last evaluation; asked to stop, save and interrupt."""
        checkpoint = self.run.latest() if resume else None
        if checkpoint is not None:
            self.position = self.run.read_position(checkpoint)
            if self.run.decay_step is not None:
                done = progress(self.config, self.position, steps_in_epoch=self._known_steps())
                checkpoint = before_decay(self.config, self.run, self.position, done, self.accelerator) or checkpoint
                self.position = self.run.read_position(checkpoint)
            self.checkpoints.load(checkpoint)
        self.accelerator.wait_for_everyone()  # all have read what the next line may delete
        if self.main:
            self.run.rewind(self.position.step)
        self.accelerator.wait_for_everyone()
        self.decays = has_begun(self.run, self.position)
        for line in self.run.lines():
            if line["kind"] == "eval":
                self._count(line["step"], *losses_of(line))
        parameters = sum(parameter.numel() for parameter in self.plain_model.parameters())
        peak = peak_flops(self.accelerator.device, precision=self.config.precision)
        throughput = Throughput(self.config.model, parameters=parameters, peak=peak)
        with (
            self.checkpoints,
            _asked_to_stop(self),
            Meter(self.config, self.run, self.position, throughput, enabled=self.main) as meter,
        ):
            if self.position.step == 0 and self.config.start_from is not None:
                self._evaluate(meter)  # so that the best model is never worse than the one it started from
            self._steps(meter)
            loss = self._evaluate(meter, last=True)
            self.checkpoints.settle()
            return loss

    def _steps(self, meter: Meter) -> None:
        config, position = self.config, self.position
        clock = saved = time.monotonic()
        while True:
            for passes in meter.throughput.waiting(self._epoch()):
                done = progress(config, position, steps_in_epoch=self.steps_in_epoch)
                meter.expect(position, done)
                if done >= 1 or (config.patience is not None and self.stale >= config.patience):
                    self._save(meter)
                    return
                if decaying(config, done) and not self.decays:
                    self._save_before_decay(meter)
                now = time.monotonic()
                seconds, clock = now - clock, now
                due = config.save_every is None and now - saved > 60 * config.save_minutes
                # The main process decides for all, in the one message that also counts the tokens of the step.
                tokens, seconds, due, stop = self._agree(passes, seconds, due)
                if stop:
                    self._save(meter)
                    self.checkpoints.settle()  # together: a launcher stops the others when the first one leaves
                    logger.info("stopped at step %d and saved; --resume continues", position.step)
                    raise KeyboardInterrupt
                position.seconds += seconds
                rate = learning_rate(config, step=position.step, done=done)
                loss, norm = self._step(passes, tokens, rate)
                position.step, position.step_in_epoch = position.step + 1, position.step_in_epoch + 1
                position.tokens, position.cursor = position.tokens + tokens, self.next_cursor
                meter.throughput.add(passes)
                meter.add(loss=loss, tokens=tokens, rate=rate, norm=norm, epoch=self.epochs)
                if position.step % config.log_every == 0:
                    meter.log(position, self.accelerator, settle=self.checkpoints.wait)
                if position.step % config.eval_every == 0:
                    self._evaluate(meter)
                if due or (config.save_every is not None and position.step % config.save_every == 0):
                    self._save(meter)
                    saved = time.monotonic()
            position.epoch, position.step_in_epoch, position.cursor = position.epoch + 1, 0, None

    def _epoch(self) -> Iterator[list[Pass]]:
        """Yield this process's part of the steps of the epoch, from where the run stands."""
        if self.stream is None:
            steps = self._plan()
            self.steps_in_epoch = len(steps)
            yield from self._passes(steps)
            return
        position, builder = self.position, self._builder([])
        steps_left = StreamedSteps(
            self.stream,
            self.config,
            builder.of,
            epoch=position.epoch,
            step_in_epoch=position.step_in_epoch,
            cursor=position.cursor,
        )
        loader = stream_loader(steps_left, self.config, on_gpu=self._on_gpu)
        for passes, self.next_cursor in loader:
            self.steps_in_epoch = self.next_cursor.steps_in_epoch
            yield passes

    def _known_steps(self) -> float:
        """Return how many steps the epoch has in which a run resumes; of a stream what its checkpoint says."""
        if self.stream is None:
            return len(self._plan())
        return 1 if self.position.cursor is None else self.position.cursor.steps_in_epoch

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
        torch.manual_seed(step_seed(self.config, self.position, process=self.accelerator.process_index))
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
        if self.average is not None:
            self.average.update()
        return total, whole(norm)

    def _agree(self, passes: list[Pass], seconds: float, due: bool) -> tuple[int, float, bool, bool]:
        """Return tokens of the step, seconds, and whether to save and to stop, equal on all processes."""
        tokens = sum(int((labels_BT[:, 1:] != IGNORED).sum()) for _, labels_BT, *_ in passes)
        failed = self.checkpoints.failed
        if self.accelerator.num_processes == 1 and not failed:
            return tokens, seconds, due, self.stop_asked
        said = [tokens, seconds * self.main, due * self.main, self.stop_asked, failed]
        heard = self.accelerator.reduce(torch.tensor(said, dtype=torch.float64, device=self.accelerator.device), "sum")
        tokens_all, seconds_main, due_main, stops, failures = heard.tolist()
        if failures:
            self.checkpoints.give_up()
        return round(tokens_all), seconds_main, bool(due_main), bool(stops)

    def _builder(self, steps: list[list[Ints]]) -> Steps:
        part = (self.accelerator.process_index, self.accelerator.num_processes)
        return Steps(self.config, self.train_corpus, self.tokenizer, steps, epoch=self.position.epoch, part=part)

    def _passes(self, steps: list[list[Ints]]) -> DataLoader[list[Pass]]:
        """Return this process's part of the steps of the epoch, from where the run stands."""
        dataset = self._builder(steps)
        remaining = range(self.position.step_in_epoch, len(steps))
        return step_loader(dataset, remaining, self.config, on_gpu=self._on_gpu)

    def _evaluate(self, meter: Meter, *, last: bool = False) -> EvaluationLoss:
        started = time.monotonic()
        fresh = self.evaluated is None or self.evaluated[0] != self.position.step
        if fresh:
            loss = self._loss()
            averaged = None
            if self.average is not None:
                with self.average.worn():
                    averaged = self._loss()
            meter.log_evaluation(self.position, loss, averaged)
            self._count(self.position.step, loss, averaged)
        assert self.evaluated is not None
        _, loss, averaged = self.evaluated
        if self.main and self.probe is not None and self.probe.due(self.position, last=last):
            meter.log_probe(self.position, self.probe.draw(self.plain_model))
        self._export(loss, averaged, last=last)
        if self.main:
            self.run.after_evaluation()
        self.accelerator.wait_for_everyone()
        meter.pause(time.monotonic() - started)
        return loss

    def _loss(self) -> EvaluationLoss:
        return evaluation_loss(self.model, self.val_corpus, self.accelerator, self.config, self.tokenizer.pad_token_id)

    def _export(self, loss: EvaluationLoss, averaged: EvaluationLoss | None, *, last: bool) -> None:
        """Write the models that this evaluation asks for; the best is the weights or their average, as it came."""
        # Also when found in the log: a run killed between the log line and the export exports again.
        better = loss.per_token == self.best_loss
        model: PreTrainedModel | None = self.plain_model
        if is_sharded(self.accelerator) and (better or last):
            model = whole_model(self.plain_model, keep=self.main)
        if not self.main or model is None:
            return
        if better:
            self.export(model, self.position, loss, "best")
        if last:
            self.export(model, self.position, loss, "final")
        if self.average is not None and averaged is not None:
            with self.average.worn():
                if averaged.per_token == self.best_loss < loss.per_token:
                    self.export(self.plain_model, self.position, averaged, "best")
                if last:
                    self.export(self.plain_model, self.position, averaged, "final_ema")

    def _count(self, step: int, loss: EvaluationLoss, averaged: EvaluationLoss | None) -> None:
        """Take an evaluation into account: the last one, the lowest, and how many came since that."""
        lowest = min(loss.per_token, loss.per_token if averaged is None else averaged.per_token)
        self.stale = 0 if lowest < self.best_loss else self.stale + 1
        self.evaluated, self.best_loss = (step, loss, averaged), min(self.best_loss, lowest)

    def _save_before_decay(self, meter: Meter) -> None:
        """Write the checkpoint that a larger budget will continue from."""
        self.decays = True
        if self.main:
            mark(self.run, self.position)
        self._save(meter)

    def _save(self, meter: Meter) -> None:
        """Write a checkpoint that is either whole or not there, while training goes on."""
        meter.log(self.position, self.accelerator, settle=self.checkpoints.wait)
        self.checkpoints.save(self.position)


@contextmanager
def _asked_to_stop(trainer: Trainer) -> Iterator[None]:
    """Let the first Ctrl-C, SIGTERM or SIGUSR1 finish the step and save; a second Ctrl-C ends the process at once."""

    def ask(number: int, frame: FrameType | None) -> None:
        trainer.stop_asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
