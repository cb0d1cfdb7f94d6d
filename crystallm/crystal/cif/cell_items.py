"""The six cell parameters of a CIF, those that symmetry fixes included, or why there is no cell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import gemmi
import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.cell import Reason, Rejection, volume_of
from crystallm.crystal.cif.symmetry.operators import Operations

CELL_ITEMS = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
TAGS = tuple(f"_cell_{item}" for item in CELL_ITEMS)

LENGTHS_ANGSTROM = (0.5, 1000.0)
ANGLES_DEGREES = (1.0, 179.0)
"""Beyond these (lengths: CrystaLLM, `is_sensible`) a cell is no crystal's, or its numbers are in another unit; searches
for neighbours would exhaust memory."""

LIMITS = tuple(
    (tag, *limits) for tag, limits in zip(TAGS, (LENGTHS_ANGSTROM,) * 3 + (ANGLES_DEGREES,) * 3, strict=True)
)

SMALLEST_VOLUME = 1.0
"""Cubic angstrom; the cube of one angstrom that programs write where they know no cell is not above it."""

STRAIN_TOLERANCE = 0.01
"""Operators may change elements of the metric tensor by this fraction: lengths by 0.5 %, angles by 0.6 degrees."""

DOES_NOT_FIT = "does not leave the cell"
"""In every refusal of operators that are no isometries."""

AXES = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""Elements of the metric tensor, in the order of the parameters."""


@dataclass(frozen=True)
class CellItems:
    """a, b, c in angstrom and alpha, beta, gamma in degrees as a block states them; None where it does not."""

    values: tuple[float | None, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the items without a value."""
        return tuple(tag for tag, value in zip(TAGS, self.values, strict=True) if value is None)


def read_cell_items(items: Mapping[str, str | list[str]]) -> CellItems | Rejection:
    """The cell parameters that a block states.

    Args:
        items: Canonical name to text, empty where the value is `?` or `.`.

    Returns:
        The parameters, some of them perhaps missing; or the first that is no number or cannot be a crystal's.

    Example:
        >>> read_cell_items({"_cell_length_a": "5.640(2)"}).values[0]
        5.64
    """
    found: list[float | None] = []
    for tag, low, high in LIMITS:
        text = items.get(tag, "")
        if isinstance(text, list):
            values = [value for value in text if value]
            if len(set(values)) > 1:
                return Rejection(Reason.BAD_CELL, f"{tag} has {len(values)} values: {', '.join(values)[:80]}")
            text = values[0] if values else ""
        if not text:
            found.append(None)
            continue
        value = float(gemmi.cif.as_number(text))
        if math.isnan(value):
            return Rejection(Reason.BAD_CELL, f"{tag} is {text.strip()[:40]!r}, not a number")
        if not low <= value <= high:
            unit = "angstrom" if "length" in tag else "degrees"
            return Rejection(Reason.BAD_CELL, f"{tag} is {value:g} {unit}; crystals have {low:g} to {high:g}")
        found.append(value)
    return CellItems(tuple(found))


def complete(stated: CellItems, operations: Operations, name: str) -> tuple[float, ...] | Rejection:
    """The six parameters, where missing ones are those that the symmetry leaves no choice about.

    What a dictionary gives as default (90 degrees) is taken only where the symmetry fixes it, too.

    Args:
        stated: What the block states.
        operations: Of the space group.
        name: Of the space group, for messages.

    Returns:
        a, b, c in angstrom and alpha, beta, gamma in degrees; or which item is missing, or that they enclose no volume.

    Example:
        >>> from crystallm.crystal.cif.symmetry.operators import operations_of
        >>> operations = operations_of(("y,z,x", "-x,-y,z"), generators=True)
        >>> complete(CellItems((4.0, None, None, None, None, None)), operations, "P 2 3")
        (4.0, 4.0, 4.0, 90.0, 90.0, 90.0)
    """
    values = stated.values
    if None in values:
        filled = _fixed(values, operations)
        if filled is None:
            stated_values = " ".join("?" if value is None else f"{value:g}" for value in values)
            return Rejection(Reason.CONTRADICTORY, f"{name} {DOES_NOT_FIT} of {stated_values} as it is")
        for tag, value in zip(TAGS, filled, strict=True):
            if value is None:
                detail = f"no {tag} in the file, and {name} does not fix it"
                return Rejection(Reason.BAD_CELL, detail)
        values = filled
    parameters = tuple(float(value) for value in values if value is not None)
    volume = volume_of(parameters)
    if not volume > SMALLEST_VOLUME:
        return Rejection(Reason.BAD_CELL, f"cell {parameters} has no sensible volume ({volume:.3g} cubic angstrom)")
    return parameters


def _fixed(values: tuple[float | None, ...], operations: Operations) -> tuple[float | None, ...] | None:
    """The parameters with those that follow from the others; None if those that are known contradict the symmetry."""
    basis = _invariant_metrics(operations)
    known: dict[int, float] = {n: value**2 for n, value in enumerate(values[:3]) if value is not None}
    if known and not _is_invariant(basis, known):
        return None
    angles = values[3:]
    lengths = [_solve(basis, known, n) for n in range(3)]
    if any(square is None or square <= 0 for square in lengths):
        return tuple(math.sqrt(s) if s is not None and s > 0 else None for s in lengths) + angles
    a, b, c = (math.sqrt(square) for square in lengths if square is not None)
    products = (b * c, a * c, a * b)
    known = {n: square for n, square in enumerate(lengths) if square is not None}
    known |= {
        n + 3: p * math.cos(math.radians(v))
        for n, (p, v) in enumerate(zip(products, angles, strict=True))
        if v is not None
    }
    found: list[float | None] = [round(a, 8), round(b, 8), round(c, 8)]
    for n, (product, angle) in enumerate(zip(products, angles, strict=True), start=3):
        cosine = None if angle is not None else _solve(basis, known, n)
        if cosine is not None and abs(cosine) < product:
            angle = round(math.degrees(math.acos(cosine / product)), 8)
        found.append(angle)
    return tuple(stated if stated is not None else value for stated, value in zip(values, found, strict=True))


def _solve(basis: NDArray[np.float64], known: dict[int, float], wanted: int) -> float | None:
    """One element of an invariant metric tensor from the known ones; None if they leave it open."""
    if wanted in known:
        return known[wanted]
    rows = basis[list(known)] if known else np.zeros((1, basis.shape[1]))
    right = np.array(list(known.values())) if known else np.zeros(1)
    weights = np.linalg.pinv(rows, rcond=1e-9) @ right
    null = basis[wanted] - basis[wanted] @ np.linalg.pinv(rows, rcond=1e-9) @ rows
    return float(basis[wanted] @ weights) if np.abs(null).max() < 1e-6 else None


def _is_invariant(basis: NDArray[np.float64], known: dict[int, float]) -> bool:
    rows, right = basis[list(known)], np.array(list(known.values()))
    return bool(np.allclose(rows @ np.linalg.pinv(rows, rcond=1e-9) @ right, right, rtol=STRAIN_TOLERANCE))


def _invariant_metrics(operations: Operations) -> NDArray[np.float64]:
    """Metric tensors that all rotations leave as they are: (6, number of free parameters)."""
    rotations = np.unique(operations.rotations, axis=0)
    columns = []
    for i, j in AXES:
        unit = np.zeros((3, 3))
        unit[i, j] = unit[j, i] = 1.0
        mean = (np.swapaxes(rotations, 1, 2) @ unit @ rotations).mean(axis=0)
        columns.append([mean[i, j] for i, j in AXES])
    left, sizes, _ = np.linalg.svd(np.array(columns).T)
    return np.asarray(left[:, sizes > 1e-6])
