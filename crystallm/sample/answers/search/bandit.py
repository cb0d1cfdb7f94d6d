"""Which move comes next: those that gained more for what they cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FLOOR = 0.3
"""Share of the choices that is spread evenly over all moves."""

FIRST_GAIN = 0.3
"""What a move is taken to have gained before anything is known, at the cost of a mean trial."""


class Bandit:
    """Keeps what each move has gained and cost; the same history gives the same choices.

    Example:
        >>> bandit = Bandit(["displace", "redraw"])
        >>> bandit.tell("displace", gain=1.0, cost=30)
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.gains = dict.fromkeys(self.names, 0.0)
        self.costs = dict.fromkeys(self.names, 0.0)
        self.trials = dict.fromkeys(self.names, 0)

    def tell(self, name: str, *, gain: float, cost: float) -> None:
        """Note what a trial has gained, and cost in any unit."""
        if name in self.gains:
            self.gains[name] += gain
            self.costs[name] += cost
            self.trials[name] += 1

    @property
    def chances(self) -> dict[str, float]:
        """How probable each move is."""
        mean = sum(self.costs.values()) / max(sum(self.trials.values()), 1) or 1.0
        rates = {name: (FIRST_GAIN + self.gains[name]) / (1.0 + self.costs[name] / mean) for name in self.names}
        total = sum(rates.values())
        return {name: FLOOR / len(rates) + (1 - FLOOR) * rate / total for name, rate in rates.items()}

    def choose(self, rng: np.random.Generator) -> str:
        """A move by chance."""
        chances = self.chances
        return self.names[int(rng.choice(len(self.names), p=np.array(list(chances.values())) / sum(chances.values())))]
