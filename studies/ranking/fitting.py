"""Fitting and judging a ranking: a conditional logit by maximum likelihood, and how far its chances can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from crystallm.energy.ranking import Evidence, Ranking
from crystallm.energy.ranking.features import feature_table

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Case:
    """A formula with its candidates and those of them that are right; possibly none."""

    name: str
    evidence: Sequence[Evidence]
    right: Mask
    """(N,)"""
    parts: tuple[str, ...] = ()
    """Divisions of the cases to which it belongs."""

    @cached_property
    def table(self) -> Mapping[str, Array]:
        """All features of the candidates."""
        return feature_table(self.evidence)

    def scores(self, ranking: Ranking) -> Array:
        """What a ranking gives to the candidates (N,)."""
        return np.sum([weight * self.table[name] for name, weight in ranking.weights.items()], axis=0)


def fit(
    cases: Sequence[Case],
    features: Sequence[str],
    *,
    penalty: float = 1.0,
    with_none: bool = True,
    beside: Ranking | None = None,
) -> Ranking:
    """The weights of greatest likelihood, less `penalty` / 2 times the sum of their squares (features scaled to unit
    variance).

    Where several candidates are right, what counts is the sum of their chances. Without "none of these" (with_none
    False) cases where nothing is right say nothing. beside: a ranking whose weights are kept; others are fitted beside
    them.
    """
    used = [case for case in cases if len(case.evidence) and (with_none or case.right.any())]
    tables = [columns(case, features) for case in used]
    joined = np.concatenate(tables)
    spread = joined.std(axis=0)
    spread[spread < 1e-9] = np.inf  # what never varies says nothing
    rows = [table / spread for table in tables]
    given = [np.zeros(len(case.evidence)) if beside is None else case.scores(beside) for case in used]
    wanted = [np.append(case.right, not case.right.any()) for case in used]

    def loss(weights: Array) -> tuple[float, Array]:
        total = penalty / 2 * float(weights[:-1] @ weights[:-1])
        slope = penalty * weights
        slope[-1] = 0.0
        for row, start, right in zip(rows, given, wanted, strict=True):
            scores = np.append(start + row @ weights[:-1], weights[-1] if with_none else -np.inf)
            shares = np.exp(scores - scores.max())
            shares /= shares.sum()
            share = float(shares[right].sum())
            total -= np.log(max(share, 1e-300))
            pull = np.where(right, shares / max(share, 1e-300), 0.0) - shares
            slope[:-1] -= row.T @ pull[:-1]
            slope[-1] -= pull[-1]
        return total, slope

    found = minimize(loss, np.zeros(len(features) + 1), jac=True, method="L-BFGS-B").x
    weights = found[:-1] / spread
    named = {name: round(float(weight), 4) for name, weight in zip(features, weights, strict=True)}
    named |= {} if beside is None else dict(beside.weights)
    return Ranking(named, round(float(found[-1]), 4) if with_none else -np.inf)


def columns(case: Case, features: Sequence[str]) -> Array:
    """Features (N, F) of the candidates of a case."""
    return np.stack([case.table[name] for name in features], axis=1)


@dataclass(frozen=True)
class Calibration:
    """How far chances can be trusted, over all candidates.

    error: mean over `bins` of |mean chance - share that is right|, weighted by their candidates (expected calibration
    error, Naeini et al., AAAI 2015). brier: mean of (chance - right)^2 (Brier 1950). bins: mean chance, share that is
    right, candidates.
    """

    error: float
    brier: float
    bins: Sequence[tuple[float, float, int]]


def calibration(chances: Array, right: Mask, *, bins: int = 10) -> Calibration:
    """Of chances (N,) and verdicts (N,), in bins of equal mass."""
    order = np.argsort(chances, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    table = [(float(chances[part].mean()), float(right[part].mean()), len(part)) for part in parts]
    error = sum(count * abs(chance - share) for chance, share, count in table) / max(len(chances), 1)
    return Calibration(error, float(((chances - right) ** 2).mean()), table)


def firsts(ranking: Ranking, cases: Sequence[Case], top: int = 1) -> list[bool]:
    """Whether one of the best `top` candidates of each case is right."""
    found = []
    for case in cases:
        order = np.argsort(-case.scores(ranking), kind="stable")[:top]
        found.append(bool(case.right[order].any()))
    return found


def folds(names: Sequence[str], number: int, *, seed: int) -> list[int]:
    """Which of `number` parts each name belongs to; equal names belong together."""
    unique = sorted(set(names))
    order = np.random.default_rng(seed).permutation(len(unique))
    part = {unique[place]: int(rank % number) for rank, place in enumerate(order)}
    return [part[name] for name in names]


def nearest(verdicts: Sequence[Any]) -> Mask:
    """Of candidates that match the target the one of least displacement, alone: only one of several is the structure,
    and the benchmark's tolerances let half of the small structures match more than one of their draws."""
    rms = np.array([np.inf if verdict is None or verdict[0] is None else verdict[0] for verdict in verdicts])
    right = np.zeros(len(rms), dtype=bool)
    if np.isfinite(rms).any():
        right[int(np.argmin(rms))] = True
    return right


def told(hits: Sequence[bool] | int, total: int) -> str:
    """A rate with its denominator."""
    count = hits if isinstance(hits, int) else sum(hits)
    return f"{count}/{total} ({100 * count / max(total, 1):.1f} %)"
