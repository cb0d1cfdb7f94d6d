"""A mixture of the model and components that follow it with factors: what it says of a choice, and what it learns.

It knows nothing of what the components stand for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TRUST = 0.5
"""The power of the model's own probability of what a component allows with which it tells components apart, in choices
in which texts are to differ (docs/decisions/0011)."""

NEGLIGIBLE = 1e-7
"""A component with a smaller share is left out of what follows."""


@dataclass(frozen=True, eq=False)
class Belief:
    """Shares (1 + L,) of the model alone and of the components `alive` (L,) of M."""

    shares: Array
    alive: NDArray[np.int64]

    @classmethod
    def of(cls, shares: Array) -> Belief:
        """All components, with shares (1 + M,)."""
        return cls(shares, np.arange(len(shares) - 1))

    def left(self, components: Mapping[int, float]) -> Array:
        """What is left of each component (L,), where for some, by number, it is not all."""
        return np.array([components.get(component, 1.0) for component in self.alive.tolist()])


@dataclass(frozen=True, eq=False)
class Mixture:
    """What a belief says of a choice of C tokens."""

    belief: Belief
    alone: Array
    """The model's probabilities (C,)."""
    own: Array
    """Those of each component (L, C); zero for one that has nothing to say."""
    together: Array
    """Those of the mixture (C,), without components that are used up."""

    @property
    def log_probabilities(self) -> Array:
        """Natural logarithms (C,) of those of the mixture."""
        with np.errstate(divide="ignore"):
            return np.log(self.together)

    def left(self, alone: Array, components: Mapping[int, float]) -> Array:
        """What is left of each token (C,) if this share (C,) of what the model alone makes of it is, and these shares
        of what components do, by number; all of the others."""
        gone = self.belief.shares[0] * self.alone * (1.0 - alone)
        if components:
            gone += (self.belief.shares[1:] * (1.0 - self.belief.left(components))) @ self.own
        return np.asarray(1.0 - np.divide(gone, self.together, out=np.zeros_like(gone), where=self.together > 0))

    def after(self, place: int) -> Belief:
        """What is believed once a token has been taken."""
        shares = self.belief.shares * np.concatenate([self.alone[place : place + 1], self.own[:, place]])
        shares /= shares.sum()
        alive = shares[1:] > NEGLIGIBLE
        return Belief(np.concatenate([shares[:1], shares[1:][alive]]), self.belief.alive[alive])


def mix(
    belief: Belief, log_C: Array, factors: Array, *, trust: float = 0.0, left: Mapping[int, float] | None = None
) -> Mixture:
    """The mixture at a choice.

    log_C: the model's log-probabilities (C,) in any normalisation. factors: by what each component multiplies the
    probabilities, (L, C). trust: the power of the model's own probability of what a component allows with which it
    tells the components apart; 0 leaves them their shares. left: components, by number, that only with a part of their
    shares have a say in what is drawn.
    """
    alone = np.exp(log_C - log_C.max())
    alone /= alone.sum()
    own = factors * alone
    totals = own.sum(axis=1)
    speaks = totals > 0
    own[speaks] /= totals[speaks, None]
    own[~speaks] = 0.0
    shares = belief.shares.copy()
    theirs = shares[1:].sum()
    shares[1:] *= np.where(speaks, totals, 0.0) ** trust if trust else speaks
    if (rest := shares[1:].sum()) > 0:
        shares[1:] *= theirs / rest
    else:
        shares[0] = 1.0
    together = shares[0] * alone + shares[1:] @ own
    if left:
        heard = shares[0] * alone + (shares[1:] * belief.left(left)) @ own
        together = heard / heard.sum() if heard.any() else alone
    return Mixture(replace(belief, shares=shares), alone, own, together)
