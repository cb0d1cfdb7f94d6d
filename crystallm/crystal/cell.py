"""A periodic cell as three arrays, and the reasons for which a crystal is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from math import cos, gcd, radians, sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pymatgen.core import Structure


GRAMS_PER_CM3 = 1.66053906660
"""One dalton in a cubic angstrom, in g/cm3 (CODATA 2018)."""


class Reason(StrEnum):
    """Why a crystal was refused; the value is what reports print."""

    UNREADABLE = "unreadable"
    EMPTY = "no atoms"
    DISORDERED = "disordered"
    UNKNOWN_SPECIES = "unknown species"
    BAD_CELL = "bad cell"
    TOO_MANY_SITES = "too many sites"
    ATOMS_TOO_CLOSE = "atoms too close"
    SYMMETRY_FAILED = "symmetry failed"
    NOT_EXPRESSIBLE = "not expressible in the layout"
    TOO_LONG = "too many tokens"
    DUPLICATE = "duplicate"
    LEAKAGE = "matches a benchmark test set"
    TIMED_OUT = "timed out"
    CONTRADICTORY = "contradicts itself"
    AMBIGUOUS = "more than one reading"
    MODULATED = "modulated"


@dataclass(frozen=True)
class Rejection:
    """Why a crystal was refused: an expected failure, as a value.

    Args:
        reason: One of a short list; its text is what reports count.
        detail: For people.

    Example:
        >>> from crystallm import Rejection, read_cif
        >>> found = read_cif("no CIF")
        >>> isinstance(found, Rejection), str(found.reason)
        (True, 'unreadable')
    """

    reason: Reason
    detail: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


MAX_INPUT_SITES = 5000
"""Larger cells are refused before their primitive cell is looked for: that alone would take minutes."""


def refuse_large(cell: Cell) -> Rejection | None:
    """Why a cell is too large to be described; None if it is not."""
    if len(cell) <= MAX_INPUT_SITES:
        return None
    return Rejection(Reason.TOO_MANY_SITES, f"{len(cell)} atoms in the cell as given, limit {MAX_INPUT_SITES}")


@dataclass(frozen=True, eq=False)
class Cell:
    """A periodic cell of ordered, neutral atoms.

    Args:
        lattice: (3, 3), rows are the basis vectors in angstrom.
        positions: (N, 3), fractional.
        numbers: (N,), atomic numbers.

    Example:
        >>> import numpy as np
        >>> from crystallm import Cell
        >>> polonium = Cell(np.eye(3) * 3.35, np.zeros((1, 3)), np.array([84]))
        >>> round(polonium.volume, 2), polonium.amounts
        (37.6, {84: 1})
    """

    lattice: NDArray[np.float64]
    positions: NDArray[np.float64]
    numbers: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def volume(self) -> float:
        """Volume in cubic angstrom."""
        return abs(float(np.linalg.det(self.lattice)))

    @property
    def lengths(self) -> NDArray[np.float64]:
        """Lengths a, b, c in angstrom, shape (3,)."""
        return np.asarray(np.linalg.norm(self.lattice, axis=1))

    @property
    def amounts(self) -> dict[int, int]:
        """Atoms in the cell by atomic number."""
        return dict(sorted(Counter(self.numbers.tolist()).items()))

    @property
    def formula_units(self) -> int:
        """Number of reduced formula units Z in this cell."""
        return gcd(*self.amounts.values())

    @classmethod
    def from_structure(cls, structure: Structure) -> Cell:
        """The cell of an ordered pymatgen structure; oxidation states are dropped."""
        return cls(
            lattice=np.array(structure.lattice.matrix, dtype=np.float64),
            positions=np.array(structure.frac_coords, dtype=np.float64).reshape(-1, 3),
            numbers=np.array([site.specie.Z for site in structure], dtype=np.int64),
        )

    def to_structure(self) -> Structure:
        """A pymatgen structure with the same cell and order of sites."""
        from pymatgen.core import Composition, Element, Structure

        # Sites of one element share their composition: making one for each would take most of the time.
        numbers = self.numbers.tolist()
        species = {number: Composition({Element.from_Z(number): 1}) for number in set(numbers)}
        return Structure(self.lattice, [species[number] for number in numbers], self.positions)


def volume_of(parameters: tuple[float, ...]) -> float:
    """Volume in cubic angstrom of a cell of (a, b, c, alpha, beta, gamma) in angstrom and degrees; 0 where the angles
    do not close."""
    a, b, c, *angles = parameters
    x, y, z = (0.0 if angle == 90 else cos(radians(angle)) for angle in angles)
    return a * b * c * sqrt(max(1.0 - x * x - y * y - z * z + 2.0 * x * y * z, 0.0))


def lattice_from_parameters(parameters: tuple[float, ...]) -> NDArray[np.float64]:
    """Basis rows (3, 3) in angstrom from (a, b, c, alpha, beta, gamma) in angstrom and degrees; c along z, a in xz.

    The orientation is pymatgen's and the CIF dictionary's companion choice; the angles must close to a cell.
    """
    a, b, c, alpha, beta, gamma = parameters
    cos_a, cos_b, cos_g = (0.0 if angle == 90 else float(np.cos(np.radians(angle))) for angle in (alpha, beta, gamma))
    sin_a, sin_b = (1.0 if angle == 90 else float(np.sin(np.radians(angle))) for angle in (alpha, beta))
    cos_gamma_star = max(-1.0, min(1.0, (cos_a * cos_b - cos_g) / (sin_a * sin_b)))
    sin_gamma_star = float(np.sqrt(1.0 - cos_gamma_star**2))
    return np.array(
        [
            [a * sin_b, 0.0, a * cos_b],
            [-b * sin_a * cos_gamma_star, b * sin_a * sin_gamma_star, b * cos_a],
            [0.0, 0.0, c],
        ]
    )


def angles_close(alpha: float, beta: float, gamma: float) -> bool:
    """Whether three angles in degrees can be the angles of a cell (positive volume)."""
    cosines = np.cos(np.radians([alpha, beta, gamma]))
    return bool(1.0 + 2.0 * cosines.prod() - (cosines**2).sum() > 1e-6)


def parameters_of(lattice: NDArray[np.float64]) -> tuple[float, float, float, float, float, float]:
    """(a, b, c, alpha, beta, gamma) in angstrom and degrees of the basis rows (3, 3)."""
    a, b, c = np.linalg.norm(lattice, axis=1)
    alpha, beta, gamma = (
        float(np.degrees(np.arccos(np.clip(lattice[i] @ lattice[j] / (n * m), -1.0, 1.0))))
        for i, j, n, m in ((1, 2, b, c), (0, 2, a, c), (0, 1, a, b))
    )
    return float(a), float(b), float(c), alpha, beta, gamma
