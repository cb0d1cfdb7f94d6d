"""The hull at one composition against a general solver of linear programs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from crystallm.base.compiling import compiled
from crystallm.energy.hull.mixture import atom_fractions, lowest_mixture, simplex


def test_half_way_between_two_phases() -> None:
    phases = atom_fractions(["Cu", "Au", "CuAu"], ["Cu", "Au"])
    assert phases.tolist() == [[1, 0], [0, 1], [0.5, 0.5]]
    assert lowest_mixture(phases, np.array([0.0, 0.0, -1.0]), np.array([0.75, 0.25])) == (-0.5, {0: 0.5, 2: 0.5})


@pytest.mark.parametrize("method", [simplex, compiled(simplex)])
def test_the_simplex_method_agrees_with_a_general_solver(method: Callable[..., Any]) -> None:
    """Degenerate compositions too: of the phases themselves, and where many energies are equal."""
    rng = np.random.default_rng(0)
    for elements in (1, 2, 3, 6):
        counts = np.vstack([np.eye(elements, dtype=int), rng.integers(0, 4, (200, elements))])
        counts = counts[counts.sum(axis=1) > 0]
        phases = counts / counts.sum(axis=1, keepdims=True)
        for energies in (rng.normal(size=len(phases)), np.round(rng.normal(size=len(phases))), np.ones(len(phases))):
            for target in [*phases[(counts > 0).all(axis=1)][:5], np.full(elements, 1 / elements)]:
                found = lowest_mixture(phases, energies, target, method=method)
                assert found is not None
                energy, parts = found
                assert energy == pytest.approx(linprog(energies, A_eq=phases.T, b_eq=target).fun, abs=1e-9)
                assert sum(weight * phases[row] for row, weight in parts.items()) == pytest.approx(target)


def test_no_mixture_without_the_pure_elements() -> None:
    assert lowest_mixture(np.array([[1.0, 0.0], [0.5, 0.5]]), np.zeros(2), np.array([0.6, 0.4])) is None
