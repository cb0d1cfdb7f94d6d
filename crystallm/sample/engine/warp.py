"""The distribution that a token is drawn from: the model's, after temperature, top-k and top-p."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crystallm.sample.decoding.loops import sharpened, softmax, softmax_of
from crystallm.sample.engine.mixture import Logs
from crystallm.sample.engine.without_replacement import pick


@dataclass(frozen=True, kw_only=True)
class Warp:
    """How the model's distribution over the allowed tokens is changed before a token is drawn."""

    temperature: float = 1.0
    top_k: int = 0
    """Keep the k most probable tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the most probable tokens that together hold this share."""


def stream_of(*words: int) -> np.random.Generator:
    """The random stream of a draw, settled by some numbers. A last word of 0 is the same as none."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


def draw(logs: Logs, random: np.random.Generator, warp: Warp) -> int:
    """Index drawn from log-probabilities (C,), in any normalisation, after temperature, top-k and top-p."""
    return pick(chances(logs, warp), random)


def chances(logs: Logs, warp: Warp) -> NDArray[np.float64]:
    """Probabilities (C,) of log-probabilities (C,), in any normalisation, after temperature, top-k and top-p."""
    return _among_the_likeliest(softmax(logs, warp.temperature), warp)


def chances_of(tokens: NDArray[np.int64], logs: Logs, warp: Warp) -> NDArray[np.float64]:
    """The same (C,) of some tokens (C,), from the log-probabilities (V,) of all."""
    return _among_the_likeliest(softmax_of(tokens, logs, warp.temperature), warp)


def chances_again(probabilities: NDArray[np.float64], warp: Warp) -> NDArray[np.float64]:
    """The same (C,) of probabilities (C,)."""
    return _among_the_likeliest(sharpened(probabilities, warp.temperature), warp)


def _among_the_likeliest(weights: NDArray[np.float64], warp: Warp) -> NDArray[np.float64]:
    if not warp.top_k and warp.top_p >= 1.0:
        return weights
    if warp.top_k and warp.top_k < len(weights):
        weights[weights < np.partition(weights, -warp.top_k)[-warp.top_k]] = 0.0
    if warp.top_p < 1.0:
        order = np.argsort(-weights, kind="stable")
        share = np.cumsum(weights[order]) / weights.sum()
        weights[order[1:][share[:-1] >= warp.top_p]] = 0.0
    return np.asarray(weights / weights.sum())
