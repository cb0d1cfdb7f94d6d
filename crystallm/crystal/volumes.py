"""The volume that a crystal of some composition takes, and which volumes would be strange.

An atom takes a different volume in different company: a metal less in its oxide than in its alloys. So the volumes of
the elements are fitted for each chemistry apart, a chemistry being named by the most electronegative element that is a
fifth of the atoms or more. How far crystals stray from the sum (zeolites, ices, molecules, graphite and diamond) hangs
on the elements, too: the limits are quantiles, fitted by quantile regression (Koenker and Bassett, Econometrica 46, 33
(1978)). `python -m studies.tables.fit_volumes` makes them again; docs/explanation/crystal.md has what they are worth.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.cell import volume_of
from crystallm.crystal.description import Description
from crystallm.crystal.formulas.composition import Amounts, element_order
from crystallm.crystal.wyckoff import space_group

FILE = Path(__file__).parent / "volumes.json"

LEAST_SHARE = 0.2
"""Of the atoms; an element with less does not name the chemistry."""

CHEMISTRIES = {
    "fluoride": ("F",),
    "oxide": ("O",),
    "halide": ("Cl", "Br", "I"),
    "nitride": ("N",),
    "chalcogenide": ("S", "Se", "Te"),
    "hydride": ("H",),
    "pnictide": ("P", "As"),
}
"""By the elements that name them."""

OTHER = "alloy"
"""Everything else: metals, carbides, borides, silicides."""

RANKING = ("F", "O", "Cl", "N", "Br", "I", "S", "Se", "Te", "H", "P", "As")
"""The elements that name chemistries; of two that are there the first does."""


def chemistry_of(amounts: Amounts) -> str:
    """The name of the chemistry of a formula.

    Example:
        >>> chemistry_of((("Al", 2), ("O", 3))), chemistry_of((("Fe", 3), ("C", 1)))
        ('oxide', 'alloy')
    """
    total = sum(amount for _, amount in amounts)
    there = {symbol for symbol, amount in amounts if amount >= LEAST_SHARE * total}
    named = next((symbol for symbol in RANKING if symbol in there), None)
    return next((name for name, symbols in CHEMISTRIES.items() if named in symbols), OTHER)


ALLOTROPES = frozenset(["H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Ge", "As", "Se", "Br", "Sb", "Te", "I"])
"""Elements that form molecules, cages and layers when they are alone."""

FURTHER_ALLOTROPES, FURTHER_METALS, FURTHER_FRAMEWORKS = 0.35, 0.15, 0.2
"""Natural logarithms by which limits are wider. Of elements alone, both limits: diamond, graphite and C60 have 1.0, 1.5
and 2.5 times the volume expected of carbon. Of frameworks, the upper: faujasite has 1.95 times that of SiO2."""

FRAMEWORK = frozenset(["Si", "Ge", "Al", "Ga", "B", "P"])
"""Elements that stand in the tetrahedra of frameworks TO2, such as zeolites."""


def _further(amounts: Amounts) -> tuple[float, float]:
    """By how much the limits of a composition are wider, the lower and the upper."""
    symbols = {symbol for symbol, _ in amounts}
    if len(symbols) == 1:
        further = FURTHER_ALLOTROPES if symbols <= ALLOTROPES else FURTHER_METALS
        return further, further
    others = sum(amount for symbol, amount in amounts if symbol in FRAMEWORK)
    oxygen = sum(amount for symbol, amount in amounts if symbol == "O")
    is_framework = oxygen == 2 * others and symbols <= FRAMEWORK | {"O"}
    return 0.0, FURTHER_FRAMEWORKS if is_framework else 0.0


@dataclass(frozen=True)
class ExpectedVolume:
    """What a composition says of the volume of a crystal."""

    per_atom: float
    """Cubic angstrom."""
    low: float
    high: float
    """Least and largest part of it that a crystal may take."""

    def allows(self, volume_per_atom: float) -> bool:
        """Whether a crystal may take this volume, in cubic angstrom per atom."""
        return self.low <= volume_per_atom / self.per_atom <= self.high


@dataclass(frozen=True, eq=False)
class Volumes:
    """What was fitted, by chemistry; arrays (119,) by atomic number, NaN where nothing is known of an element."""

    volumes: Mapping[str, NDArray[np.float64]]
    """Cubic angstrom that an atom takes."""
    low: Mapping[str, float]
    high: Mapping[str, float]
    """Natural logarithms of the largest part of the sum less, and more, that a crystal takes, for each chemistry."""
    low_of_element: NDArray[np.float64]
    high_of_element: NDArray[np.float64]
    """What is added to it, times the share of the atoms."""

    def expected(self, amounts: Amounts) -> ExpectedVolume | None:
        """The volume of a crystal of some composition; None where an element is not known.

        Args:
            amounts: Elements with their numbers of atoms, of a formula or of a cell.

        Example:
            >>> round(load_volumes().expected((("Na", 1), ("Cl", 1))).per_atom)
            24
        """
        chemistry = chemistry_of(amounts)
        numbers = [element_order(symbol)[1] for symbol, _ in amounts]
        shares = np.array([amount for _, amount in amounts], dtype=float)
        shares /= shares.sum()
        per_atom = float(shares @ self.volumes[chemistry][numbers])
        if not np.isfinite(per_atom):
            return None
        less, more = _further(amounts)
        low = self.low[chemistry] + float(shares @ self.low_of_element[numbers]) + less
        high = self.high[chemistry] + float(shares @ self.high_of_element[numbers]) + more
        return ExpectedVolume(per_atom, float(np.exp(-low)), float(np.exp(high)))


@cache
def load_volumes() -> Volumes:
    """The volumes that come with the package."""
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    volumes = {name: np.array(values, dtype=float) for name, values in stored["volumes"].items()}
    low_of, high_of = (np.array(stored[f"{end}_of_element"], dtype=float) for end in ("low", "high"))
    return Volumes(volumes, stored["low"], stored["high"], low_of, high_of)


def volume_per_atom(crystal: Description) -> float:
    """Cubic angstrom."""
    return volume_of(crystal.cell) / (crystal.n_sites * space_group(crystal.space_group).centring_order)


def plausible_volume(crystal: Description) -> bool | None:
    """Whether the volume of a crystal is one for its composition; None where an element is not known.

    Example:
        >>> cell, sites = (5.64, 5.64, 5.64, 90.0, 90.0, 90.0), (Site("Na", "a", ()), Site("Cl", "b", ()))
        >>> plausible_volume(Description((("Na", 1), ("Cl", 1)), 1, 225, cell, sites))
        True
    """
    expected = load_volumes().expected(crystal.amounts)
    return None if expected is None else expected.allows(volume_per_atom(crystal))
