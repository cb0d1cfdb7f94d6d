"""How far elements are from each other when one takes the other's place in a known crystal.

Every element is a point; the distance of two formulas of one kind (Mg2SiO4 and Fe2SiO4) is the mean over their elements
of the distance between the points, and a known crystal counts with weight exp(-distance). The points were fitted so
that among the training crystals the weights find the prototype of each from those of other formulas (neighbourhood
components analysis: Goldberger, Roweis, Hinton and Salakhutdinov, NIPS 2004). `python -m studies.tables.fit_similarity`
makes them again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, groupby, permutations, product
from math import factorial, prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.formulas.composition import Amounts, element_order

FILE = Path(__file__).parent / "similarity.json"

N_ELEMENTS = 119
"""Rows of what is kept by atomic number."""

Kind = tuple[int, ...]
"""The amounts of a reduced formula in ascending order: (1, 2) for TiO2. Elements are listed in the same order."""


def kind_of(amounts: Amounts) -> tuple[Kind, tuple[str, ...]]:
    """The kind of a formula and its elements in that order; those of equal amount in order of electronegativity."""
    ordered = sorted(amounts, key=lambda pair: (pair[1], element_order(pair[0])))
    return tuple(amount for _, amount in ordered), tuple(symbol for symbol, _ in ordered)


MOST_EXCHANGES = 120
"""Those of five elements of equal amount."""


@cache
def exchanges(kind: Kind) -> tuple[tuple[int, ...], ...]:
    """All ways to give the elements of one formula the places of another of this kind: for each of its elements, the
    place whose part it plays. Only elements of equal amount can change places; where more than MOST_EXCHANGES ways
    are left, each keeps its place in the order of electronegativity."""
    groups = [[place for place, _ in group] for _, group in groupby(enumerate(kind), key=lambda pair: pair[1])]
    if prod(factorial(len(group)) for group in groups) > MOST_EXCHANGES:
        return (tuple(range(len(kind))),)
    return tuple(tuple(chain(*parts)) for parts in product(*(permutations(group) for group in groups)))


@dataclass(frozen=True, eq=False)
class Similarity:
    """Points of the elements, row = atomic number, and what else was fitted with them."""

    points: NDArray[np.float64]
    """(119, D)"""
    amount_power: float
    """An element counts in proportion to this power of its share of the atoms."""
    volumes: NDArray[np.float64]
    """Volume in cubic angstrom (119,) that an atom takes on average: how a cell grows when its elements change."""

    def distances(self, kind: Kind, elements: Sequence[int], others: NDArray[np.integer]) -> NDArray[np.float64]:
        """Distances (N, P) of a formula from N others (N, K) of its kind, for each of the P `exchanges` of the kind.

        elements: atomic numbers in the order of the kind.
        """
        shares = (np.array(kind, dtype=float) / sum(kind)) ** self.amount_power
        shares *= np.sqrt(len(kind)) / shares.sum()
        squares = ((self.points[list(elements)][:, None] - self.points[None]) ** 2).sum(-1)
        table = np.sqrt(squares + SOFT)  # (K, 119): from each element to every other
        orders = np.array(exchanges(kind))  # (P, K)
        total = np.zeros((len(others), len(orders)))
        for place, share in enumerate(shares):
            total += share * table[place][others[:, orders[:, place]]]
        return total


SOFT = 1e-3
"""Keeps the distance smooth where two points meet."""


@cache
def load_similarity() -> Similarity:
    """The points that come with the package."""
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    return Similarity(
        np.array(stored["points"], dtype=float), float(stored["amount_power"]), np.array(stored["volumes"], dtype=float)
    )
