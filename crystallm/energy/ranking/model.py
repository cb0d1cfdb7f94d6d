"""A fitted ranking: candidates of a formula against each other and against "none of these".

The chance of candidate i is exp(s_i) / (exp(s_0) + sum_j exp(s_j)): a conditional logit (McFadden 1974) whose scores s
are weighted sums of features, with an alternative s_0 that stands for a structure that is not among the candidates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crystallm.base.errors import InputError
from crystallm.energy.ranking.evidence import Evidence, Question
from crystallm.energy.ranking.features import FEATURES, feature_table

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Ranking:
    """Weights of features by name.

    none: the score of "none of these".
    """

    weights: Mapping[str, float]
    none: float

    def scores(self, evidence: Sequence[Evidence]) -> NDArray[np.float64]:
        """Score (N,) of each of N candidates, without unit."""
        table = feature_table(evidence)
        total = np.zeros(len(evidence))
        for name, weight in self.weights.items():
            total += weight * table[name]
        return total

    def probabilities(self, evidence: Sequence[Evidence]) -> list[float]:
        """Chance of each candidate, 0 to 1; what is left of 1 is that of none of them."""
        scores = np.append(self.scores(evidence), self.none)
        shares = np.exp(scores - scores.max())
        return [float(share) for share in shares[:-1] / shares.sum()]


def probabilities(
    evidence: Sequence[Evidence], question: Question = Question.NATURE, *, ranking: Ranking | None = None
) -> list[float]:
    """Chance of each candidate of one formula to be the structure.

    Args:
        evidence: What is known of each of N different candidates.
        question: What is asked: a row of a database, or the phase of ambient conditions.
        ranking: Weights; those that come with the package if None.

    Returns:
        N numbers from 0 to 1 that sum to at most 1; the rest is the chance that it is none of them.

    Raises:
        InputError: A file of weights cannot be used.

    Example:
        >>> one = Evidence(space_group=225, formula_units=1, n_sites=2, n_orbits=2, n_free=1, known=True, observed=True)
        >>> other = Evidence(space_group=221, formula_units=1, n_sites=2, n_orbits=2, n_free=1, known=True)
        >>> first, second = probabilities([one, other])
        >>> first > second
        True
    """
    return (ranking or load_ranking(question, with_energies=_have_energies(evidence))).probabilities(evidence)


def _have_energies(evidence: Sequence[Evidence]) -> bool:
    return any(one.energy is not None or one.relaxed_energy is not None for one in evidence)


@cache
def load_ranking(question: Question, *, with_energies: bool = False) -> Ranking:
    """The weights that come with the package; for rows of databases others where energies are known."""
    energies = "_energies" if with_energies and question is Question.DATABASE else ""
    return read_ranking(FOLDER / f"{question}{energies}.json")


def read_ranking(path: Path) -> Ranking:
    """Weights from a JSON file with `weights` (feature -> number) and `none`; InputError naming what is wrong."""
    try:
        stored: Any = json.loads(path.read_text(encoding="utf-8"))
        weights, none = {str(name): float(weight) for name, weight in stored["weights"].items()}, float(stored["none"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no ranking ({error!r}); install the package again") from error
    unknown = sorted(set(weights) - set(FEATURES))
    if unknown:
        raise InputError(f"{path} has a weight for {unknown[0]!r}; features are {', '.join(FEATURES)}")
    return Ranking(weights, none)
