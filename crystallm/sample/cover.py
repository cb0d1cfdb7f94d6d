"""Can the Wyckoff positions of a space group hold a composition exactly? On integers, with everything cached.

Multiplicities are counted in the primitive cell. Positions with free coordinates can be taken any number of times,
those without at most once over all elements.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

from crystallm.crystal.wyckoff import space_group

KEPT = 1 << 16
"""Answers of each kind that are kept: some tens of megabytes."""


@dataclass(frozen=True)
class Supply:
    """What a space group offers: sizes of positions with freedom, and how many without freedom of each size."""

    free: tuple[int, ...]
    fixed: tuple[tuple[int, int], ...]


@cache
def supply(number: int) -> Supply:
    """The supply of a space group."""
    group = space_group(number)
    free = sorted({p.multiplicity // group.centring_order for p in group.positions.values() if p.n_free})
    sizes = [p.multiplicity // group.centring_order for p in group.positions.values() if not p.n_free]
    return Supply(tuple(free), tuple((size, sizes.count(size)) for size in sorted(set(sizes))))


@cache
def sizes(number: int) -> dict[str, tuple[int, bool]]:
    """Wyckoff letter -> (multiplicity in the primitive cell, whether it has free coordinates)."""
    group = space_group(number)
    return {
        letter: (position.multiplicity // group.centring_order, position.n_free > 0)
        for letter, position in group.positions.items()
    }


@lru_cache(maxsize=KEPT)
def without(offer: Supply, size: int) -> Supply:
    """The supply left when one position without freedom of a size is taken."""
    return Supply(offer.free, tuple((s, n - (s == size)) for s, n in offer.fixed))


@lru_cache(maxsize=KEPT)
def fillable(free: tuple[int, ...], count: int) -> bool:
    """Whether a sum of free sizes, each any number of times, equals a count."""
    return count == 0 or any(size <= count and fillable(free, count - size) for size in reversed(free))


def can_cover(counts: tuple[int, ...], offer: Supply) -> bool:
    """Whether every element's count of atoms can be placed. Order of the counts does not matter."""
    return _can_cover(tuple(sorted(counts)), offer)


@lru_cache(maxsize=KEPT)
def _can_cover(counts: tuple[int, ...], offer: Supply) -> bool:
    if not counts:
        return True
    count, rest = counts[-1], counts[:-1]  # the largest first: it fails or succeeds with the fewest branches
    return any(_can_cover(rest, Supply(offer.free, left)) for left in _placements(count, offer))


@lru_cache(maxsize=KEPT // 16)
def _placements(count: int, offer: Supply) -> tuple[tuple[tuple[int, int], ...], ...]:
    """The stocks of fixed positions that can be left after one element has been placed, fewest used first."""
    stocks: list[tuple[tuple[int, ...], int]] = [((), count)]
    for size, available in offer.fixed:
        stocks = [
            ((*used, taken), left - taken * size)
            for used, left in stocks
            for taken in range(min(available, left // size) + 1)
        ]
    found = sorted((used for used, left in stocks if fillable(offer.free, left)), key=sum)
    return tuple(
        tuple((size, available - taken) for (size, available), taken in zip(offer.fixed, used, strict=True))
        for used in found
    )


@lru_cache(maxsize=KEPT)
def letters(number: int, counts: tuple[int, ...], offer: Supply, used: frozenset[str]) -> tuple[str, ...]:
    """Wyckoff letters that the next atoms of the first element can take so that all others can still be placed.

    counts: atoms of each element still to be placed. offer: what is left of the group's supply. used: positions without
    freedom that are taken.
    """
    first, *others = counts
    found = []
    verdicts: dict[tuple[int, bool], bool] = {}
    for letter, (size, is_free) in sizes(number).items():
        if size > first or letter in used:
            continue
        if (size, is_free) not in verdicts:
            kept = offer if is_free else without(offer, size)
            verdicts[size, is_free] = can_cover(tuple(n for n in (first - size, *others) if n), kept)
        if verdicts[size, is_free]:
            found.append(letter)
    return tuple(found)


def fewest_sites(counts: tuple[int, ...], offer: Supply) -> int | None:
    """The fewest sites that place every element's count of atoms; None if none do. Order does not matter."""
    return _fewest(tuple(sorted(counts)), offer)


@lru_cache(maxsize=KEPT)
def _fewest(counts: tuple[int, ...], offer: Supply) -> int | None:
    if not counts:
        return 0
    count, rest = counts[-1], counts[:-1]
    best = None
    for left in _placements(count, offer):
        taken = [(size, before - after) for (size, before), (_, after) in zip(offer.fixed, left, strict=True)]
        filled = _fewest_free(offer.free, count - sum(size * n for size, n in taken))
        others = _fewest(rest, Supply(offer.free, left))
        if filled is not None and others is not None:
            sites = sum(n for _, n in taken) + filled + others
            best = sites if best is None else min(best, sites)
    return best


@lru_cache(maxsize=KEPT)
def _fewest_free(free: tuple[int, ...], count: int) -> int | None:
    """The fewest of some sizes, each any number of times, that add up to a count; None if none do."""
    if count == 0:
        return 0
    options = (_fewest_free(free, count - size) for size in free if size <= count)
    found = [option for option in options if option is not None]
    return min(found) + 1 if found else None


@lru_cache(maxsize=KEPT)
def groups_that_hold(counts: tuple[int, ...]) -> tuple[int, ...]:
    """Numbers of the space groups that can hold these atoms per primitive cell."""
    key = tuple(sorted(counts))
    return tuple(sorted(number for offer, numbers in _alike().items() if _can_cover(key, offer) for number in numbers))


@cache
def _alike() -> dict[Supply, list[int]]:
    """Numbers of the space groups by their supply: half of them share theirs with another."""
    numbers: dict[Supply, list[int]] = {}
    for number in range(1, 231):
        numbers.setdefault(supply(number), []).append(number)
    return numbers
