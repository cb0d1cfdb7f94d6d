"""Fits the volumes that crystals take: `python -m studies.tables.fit_volumes CORPUS [CORPUS ...] OUT.json`.

Of the general corpus those rows are taken that were observed, lie near the hull where that is known, and are not held
out for any benchmark (`suggested_split`). Volumes: least squares of relative errors with the weights of a Cauchy
distribution, the elements of each chemistry drawn towards what they take in all crystals. Limits: quantile regression
on the logarithm of the volume over the expected one, the parts of the elements drawn towards 0.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.optimize import minimize

from crystallm.base.provenance import write_text
from crystallm.crystal.formulas.composition import Amounts, element_order, parse_formula
from crystallm.crystal.formulas.element_similarity import N_ELEMENTS
from crystallm.crystal.volumes import CHEMISTRIES, OTHER, chemistry_of

Array = NDArray[np.float64]

SPREAD = 0.15
"""Of the logarithms of volumes: errors much larger count little in the fit of the volumes."""

PULL = 0.03
"""Of the volume of an element in a chemistry towards the one in all crystals: as much as that many crystals of nothing
else."""

PULL_OF_LIMITS = 1.0
"""Of the parts of the elements in the limits towards 0, as a number of crystals beyond them."""

QUANTILE = 0.001
"""Of observed crystals at most, beyond either limit."""

MARGIN_LOW, MARGIN_HIGH = 0.15, 0.05
"""Of the logarithms, added to the limits: crystals that were not fitted stray further, dense ones the more."""

HIGHEST_EV = 0.2
"""Above the hull, eV/atom: rows of higher energy have lost atoms, or are hypothetical though marked as observed."""

FEWEST = 5
"""Crystals that an element must be in, or nothing is known of it."""

COLUMNS = ["reduced_formula", "volume_per_atom", "experimentally_observed", "suggested_split", "e_above_hull"]


@dataclass(frozen=True, eq=False)
class Crystals:
    """What is fitted to: shares (N, 119) of the elements, volumes (N,) per atom, chemistries (N,)."""

    shares: Array
    volumes: Array
    chemistries: NDArray[np.str_]

    def where(self, which: NDArray[np.bool_]) -> Crystals:
        """Some of the crystals."""
        return Crystals(self.shares[which], self.volumes[which], self.chemistries[which])


def read_crystals(sources: Sequence[Path]) -> Crystals:
    """Observed crystals of corpus files that are not held out."""
    formulas: list[str] = []
    volumes: list[float] = []
    for source in sources:
        table = pq.read_table(source, columns=COLUMNS).to_pydict()
        for formula, volume, observed, split, above in zip(*(table[name] for name in COLUMNS), strict=True):
            if observed and split == "train" and (above or 0.0) <= HIGHEST_EV:
                formulas.append(formula)
                volumes.append(volume)
    amounts = [parse_formula(formula) for formula in formulas]
    return Crystals(
        np.array([_shares(one) for one in amounts]),
        np.array(volumes, dtype=float),
        np.array([chemistry_of(one) for one in amounts]),
    )


def _shares(amounts: Amounts) -> Array:
    shares = np.zeros(N_ELEMENTS)
    for symbol, amount in amounts:
        shares[element_order(symbol)[1]] = amount
    return np.asarray(shares / shares.sum())


def fit_volumes(crystals: Crystals) -> dict[str, Array]:
    """The volume of an atom of each element by chemistry; NaN for elements that few crystals have."""
    everywhere = _fit(crystals.shares, crystals.volumes, np.full(N_ELEMENTS, 15.0), 1e-3)
    everywhere[(crystals.shares > 0).sum(axis=0) < FEWEST] = np.nan
    prior = np.nan_to_num(everywhere, nan=15.0)
    found = {}
    for name in (*CHEMISTRIES, OTHER):
        own = crystals.chemistries == name
        found[name] = _fit(crystals.shares[own], crystals.volumes[own], prior, PULL)
        found[name][np.isnan(everywhere)] = np.nan
    return found


def _fit(shares: Array, volumes: Array, prior: Array, pull: float) -> Array:
    found, weights = prior, np.ones(len(volumes))
    relative = shares / volumes[:, None]
    for _ in range(20):
        weighted = relative * weights[:, None]
        matrix = weighted.T @ relative + np.diag(pull / prior**2)
        found = np.linalg.solve(matrix, weighted.sum(axis=0) + pull / prior)
        errors = np.log(np.maximum(shares @ found, 0.1) / volumes)
        weights = 1 / (1 + (errors / SPREAD) ** 2)
    return found


def fit_limits(crystals: Crystals, errors: Array, margin: float) -> tuple[dict[str, float], Array]:
    """How far errors (N,), logarithms, go at most: a part for each chemistry, and one (119,) for each element."""
    names = (*CHEMISTRIES, OTHER)
    features = np.hstack([(crystals.chemistries[:, None] == np.array(names)).astype(float), crystals.shares])
    smooth = 0.01

    def loss(parts: Array) -> tuple[float, Array]:
        over = errors - features @ parts
        # (1 - q) x above the limit and q (-x) below, the corner rounded.
        soft = np.logaddexp(0, over / smooth) * smooth
        slope = 1 / (1 + np.exp(-np.clip(over / smooth, -50, 50)))
        pull = PULL_OF_LIMITS * np.concatenate([np.zeros(len(names)), parts[len(names) :]])
        value = (soft - QUANTILE * over).sum() + pull @ parts / 2
        return float(value), features.T @ (QUANTILE - slope) + pull

    start = np.concatenate([np.full(len(names), 0.3), np.zeros(N_ELEMENTS)])
    parts = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 20000, "maxfun": 40000}).x
    by_chemistry = {name: float(part) + margin for name, part in zip(names, parts, strict=False)}
    return by_chemistry, np.asarray(parts[len(names) :])


def expected(crystals: Crystals, volumes: dict[str, Array]) -> Array:
    """Volumes per atom (N,) that compositions say."""
    by_row = np.stack([np.nan_to_num(volumes[name]) for name in crystals.chemistries])
    return np.asarray((crystals.shares * by_row).sum(axis=1))


def main(argv: list[str] | None = None) -> None:
    """Fit and write."""
    parser = argparse.ArgumentParser(prog="python -m studies.tables.fit_volumes", description=__doc__)
    parser.add_argument("corpus", nargs="+", type=Path, metavar="CORPUS", help="parquet files of the general corpus")
    parser.add_argument("out", type=Path, metavar="OUT")
    options = parser.parse_args(argv)
    crystals = read_crystals(options.corpus)
    volumes = fit_volumes(crystals)
    known = np.isfinite(volumes[OTHER])
    crystals = crystals.where(np.asarray(~(crystals.shares[:, ~known] > 0).any(axis=1)))
    errors = np.log(crystals.volumes / expected(crystals, volumes))
    low, low_of = fit_limits(crystals, -errors, MARGIN_LOW)
    high, high_of = fit_limits(crystals, errors, MARGIN_HIGH)
    stored = {
        "volumes": {name: _listed(values, 2) for name, values in volumes.items()},
        "low": {name: round(value, 3) for name, value in low.items()},
        "high": {name: round(value, 3) for name, value in high.items()},
        "low_of_element": _listed(low_of, 3),
        "high_of_element": _listed(high_of, 3),
    }
    write_text(options.out, json.dumps(stored) + "\n")
    print(f"{len(errors):,} crystals, median |log volume / expected| {np.median(np.abs(errors)):.4f}")


def _listed(values: Array, digits: int) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), digits) for value in values]


if __name__ == "__main__":
    main(sys.argv[1:])
