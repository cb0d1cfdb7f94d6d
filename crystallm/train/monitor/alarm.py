"""Early warning: a run whose loss is no longer a number is stopped, one that seems to diverge is told so, once.

The thresholds were held against runs of the default model, none of which would have been warned (docs: train).
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from crystallm.base.errors import DivergenceError
from crystallm.train.schedule import Position
from crystallm.train.state.run_folder import RunFolder

logger = logging.getLogger(__name__)

SMOOTHING = 0.8
"""Part of itself that the smoothed loss keeps at each line of metrics."""
RISE_NATS = 0.3
"""A smoothed loss that lies this far above its lowest value, in nats a token,"""
RISE_LINES = 5
"""for this many lines in a row, is a warning."""
NORM_FACTOR = 10.0
"""A gradient norm above so many times its running median is a warning,"""
NORM_WINDOW = 100
"""the median of so many lines,"""
NORM_LEAST = 20
"""once there are so many."""

REMEDY = (
    "if the loss does not come back down, stop with Ctrl-C and start another run with a lower learning_rate, a longer "
    "warmup_steps or a lower clip_norm; start_from={best} keeps what was learned"
)


class Watch:
    """Looks at each line of training metrics; a resumed run looks at the lines of its earlier part first."""

    def __init__(self, lines: Iterable[Mapping[str, Any]] = ()) -> None:
        self.smoothed: float | None = None
        self.lowest = math.inf
        self.high_lines = 0
        self.norms: deque[float] = deque(maxlen=NORM_WINDOW)
        self.warned: set[str] = set()
        for line in lines:
            if line["kind"] == "train":
                self.see(loss=line["loss"], norm=line.get("largest_gradient_norm", line["gradient_norm"]))

    def see(self, *, loss: float, norm: float) -> list[str]:
        """Take a line into account and return what is new and alarming about it."""
        found = {"loss": self._rise(loss), "norm": self._jump(norm)}
        new = [text for kind, text in found.items() if text is not None and kind not in self.warned]
        self.warned |= {kind for kind, text in found.items() if text is not None}
        return new

    def _rise(self, loss: float) -> str | None:
        self.smoothed = loss if self.smoothed is None else SMOOTHING * self.smoothed + (1 - SMOOTHING) * loss
        self.lowest = min(self.lowest, self.smoothed)
        rise = self.smoothed - self.lowest
        self.high_lines = self.high_lines + 1 if rise > RISE_NATS else 0
        if self.high_lines < RISE_LINES:
            return None
        return (
            f"the training loss, smoothed, is {self.smoothed:.3f} nats a token, {rise:.3f} above its lowest, "
            f"for {self.high_lines} lines of metrics"
        )

    def _jump(self, norm: float) -> str | None:
        usual = median(self.norms) if len(self.norms) >= NORM_LEAST else None
        self.norms.append(norm)
        if usual is None or norm <= NORM_FACTOR * usual:
            return None
        return f"the gradient norm is {norm:.3g}, {norm / usual:.0f} times its running median"


def require_finite(
    run: RunFolder,
    position: Position,
    *,
    loss: float,
    norms: Sequence[float],
    learning_rate: float,
    settle: Callable[[], None],
) -> None:
    """Raise DivergenceError unless the mean loss and the gradient norms of the last steps, one each, are numbers.

    settle: waits for the checkpoint that is being written.
    """
    bad = next((place for place, norm in enumerate(norms) if not math.isfinite(norm)), None)
    if bad is None and math.isfinite(loss):
        return
    step = position.step if bad is None else position.step - len(norms) + bad + 1
    norm = norms[-1 if bad is None else bad]
    settle()
    saved = run.latest()
    begin = f"start_from={run.best}" if run.best.is_dir() else "random weights"
    kept = "no checkpoint was written yet" if saved is None else f"{saved} is kept; --resume takes the same steps again"
    raise DivergenceError(
        f"training stopped: at step {step} the gradient norm was {norm:g} (mean training loss {loss:g}, learning rate "
        f"{learning_rate:.3g}). Start another run with learning_rate={learning_rate / 3:.1g} or lower, a longer "
        f"warmup_steps or a lower clip_norm, from {begin}; {kept}"
    )


def warn(found: Iterable[str], run: RunFolder, position: Position) -> None:
    """Tell what was found, with the remedy."""
    for text in found:
        logger.warning("step %d: %s; %s", position.step, text, REMEDY.format(best=run.best))
