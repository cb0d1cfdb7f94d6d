"""Can the Wyckoff positions of a space group hold a composition exactly? On integers, with everything cached.

Multiplicities are counted in the primitive cell. Positions with free coordinates can be taken any number of times,
those without at most once over all elements. Of some sets of positions one at least has to be taken, or the crystal
has more symmetry than its space group (`SpaceGroup.required`): a need is such sets as bits, the first set the lowest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crystallm.crystal.wyckoff import space_group

KEPT = 1 << 16
"""Answers of each kind that are kept: some tens of megabytes."""

MOST = 255
"""Counts up to this one are looked up as bits of one number."""

ALL = (1 << (MOST + 1)) - 1


@dataclass(frozen=True)
class Supply:
    """What a space group offers: positions with freedom as (size, needs that it meets), those without as (size, needs
    that it meets, how many)."""

    free: tuple[tuple[int, int], ...]
    fixed: tuple[tuple[int, int, int], ...]

    def __hash__(self) -> int:
        """Computed once: it is asked for with each answer that is kept."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.free, self.fixed))

    @cached_property
    def plain(self) -> Supply:
        """The same where no needs are looked at."""
        return as_needed(self, 0)

    @cached_property
    def filled(self) -> int:
        """The counts, up to MOST, that positions with freedom fill, as bits."""
        return _filled(frozenset(size for size, _ in self.free))

    @cached_property
    def held(self) -> int:
        """The counts, up to MOST, that can be placed where there is one element, as bits."""
        counts = self.filled
        for size, _, available in self.fixed:
            for _ in range(min(available, MOST // size)):
                counts |= counts << size
        return counts & ALL


@dataclass(frozen=True)
class Position:
    """A Wyckoff position: atoms in the primitive cell, whether it has free coordinates, the needs that it meets."""

    size: int
    is_free: bool
    meets: int


@cache
def positions(number: int) -> dict[str, Position]:
    """The Wyckoff positions of a space group by letter."""
    group = space_group(number)
    return {
        letter: Position(
            position.multiplicity // group.centring_order,
            position.n_free > 0,
            sum(1 << bit for bit, letters in enumerate(group.required) if letter in letters),
        )
        for letter, position in group.positions.items()
    }


@lru_cache(maxsize=KEPT)
def _filled(sizes: frozenset[int]) -> int:
    counts = 1
    for size in sizes:
        while size <= MOST:
            counts, size = counts | counts << size, 2 * size
        counts &= ALL
    return counts


class Left(NamedTuple):
    """What is still to be placed of a crystal."""

    counts: tuple[int, ...]
    """Atoms of each element in the primitive cell; those of the first are placed next."""
    offer: Supply
    need: int
    used: frozenset[str] = frozenset()
    """Positions without freedom that are taken."""

    def after(self, letter: str, position: Position) -> Left:
        """The same when the next atoms have taken a position."""
        count = self.counts[0] - position.size
        counts, need = self.counts[1:], self.need & ~position.meets
        counts = (count, *counts) if count else counts
        if position.is_free:
            return Left(counts, self.offer, need, self.used)
        return Left(counts, without(self.offer, position), need, self.used | {letter})


def all_left(number: int, counts: tuple[int, ...]) -> Left:
    """What is to be placed before the first site."""
    return Left(counts, supply(number), need_of(number))


def need_of(number: int) -> int:
    """All needs of a space group."""
    return (1 << len(space_group(number).required)) - 1


@cache
def supply(number: int) -> Supply:
    """The supply of a space group."""
    offered = positions(number).values()
    fixed = [(one.size, one.meets) for one in offered if not one.is_free]
    free = {(one.size, one.meets) for one in offered if one.is_free}
    return Supply(tuple(sorted(free)), tuple((*kind, fixed.count(kind)) for kind in sorted(set(fixed))))


def without(offer: Supply, position: Position) -> Supply:
    """The supply left when a position has been taken."""
    return offer if position.is_free else _without(offer, position.size, position.meets)


@lru_cache(maxsize=KEPT)
def _without(offer: Supply, size: int, meets: int = 0) -> Supply:
    return Supply(offer.free, tuple((s, m, n - ((s, m) == (size, meets))) for s, m, n in offer.fixed))


@lru_cache(maxsize=KEPT)
def as_needed(offer: Supply, need: int) -> Supply:
    """The same supply where only some needs are still to be met: positions that differ in nothing else are alike."""
    kinds: dict[tuple[int, int], int] = {}
    for size, meets, available in offer.fixed:
        kinds[size, meets & need] = kinds.get((size, meets & need), 0) + available
    free = sorted({(size, meets & need) for size, meets in offer.free})
    return Supply(tuple(free), tuple((*kind, available) for kind, available in sorted(kinds.items())))


@lru_cache(maxsize=KEPT)
def fillings(free: tuple[tuple[int, int], ...], count: int) -> frozenset[int]:
    """The needs met, for all ways in which sizes, each any number of times, add up to a count; none if none do."""
    met = [frozenset({0})]
    for total in range(1, count + 1):
        met.append(frozenset(more | meets for size, meets in free if size <= total for more in met[total - size]))
    return met[count]


def can_cover(counts: tuple[int, ...], offer: Supply, need: int = 0) -> bool:
    """Whether every element's count of atoms can be placed and a need met. Order of the counts does not matter.

    What is known without needs serves many groups, and mostly decides.
    """
    if not _can_place(counts, offer.plain):
        return False
    if not need:
        return True
    bits = [1 << bit for bit in range(need.bit_length()) if need >> bit & 1]
    if not all(_met_by_one(counts, offer, bit) for bit in bits):
        return False
    if len(bits) < 2 or _met_by_one(counts, offer, need):
        return True
    return _can_cover(tuple(sorted(counts)), as_needed(offer, need), need)


def _can_place(counts: Iterable[int], offer: Supply) -> bool:
    """The same without needs. Elements that positions with freedom can hold leave all others to the other elements."""
    filled, hard = offer.filled, []
    for count in counts:
        if count > MOST or not filled >> count & 1:
            if count <= MOST and not offer.held >> count & 1:
                return False
            hard.append(count)
    return not hard or _can_cover(tuple(sorted(hard)), offer, 0)


def _met_by_one(counts: tuple[int, ...], offer: Supply, need: int) -> bool:
    """Whether one position meets the whole need and all other atoms can be placed, too."""
    return any(
        _can_place((*counts[:place], count - size, *counts[place + 1 :]), left)
        for size, left in _that_meet(offer, need)
        for place, count in enumerate(counts)
        if count >= size
    )


@lru_cache(maxsize=KEPT)
def _that_meet(offer: Supply, need: int) -> tuple[tuple[int, Supply], ...]:
    """Sizes of the positions that meet a whole need, smallest first, and what is left of the supply without them."""
    free = {size for size, meets in offer.free if meets & need == need}
    fixed = {size for size, meets, available in offer.fixed if available and meets & need == need}
    options = [(size, offer.plain) for size in free] + [(size, _without(offer.plain, size)) for size in fixed]
    return tuple(sorted(options, key=lambda option: option[0]))


@lru_cache(maxsize=KEPT)
def _can_cover(counts: tuple[int, ...], offer: Supply, need: int) -> bool:
    if not counts:
        return not need
    count, rest = counts[-1], counts[:-1]  # the largest first: it fails or succeeds with the fewest branches
    for left, met in _placements(count, offer):
        still = need & ~met
        if _can_cover(rest, as_needed(left, still), still) if still else _can_place(rest, left.plain):
            return True
    return False


@lru_cache(maxsize=KEPT // 8)
def _placements(count: int, offer: Supply) -> tuple[tuple[Supply, int], ...]:
    """What can be left after one element has been placed, and the needs met; fewest fixed positions used first."""
    stocks: list[tuple[int, tuple[int, ...], int, int]] = [(0, (), count, 0)]
    for size, meets, available in offer.fixed:
        stocks = [
            (n_used + taken, (*used, taken), left - taken * size, met | (meets if taken else 0))
            for n_used, used, left, met in stocks
            for taken in range(min(available, left // size) + 1)
        ]
    found = []
    for _, used, left, met in sorted(stocks):
        if more := fillings(offer.free, left):
            fixed = tuple([(size, meets, n - k) for (size, meets, n), k in zip(offer.fixed, used, strict=True)])
            found += [(Supply(offer.free, fixed), met | another) for another in more]
    return tuple(found)


@lru_cache(maxsize=KEPT)
def letters(number: int, left: Left) -> tuple[str, ...]:
    """Wyckoff letters of a space group that the next atoms can take so that all others can still be placed."""
    first, *others = left.counts
    found = []
    verdicts: dict[Position, bool] = {}
    for letter, position in positions(number).items():
        if position.size > first or letter in left.used:
            continue
        if position not in verdicts:
            rest = tuple(n for n in (first - position.size, *others) if n)
            verdicts[position] = can_cover(rest, without(left.offer, position), left.need & ~position.meets)
        if verdicts[position]:
            found.append(letter)
    return tuple(found)


def fewest_sites(counts: tuple[int, ...], offer: Supply) -> int | None:
    """The fewest sites that place every element's count of atoms, whatever is needed; None if none do. Order does not
    matter."""
    return _fewest(tuple(sorted(counts)), as_needed(offer, 0))


@lru_cache(maxsize=KEPT)
def _fewest(counts: tuple[int, ...], offer: Supply) -> int | None:
    if not counts:
        return 0
    count, rest = counts[-1], counts[:-1]
    best = None
    for left, _ in _placements(count, offer):
        taken = [(size, n - kept) for (size, _, n), (*_, kept) in zip(offer.fixed, left.fixed, strict=True)]
        filled = _fewest_free(offer.free, count - sum(size * n for size, n in taken))
        others = _fewest(rest, left)
        if filled is not None and others is not None:
            sites = sum(n for _, n in taken) + filled + others
            best = sites if best is None else min(best, sites)
    return best


@lru_cache(maxsize=KEPT)
def _fewest_free(free: tuple[tuple[int, int], ...], count: int) -> int | None:
    """The fewest of some sizes, each any number of times, that add up to a count; None if none do."""
    if count == 0:
        return 0
    options = (_fewest_free(free, count - size) for size, _ in free if size <= count)
    found = [option for option in options if option is not None]
    return min(found) + 1 if found else None


@lru_cache(maxsize=KEPT)
def groups_that_hold(counts: tuple[int, ...]) -> tuple[int, ...]:
    """Numbers of the space groups that can hold these atoms per primitive cell."""
    kinds = _kinds()
    sure = np.zeros(len(kinds.supplies), dtype=bool)
    unsure = ~sure
    if max(counts) <= MOST:
        held, filled, met = (known[:, counts] for known in (kinds.held, kinds.filled, kinds.met))
        sure = np.asarray(filled.all(axis=1) & (kinds.is_plain | met.any(axis=1)))
        unsure = held.all(axis=1) & ~sure
    for place in np.flatnonzero(unsure).tolist():
        sure[place] = can_cover(counts, *kinds.supplies[place])
    return tuple((np.flatnonzero(sure[kinds.of]) + 1).tolist())


@dataclass(frozen=True, eq=False)
class Kinds:
    """The K kinds of space groups by supply and need: many share theirs with another."""

    supplies: list[tuple[Supply, int]]
    of: NDArray[np.intp]
    """The kind of each space group, (230,)."""
    is_plain: NDArray[np.bool_]
    """Whether a kind needs nothing, (K,)."""
    held: NDArray[np.bool_]
    """The counts (K, MOST + 1) of one element that can be placed where there is no other."""
    filled: NDArray[np.bool_]
    """Those that positions with freedom fill."""
    met: NDArray[np.bool_]
    """Those of which one position with freedom meets the whole need, and others with freedom fill the rest."""


@cache
def _kinds() -> Kinds:
    places: dict[tuple[Supply, int], int] = {}
    of = [places.setdefault((supply(number), need_of(number)), len(places)) for number in range(1, 231)]
    held, filled, met = (np.zeros((len(places), MOST + 1), dtype=bool) for _ in range(3))
    for (offer, need), place in places.items():
        held[place], filled[place] = _bits(offer.held), _bits(offer.filled)
        for size in {size for size, meets in offer.free if need and meets & need == need}:
            met[place, size:] |= filled[place, :-size]
    is_plain = np.array([not need for _, need in places])
    return Kinds(list(places), np.array(of), is_plain, held, filled, met)


def _bits(number: int) -> NDArray[np.bool_]:
    return np.array([number >> count & 1 for count in range(MOST + 1)], dtype=bool)
