"""Spreading the draws of a formula over its most probable space groups or numbers of formula units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crystallm.base.errors import ConfigError
from crystallm.sample.config import SampleConfig, Spread, parse_spread
from crystallm.sample.grammar.possible import Prompt

__all__ = ["Searched", "Spread", "Symmetries", "check_search", "in_turn", "parse_spread"]


def check_search(prompt: Prompt, config: SampleConfig) -> None:
    """Raise ConfigError if the settings ask to spread draws where there is nothing to spread over."""
    option = "--space-groups" if config.space_groups else "--units" if config.units else None
    if option is not None and prompt.amounts is None:
        raise ConfigError(f"{option} spreads the draws of a formula, and none is given; give one or leave {option} out")


@dataclass(frozen=True)
class Searched:
    """What a draw was told to be: `kind` is `space_group` or `formula_units`."""

    kind: str
    value: int
    probability: float
    """Of the value among all that can hold the formula, by the model."""


@dataclass(frozen=True)
class Symmetries:
    """What the model says of formula units and space group of a formula, before temperature and masks."""

    units: list[int]
    """The C numbers of formula units of the primitive cell that are possible."""
    log_units: NDArray[np.float64]
    """Natural log-probability of each (C,)."""
    log_groups: NDArray[np.float64]
    """Natural log-probability of each space group, given the formula units (C, 230)."""
    possible: NDArray[np.bool_]
    """Whether the group can hold the formula (C, 230)."""

    @property
    def joint(self) -> NDArray[np.float64]:
        """Probability of formula units and space group together, over what is possible (C, 230)."""
        log = np.where(self.possible, self.log_units[:, None] + self.log_groups, -np.inf)
        weights: NDArray[np.float64] = np.exp(log - log.max())
        return weights / float(weights.sum())

    def most_probable(self, kind: str, top: int) -> tuple[list[int], list[float]]:
        """The values of a kind that are most probable, and how probable they are."""
        shares = self.joint.sum(axis=0 if kind == "space_group" else 1)
        names = range(1, 231) if kind == "space_group" else self.units
        order = [int(i) for i in np.argsort(-shares, kind="stable")[:top] if shares[i] > 0]
        return [names[i] for i in order], [float(shares[i]) for i in order]

    def units_given(self, group: int) -> NDArray[np.float64]:
        """Log-probability of the formula units, given the space group (C,), by Bayes' rule."""
        log = np.where(self.possible[:, group - 1], self.log_units + self.log_groups[:, group - 1], -np.inf)
        return log - float(np.logaddexp.reduce(log))


def in_turn(shares: Sequence[float], *, evenly: bool) -> Iterator[int]:
    """Places in `shares`, without end: after any number of draws each has had its share, to within one draw.

    A larger number of draws begins with the same ones, so that a run can be continued.
    """
    wanted = np.full(len(shares), 1.0) if evenly else np.asarray(shares, dtype=float)
    wanted = wanted / wanted.sum()
    had = np.zeros(len(wanted))
    while True:
        place = int(np.argmax(wanted * (had.sum() + 1) - had))
        had[place] += 1
        yield place
