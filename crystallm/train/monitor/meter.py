"""What a run tells while it goes: progress bar, metrics as JSON lines, TensorBoard, other trackers, and warnings."""

import logging
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from tqdm import tqdm

from crystallm.train.config import TrainConfig
from crystallm.train.monitor.alarm import Watch, require_finite, warn
from crystallm.train.monitor.throughput import Throughput, shown
from crystallm.train.monitor.tracking import open_tracker
from crystallm.train.schedule import Position
from crystallm.train.state.run_folder import RunFolder

if TYPE_CHECKING:
    from accelerate import Accelerator

    from crystallm.train.optim.evaluation_loss import EvaluationLoss

logger = logging.getLogger(__name__)


BY_THE_CLOCK = frozenset({"seconds", "tokens_per_second", "crystals_per_second", "mfu", "data_wait_share"})
"""Logged values that differ between two runs with the same losses."""


class Meter:
    """Sums the loss between two log lines and writes them; on all processes but the main one it only sums."""

    def __init__(
        self, config: TrainConfig, run: RunFolder, position: Position, throughput: Throughput, *, enabled: bool
    ) -> None:
        self.run, self.throughput, self.enabled = run, throughput, enabled
        self.bar = tqdm(initial=position.step, unit="step", disable=not enabled, dynamic_ncols=True)
        self.board = _tensorboard(run, position) if enabled else None
        self.tracker = open_tracker(config, run) if enabled else None
        self.watch = Watch(run.lines())
        self.loss = torch.zeros((), dtype=torch.float64)
        self.norms: list[torch.Tensor] = []
        self.tokens, self.since = 0, time.monotonic()

    def expect(self, position: Position, done: float) -> None:
        """Tell the bar how far the run is: its end is known as a fraction, by steps, epochs or time."""
        if done > 0:
            self.bar.total = round(position.step / done)

    def add(self, *, loss: torch.Tensor, tokens: int, rate: float, norm: torch.Tensor, epoch: float) -> None:
        """Count one step: `loss` is the sum over this process's tokens, `tokens` those of all processes."""
        self.loss = self.loss + loss.double()
        self.tokens += tokens
        self.rate, self.epoch = rate, epoch
        self.norms.append(norm)  # read when a line is written: reading would make a GPU wait in every step
        self.bar.update()

    def log(self, position: Position, accelerator: "Accelerator", *, settle: Callable[[], None]) -> None:
        """Write one line about the steps since the last one; DivergenceError where they have left the numbers.

        settle: waits for the checkpoint that is being written, so that the error can name the last one.
        """
        if self.tokens == 0:
            return
        loss = float(accelerator.reduce(torch.as_tensor(self.loss, device=accelerator.device), "sum")) / self.tokens
        seconds = time.monotonic() - self.since
        speed, rates = self.tokens / seconds, self.throughput.rates(seconds, accelerator)
        norms = [float(norm) for norm in self.norms]
        require_finite(self.run, position, loss=loss, norms=norms, learning_rate=self.rate, settle=settle)
        self._write(
            position,
            kind="train",
            loss=loss,
            learning_rate=self.rate,
            gradient_norm=norms[-1],
            largest_gradient_norm=max(norms),
            tokens_per_second=round(speed, 1),
            epoch=round(self.epoch, 4),
            **rates,
        )
        self.bar.set_postfix_str(f"loss {loss:.4f}, {speed:,.0f} tokens/s, {shown(rates)}", refresh=False)
        alarming = self.watch.see(loss=loss, norm=max(norms))
        if self.enabled:
            warn(alarming, self.run, position)
        self._clear()

    def log_evaluation(
        self, position: Position, loss: "EvaluationLoss", averaged: "EvaluationLoss | None" = None
    ) -> None:
        """Write one line about an evaluation of the weights and, where there is one, of their average."""
        values = {"loss": loss.per_token, "loss_per_crystal": loss.per_crystal}
        if averaged is not None:
            values |= {"ema_loss": averaged.per_token, "ema_loss_per_crystal": averaged.per_crystal}
        self._write(position, kind="eval", **values)
        more = "" if averaged is None else f"; averaged weights {averaged}"
        self._say(f"step {position.step}: validation loss {loss}{more}")

    def log_probe(self, position: Position, counts: Mapping[str, float]) -> None:
        """Write one line about crystals that were drawn during training."""
        self._write(position, kind="probe", **counts)
        valid, matched, attempted = (round(counts[name]) for name in ("valid", "matched", "attempted"))
        undecided = round(counts.get("undecided", 0))
        told = f", undecided {undecided}/{attempted}" if undecided else ""
        rates = f"draws valid {valid}/{attempted}, matching the truth {matched}/{attempted}{told}"
        self._say(f"step {position.step}: {rates}")

    def _say(self, text: str) -> None:
        """Print a line above the bar."""
        if self.enabled:
            self.bar.write(text)

    def pause(self, seconds: float) -> None:
        """Leave `seconds` out of the speed: time in which nothing was trained."""
        self.since += seconds

    def _write(self, position: Position, *, kind: str, **values: float) -> None:
        if not self.enabled:
            return
        about = {"kind": kind, "step": position.step, "tokens": position.tokens, "seconds": round(position.seconds, 1)}
        self.run.log(about | values)
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(f"{kind}/{name}", value, position.step)
        if self.tracker is not None:
            self.tracker.log({f"{kind}/{name}": value for name, value in values.items()}, step=position.step)

    def _clear(self) -> None:
        self.loss = torch.zeros((), dtype=torch.float64)
        self.norms = []
        self.tokens, self.since = 0, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()
        if self.board is not None:
            self.board.close()
        if self.tracker is not None:
            self.tracker.finish()


def _tensorboard(run: RunFolder, position: Position) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.info("no TensorBoard log: install crystallm[train] for one")
        return None
    return SummaryWriter(run.path / "tensorboard", purge_step=position.step + 1)
