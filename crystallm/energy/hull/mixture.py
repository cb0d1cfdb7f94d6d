"""The mixture of phases with the lowest energy at one composition: a convex hull where it is needed, and only there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_FRACTION = 1e-9
"""Fractions of a mixture below this are rounding, not a phase."""

TOLERANCE_EV = 1e-9
"""A phase that lowers a mixture by less does not enter it."""

LARGEST_GAIN_STEPS = 100
"""Steps of the simplex method that take the phase of the largest gain; most hulls take 5 to 20."""


def lowest_mixture(
    compositions: NDArray[np.float64],
    energies: NDArray[np.float64],
    target: NDArray[np.float64],
    *,
    method: Callable[..., Any] | None = None,
) -> tuple[float, dict[int, float]] | None:
    """The mixture of phases with the lowest energy at one composition: the convex hull there.

    Minimises sum(w e) over w >= 0 with sum(w x) = target by the simplex method, which starts from the pure elements. A
    general solver gives the same (tests), but importing one takes longer than a thousand of these.

    Args:
        compositions: (N, E) atomic fractions of E elements in N phases; rows add up to 1.
        energies: (N,) eV per atom.
        target: (E,) atomic fractions, all above 0.
        method: `simplex`, or the same compiled, which pays for thousands of mixtures.

    Returns:
        Energy of the mixture in eV per atom and {row of a phase: fraction of the atoms}; None where an element has no
        phase of its own.

    Example:
        Half way between A (0 eV) and AB (-1 eV) the hull lies at -0.5 eV per atom.

        >>> phases = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
        >>> lowest_mixture(phases, np.array([0.0, 0.0, -1.0]), np.array([0.75, 0.25]))
        (-0.5, {0: 0.5, 2: 0.5})
    """
    pure = np.where(compositions == 1.0, energies[:, None], np.inf)
    if not np.isfinite(pure.min(axis=0, initial=np.inf)).all():
        return None
    basis = pure.argmin(axis=0)
    basis, weights = (method or simplex)(compositions, energies, target, basis)
    parts = {int(row): float(weight) for row, weight in zip(basis, weights, strict=True) if weight > LEAST_FRACTION}
    return float(sum(fraction * energies[row] for row, fraction in parts.items())), parts


def simplex(
    compositions: NDArray[np.float64],
    energies: NDArray[np.float64],
    target: NDArray[np.float64],
    basis: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Phases (E,) of the lowest mixture and their fractions (E,), from those of the pure elements `basis`.

    Written so that numba compiles it, too.
    """
    weights = target.copy()
    step = 0
    while True:
        phases = compositions[basis]
        potentials = np.linalg.solve(phases, energies[basis])  # chemical potentials of the elements
        gain = compositions @ potentials - energies
        # Bland's choice, the first that gains, cannot go in circles; the largest gain is faster and seldom does.
        enters = np.argmax(gain) if step < LARGEST_GAIN_STEPS else np.argmax(gain > TOLERANCE_EV)
        if gain[enters] <= TOLERANCE_EV:
            return basis, weights
        uses = np.linalg.solve(phases.T, compositions[enters])
        leaves, limit = -1, np.inf
        for place in range(len(basis)):
            if uses[place] > LEAST_FRACTION:
                most = weights[place] / uses[place]
                if most < limit or (most == limit and basis[place] < basis[leaves]):
                    leaves, limit = place, most
        basis[leaves] = enters
        weights = np.maximum(np.linalg.solve(compositions[basis].T, target), 0.0)
        step += 1


def atom_fractions(formulas: Iterable[str], symbols: list[str]) -> NDArray[np.float64]:
    """Atomic fractions (N, E) of the elements `symbols` in formulas written by `format_formula`."""
    return np.array(
        [
            fractions_of({symbol: int(number or 1) for symbol, number in _PART.findall(text)}, symbols)
            for text in formulas
        ]
    ).reshape(-1, len(symbols))


_PART = re.compile(r"([A-Z][a-z]?)(\d*)")


def fractions_of(counts: Mapping[str, int], symbols: list[str]) -> NDArray[np.float64]:
    """Atomic fractions (E,) of the elements `symbols` from counts."""
    values = np.array([counts.get(symbol, 0) for symbol in symbols], dtype=np.float64)
    return np.asarray(values / values.sum())
