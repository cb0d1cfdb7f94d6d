"""Five decimals of a crystal whose text has four: what is returned of a known crystal is at most 0.01 angstrom from it.

A text of the layout `wyckoff` rounds lengths and coordinates to four decimals and angles to two. What it leaves out is
kept beside it, in steps of 1e-5. Where the symmetry found at 0.1 angstrom moves an atom or a cell vector by more than
0.01 angstrom, that is not enough; then a second text is kept, of the crystal described at a tighter tolerance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from crystallm.crystal.cell import Cell, Rejection, volume_of
from crystallm.crystal.description import Description, Site, describe
from crystallm.crystal.symmetry import SYMPREC_ANGSTROM
from crystallm.crystal.wyckoff import space_group
from crystallm.data.templates.deviation import deviation
from crystallm.tokenizer.layout import (
    FREE_PARAMETERS,
    CellField,
    ChoiceField,
    FormulaField,
    Layout,
    Parameters,
    SitesField,
    full_parameters,
)
from crystallm.tokenizer.number_format import ANGLE, COORDINATE, LENGTH

STEPS = 100_000
"""Steps of 1e-5 in one angstrom, one degree, one cell edge."""

FARTHEST_ANGSTROM = 0.01
"""No atom and no cell vector of a known crystal is farther from its source."""

TOLERANCES_ANGSTROM = (SYMPREC_ANGSTROM, 0.05, 0.02, 0.01, 5e-3, 2e-3, 1e-3, 1e-4, 1e-5)
"""Of the search for symmetry, tried one after the other until the description is near enough."""

EXACT = Layout(
    name="wyckoff-5",
    fields=(
        FormulaField(),
        ChoiceField("formula_units", "\n_cell_formula_units_Z_primitive", 192),
        ChoiceField("space_group", "\n_space_group_IT_number", 230),
        CellField(length=replace(LENGTH, decimals=5), angle=replace(ANGLE, decimals=5)),
        SitesField(coordinate=replace(COORDINATE, decimals=5)),
    ),
)
"""Texts of five decimals; not for models."""


@dataclass(frozen=True)
class Exact:
    """What is kept of one crystal beside its text, one of the two.

    residuals: bytes of `residuals`. text: of layout `EXACT`. deviation: distance to the source in angstrom.
    """

    residuals: bytes | None
    text: str | None
    deviation: float


def exact_numbers(source: Cell, text: Description, *, farthest: float = FARTHEST_ANGSTROM) -> Exact | None:
    """What has to be kept beside a text so that the crystal is returned as it is.

    Args:
        source: the crystal, any cell.
        text: what its text says, of four decimals.
        farthest: largest distance to the source in angstrom.

    Returns:
        The numbers of the description at 0.1 angstrom, else those of the first tighter tolerance at which the
        description is near enough, else None.

    Example:
        >>> exact_numbers(cell, WYCKOFF.read(text)).deviation < 0.01
        True
    """
    for symprec in TOLERANCES_ANGSTROM:
        description = describe(source, symprec_angstrom=symprec)
        if isinstance(description, Rejection):
            continue
        rounded = rounded_numbers(description)
        distance = deviation(source, rounded, symprec_angstrom=symprec)
        if not distance <= farthest:
            continue
        left_out = residuals(rounded, text) if symprec == SYMPREC_ANGSTROM else None
        if left_out is not None:
            return Exact(left_out, None, distance)
        written = EXACT.write(rounded)
        if EXACT.read(written) == rounded:
            return Exact(None, written, distance)
    return None


def residuals(exact: Description, text: Description) -> bytes | None:
    """What a text leaves out of each free number, in its order, in steps of 1e-5: lengths and coordinates one byte,
    angles two. None where the two differ in more than that."""
    if _discrete(exact) != _discrete(text):
        return None
    found = bytearray()
    for (value, width, period), (rounded, _, _) in zip(_free_numbers(exact), _free_numbers(text), strict=True):
        left_out = round(value * STEPS) - round(rounded * STEPS)
        if period:
            left_out = (left_out + period // 2) % period - period // 2
        if abs(left_out) > _LARGEST[width]:
            return None
        found += left_out.to_bytes(width, "little", signed=True)
    return bytes(found)


def with_residuals(text: Description, left_out: bytes) -> Description:
    """The description of five decimals, from what the text says and what it leaves out.

    Raises ValueError where there are more or fewer bytes than the text has numbers for.
    """
    steps, place = [], 0
    for value, width, period in _free_numbers(text):
        more = int.from_bytes(left_out[place : place + width], "little", signed=True)
        step = round(value * STEPS) + more
        steps.append(step % period if period else step)
        place += width
    if place != len(left_out):
        raise ValueError(f"{len(left_out)} bytes for numbers of {place}")
    return _with_numbers(text, [step / STEPS for step in steps])


def rounded_numbers(description: Description) -> Description:
    """A description with its numbers at five decimals."""
    numbers = []
    for value, _, period in _free_numbers(description):
        step = round(value * STEPS)
        numbers.append((step % period if period else step) / STEPS)
    return _with_numbers(description, numbers)


_LARGEST = {1: 127, 2: 32767}


def _free_numbers(description: Description) -> Iterator[tuple[float, int, int]]:
    """Value, bytes of what its text leaves out, and period in steps (0: none) of each free number."""
    for place in FREE_PARAMETERS[space_group(description.space_group).crystal_system]:
        yield description.cell[place], 1 if place < 3 else 2, 0
    for site in description.sites:
        for value in site.free:
            yield value, 1, STEPS


def _with_numbers(description: Description, numbers: list[float]) -> Description:
    system = space_group(description.space_group).crystal_system
    places = FREE_PARAMETERS[system]
    cell: Parameters = full_parameters(system, dict(zip(places, numbers, strict=False)))
    rest = iter(numbers[len(places) :])
    sites = tuple(Site(s.element, s.letter, tuple(next(rest) for _ in s.free)) for s in description.sites)
    return replace(description, cell=cell, sites=sites)


def _discrete(description: Description) -> tuple[object, ...]:
    sites = tuple((site.element, site.letter) for site in description.sites)
    return description.amounts, description.formula_units, description.space_group, sites


def volume_per_atom(description: Description) -> float:
    """Cubic angstrom."""
    atoms = description.n_sites * space_group(description.space_group).centring_order
    return volume_of(description.cell) / atoms
