"""A mixture of the model and components that follow it with factors: what it says of a choice, and what it learns.

It knows nothing of what the components stand for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crystallm.sample.decoding.loops import believed, mixed, together

Array = NDArray[np.float64]
Logs = NDArray[np.float32] | NDArray[np.float64]

TRUST = 0.5
"""The power of the model's own probability of what a component allows with which it tells components apart, in choices
in which texts are to differ (docs/decisions/0011)."""

NEGLIGIBLE = 1e-7
"""A component with a smaller share is left out of what follows."""


ROUNDING = 1e-12
"""A smaller share that is left is none."""


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

    def left(self, alone: Array, components: Mapping[int, float]) -> Array:
        """What is left of each token (C,) if this share (C,) of what the model alone makes of it is, and these shares
        of what components do, by number; all of the others."""
        gone = self.belief.shares[0] * self.alone * (1.0 - alone)
        if components:
            gone += (self.belief.shares[1:] * (1.0 - self.belief.left(components))) @ self.own
        share = 1.0 - np.divide(gone, self.together, out=np.zeros_like(gone), where=self.together > 0)
        return np.where(share > ROUNDING, share, 0.0)

    def after(self, place: int) -> Belief:
        """What is believed once a token has been taken."""
        shares, left = believed(self.belief.shares, self.alone, self.own, place, NEGLIGIBLE)
        return Belief(shares, self.belief.alive[left])


def mix(
    belief: Belief, log_C: Logs, factors: Array, *, trust: float = 0.0, left: Mapping[int, float] | None = None
) -> Mixture:
    """The mixture at a choice.

    log_C: the model's log-probabilities (C,) in any normalisation. factors: by what each component multiplies the
    probabilities, (L, C). trust: the power of the model's own probability of what a component allows with which it
    tells the components apart; 0 leaves them their shares. left: components, by number, that only with a part of their
    shares have a say in what is drawn.
    """
    shares, alone, own, mixture = mixed(belief.shares, log_C, factors, trust)
    if left:
        heard = together(shares * np.concatenate([[1.0], belief.left(left)]), alone, own)
        mixture = heard / heard.sum() if heard.any() else alone
    return Mixture(Belief(shares, belief.alive), alone, own, mixture)
