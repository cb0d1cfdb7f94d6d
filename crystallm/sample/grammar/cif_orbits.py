"""Where the atoms of one multiplicity may stand: coordinates chosen one after the other, the dependent ones computed.

An orbit of a Wyckoff position is a handful of points, lines and planes of the cell. Written in the order x, y, z, each
coordinate is either free or follows from those before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.wyckoff import GRID, space_group
from crystallm.tokenizer.cif_listing import exact_fraction, origin_shift

UNIT = 10_000
"""Coordinates are whole numbers of 1/10,000."""


@dataclass(frozen=True)
class Rule:
    """A coordinate that follows: offset + sum of factors times earlier coordinates, modulo 1."""

    offset: Fraction
    factors: tuple[tuple[int, Fraction], ...] = ()

    def value(self, earlier: tuple[int, ...]) -> int:
        """The coordinate in units of 1/10,000, from those before it."""
        exact = float(self.offset) + sum(float(f) * exact_fraction(earlier[axis] / UNIT) for axis, f in self.factors)
        return round(exact * UNIT) % UNIT


@dataclass(frozen=True)
class Place:
    """One point, line, plane or all of the cell; None where a coordinate is free."""

    letter: str
    rules: tuple[Rule | None, Rule | None, Rule | None]


@cache
def places(number: int) -> dict[int, tuple[Place, ...]]:
    """The places of a space group by multiplicity in the conventional cell, in spglib's setting."""
    group = space_group(number)
    shift = origin_shift(number)
    found: dict[int, dict[Place, None]] = {}
    for letter, position in group.positions.items():
        own = found.setdefault(position.multiplicity, {})
        for rotation, translation in zip(*group.orbit_maps(letter), strict=True):
            offset = rotation @ position.offset + translation - shift
            for place in _places(letter, rotation @ position.matrix, offset):
                own[place] = None
    return {multiplicity: tuple(own) for multiplicity, own in found.items()}


def _places(letter: str, matrix: NDArray[np.float64], offset: NDArray[np.float64]) -> Iterable[Place]:
    """The points matrix @ free + offset as rules; several where half of a coordinate leaves a choice."""
    constants = [Fraction(round(value * GRID), GRID) for value in offset.tolist()]
    options: list[tuple[Rule | None, ...]] = [()]
    for axis, factors in enumerate(_dependence(tuple(map(tuple, matrix.tolist())))):
        if factors is None:
            options = [(*rules, None) for rules in options]
            continue
        start = constants[axis] - sum(factor * constants[other] for other, factor in factors)
        # A coordinate is known up to whole numbers, so what is half of it is known up to halves.
        steps = {Fraction(0)}
        for _, factor in factors:
            steps = {(step + n * factor) % 1 for step in steps for n in range(factor.denominator)}
        options = [(*rules, Rule((start + step) % 1, factors)) for rules in options for step in sorted(steps)]
    for x, y, z in options:
        yield Place(letter, (x, y, z))


@cache
def _dependence(matrix: tuple[tuple[float, ...], ...]) -> tuple[tuple[tuple[int, Fraction], ...] | None, ...]:
    """For each row (of F numbers) None if it is independent of those before it, else by which factors it follows."""
    result: list[tuple[tuple[int, Fraction], ...] | None] = []
    free: list[int] = []
    for axis, row in enumerate(matrix):
        known = np.array([matrix[other] for other in free]).reshape(len(free), len(row))
        factors = np.linalg.lstsq(known.T, np.array(row), rcond=None)[0] if free and row else np.zeros(len(free))
        if row and np.abs(factors @ known - np.array(row)).max() > 1e-9:
            free.append(axis)
            result.append(None)
        else:
            exact = [(other, Fraction(float(f)).limit_denominator(4)) for other, f in zip(free, factors, strict=True)]
            result.append(tuple((other, factor) for other, factor in exact if factor))
    return tuple(result)


def values(alive: Iterable[Place], earlier: tuple[int, ...]) -> set[int] | None:
    """The values that the next coordinate may take in units of 1/10,000; None if all."""
    axis = len(earlier)
    found = set()
    for place in alive:
        rule = place.rules[axis]
        if rule is None:
            return None
        found.add(rule.value(earlier))
    return found


def still_alive(alive: Iterable[Place], point: tuple[int, ...]) -> list[Place]:
    """The places that the coordinates chosen so far lie on."""
    axis = len(point) - 1
    return [place for place in alive if (rule := place.rules[axis]) is None or rule.value(point[:axis]) == point[axis]]
