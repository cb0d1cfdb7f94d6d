"""Which of several crystals of one formula are copies of each other, and which of them stands for all.

Crystals that the structure matcher calls the same are a family. In a family those of one space group are one crystal
(the matcher leaves the scale open: two draws of different volume are one). Of different space groups, the one of lower
symmetry is a copy of the other if it is near it, or in reach and the energies of both are known, and in either case not
lower in energy (`CopyRule`). A real distortion, such as that of BaTiO3, is lower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from crystallm.base.errors import ConfigError
from crystallm.crystal.cell import Rejection
from crystallm.crystal.copies.parents import Parent, parents
from crystallm.crystal.description import Description, expand
from crystallm.crystal.matching.duplicates import group_duplicates
from crystallm.crystal.volumes import volume_per_atom
from crystallm.crystal.wyckoff import space_group


@dataclass(frozen=True, kw_only=True)
class CopyRule:
    """When a crystal is a copy of one of higher symmetry; measured in docs/explanation/crystal.md."""

    distance_angstrom: float = 0.1
    """Nearer than this (`Parent.distance_angstrom`) it is one, unless it is known to be lower in energy."""
    reach_angstrom: float = 0.25
    """Nearer than this it is one if the energies of both are known, and it is not lower."""
    energy_ev: float = 0.002
    """Lower is what lies lower than the parent by more than this, eV/atom."""

    def __post_init__(self) -> None:
        if not 0 < self.distance_angstrom <= self.reach_angstrom:
            raise ConfigError(
                f"0 < distance_angstrom <= reach_angstrom must hold, got {self.distance_angstrom:g} and "
                f"{self.reach_angstrom:g}"
            )
        if self.energy_ev < 0:
            raise ConfigError(f"energy_ev must not be negative, got {self.energy_ev:g}")


@dataclass(frozen=True)
class Candidate:
    """A crystal that may be a copy."""

    description: Description
    energy_per_atom: float | None = None
    """In eV; None where unknown. All energies are of one potential and one stage: as drawn, or relaxed."""
    protected: bool = False
    """A known crystal: copies may join it, it joins none."""
    added: bool = False
    """A parent that was evaluated for its copies (`missing_parents`), not a draw: it is left out unless one joins."""


@dataclass(frozen=True, eq=False)
class Group:
    """One crystal: the places of its candidates, and which of them stands for all."""

    leader: int
    """The protected one, else the lowest in energy, else that of median volume; of those of highest symmetry."""
    members: tuple[int, ...]
    """All places in ascending order, `leader` and added ones included."""
    copies: tuple[int, ...] = ()
    """Those written in a lower space group than the leader."""
    parent: Parent | None = None
    """A higher symmetry that the leader itself nearly has and no candidate stands for. With `promoted` the crystal is
    shown as `parent.description`; else it is only flagged: symmetry was given, or the leader's energy is known and
    that of the parent is not (`missing_parents`)."""
    promoted: bool = False
    undecided: bool = False
    """Whether a member could not be compared with all others in time, so that the group may be part of another."""


def merge_copies(candidates: Sequence[Candidate], rule: CopyRule | None = None, *, promote: bool = True) -> list[Group]:
    """Candidates of one formula by crystal, groups in the order of their first members.

    Args:
        candidates: Crystals of one formula in the order of preference.
        rule: When a crystal is a copy.
        promote: Whether copies are shown in the higher symmetry. False where the user gave a space group: crystals of
            different groups stay apart, and what nearly has a higher symmetry is flagged.

    Returns:
        Groups that together hold every candidate once, but for added ones that nothing joined.

    Example:
        >>> cubic = Description((("Al", 1),), 1, 225, (4.05, 4.05, 4.05, 90.0, 90.0, 90.0), (Site("Al", "a", ()),))
        >>> squeezed = Description((("Al", 1),), 1, 139, (2.86, 2.86, 4.1, 90.0, 90.0, 90.0), (Site("Al", "a", ()),))
        >>> [group.members for group in merge_copies([Candidate(squeezed), Candidate(cubic)])]
        [(0, 1)]
    """
    rule = rule or CopyRule()
    near = [() if one.protected else _parents(one, rule) for one in candidates]
    groups: list[Group] = []
    families, undecided = _families(candidates, near)
    for family in families:
        found = _Family(candidates, near, rule, promote).groups(family)
        groups += [replace(group, undecided=bool(undecided & set(group.members))) for group in found]
    return sorted((group for group in groups if not _is_only_added(candidates, group)), key=lambda g: g.members[0])


def missing_parents(candidates: Sequence[Candidate], rule: CopyRule | None = None) -> list[Description]:
    """Parents that have to be evaluated before it can be said whether candidates are their copies.

    Add each, relaxed, as `Candidate(description, energy, added=True)` and merge again.
    """
    found: dict[Description, None] = {}
    for group in merge_copies(candidates, rule):
        if group.parent is not None and not group.promoted:
            description = group.parent.description
            assert isinstance(description, Description)
            found[description] = None
    return list(found)


def _parents(candidate: Candidate, rule: CopyRule) -> tuple[Parent, ...]:
    found = parents(candidate.description, rule.reach_angstrom)
    return tuple(parent for parent in found if not isinstance(parent.description, Rejection))


def _families(candidates: Sequence[Candidate], near: Sequence[tuple[Parent, ...]]) -> tuple[list[list[int]], set[int]]:
    """Places of what the matcher calls the same, once everything is moved onto its highest symmetry; protected ones
    lead; and places of what could not be compared with all others in time. Only crystals with a space group in common,
    their own or a parent's, are compared."""
    numbers = [
        {one.description.space_group, *(parent.space_group for parent in parents)}
        for one, parents in zip(candidates, near, strict=True)
    ]
    order = sorted(range(len(candidates)), key=lambda place: not candidates[place].protected)
    families: list[list[int]] = []
    undecided: set[int] = set()
    for places in _linked(order, numbers):
        n_protected = sum(candidates[place].protected for place in places)
        if len(places) == 1 or n_protected == len(places):  # nothing joins a protected one but what is not
            families += [[place] for place in places]
            continue
        cells = [near[p][0].cell if near[p] else expand(candidates[p].description) for p in places]
        found = group_duplicates([cell.to_structure() for cell in cells], apart=n_protected)
        families += [[places[index] for index in group] for group in found.groups]
        undecided |= {places[index] for index in found.undecided}
    return families, undecided


def _linked(places: Sequence[int], numbers: Sequence[set[int]]) -> list[list[int]]:
    """Places that share a number, directly or through others, each list in the given order."""
    lists: list[list[int]] = []
    for place in places:
        linked = [own for own in lists if any(numbers[place] & numbers[other] for other in own)]
        lists = [own for own in lists if own not in linked]
        lists.append([*(other for own in linked for other in own), place])
    rank = {place: index for index, place in enumerate(places)}
    return [sorted(own, key=rank.__getitem__) for own in lists]


def _is_only_added(candidates: Sequence[Candidate], group: Group) -> bool:
    return all(candidates[place].added for place in group.members)


@dataclass(frozen=True, eq=False)
class _Family:
    """The candidates that the matcher calls the same."""

    candidates: Sequence[Candidate]
    near: Sequence[tuple[Parent, ...]]
    rule: CopyRule
    promote: bool

    def groups(self, family: Sequence[int]) -> list[Group]:
        """The crystals of the family, those of highest symmetry first."""
        kept: list[tuple[list[int], list[int]]] = []
        """Members of the leader's space group, and copies, of each crystal."""
        for places in self._by_space_group(family):
            other = next((own for own, _ in reversed(kept) if self._joins(places, own)), None)
            if other is None:
                kept.append((places, []))
            else:
                next(copies for own, copies in kept if own is other).extend(places)
        return [self._group(own, copies, family) for own, copies in kept]

    def _by_space_group(self, family: Sequence[int]) -> list[list[int]]:
        """Places of one space group, those of highest symmetry first; each protected candidate has a list of its own,
        and the first of a group takes the others of that group."""
        lists: dict[tuple[int, int], list[int]] = {}
        for place in sorted(family, key=lambda place: not self.candidates[place].protected):
            number = self.candidates[place].description.space_group
            alone = self.candidates[place].protected and (number, -1) in lists
            lists.setdefault((number, place if alone else -1), []).append(place)
        return sorted(lists.values(), key=lambda places: -self._order(places[0]))

    def _order(self, place: int) -> float:
        """Operations for each atom of the primitive cell, so that cells of different size can be compared."""
        crystal = self.candidates[place].description
        group = space_group(crystal.space_group)
        return len(group.rotations) / group.centring_order / crystal.n_sites

    def _joins(self, places: Sequence[int], other: Sequence[int]) -> bool:
        """Whether crystals of one space group are copies of those of another."""
        if not self.promote or self.candidates[places[0]].protected:
            return False
        higher = {self.candidates[place].description.space_group for place in other}
        away = [p.distance_angstrom for place in places for p in self.near[place] if p.space_group in higher]
        if not away or self._is_lower(places, other):
            return False
        both_known = bool(self._energies(places) and self._energies(other))
        return min(away) <= (self.rule.reach_angstrom if both_known else self.rule.distance_angstrom)

    def _is_lower(self, places: Sequence[int], other: Sequence[int]) -> bool:
        """Whether the energy of some crystals is known to be lower than that of others by more than copies have."""
        energies, others = self._energies(places), self._energies(other)
        return bool(energies and others) and min(energies) < min(others) - self.rule.energy_ev

    def _energies(self, places: Sequence[int]) -> list[float]:
        energies = (self.candidates[place].energy_per_atom for place in places)
        return [energy for energy in energies if energy is not None]

    def _group(self, own: list[int], copies: list[int], family: Sequence[int]) -> Group:
        leader = self._leader(own)
        judged = {
            self.candidates[place].description.space_group
            for place in family
            if self.promote and self.candidates[place].energy_per_atom is not None
        }
        is_known = self.candidates[leader].energy_per_atom is not None
        limit = self.rule.reach_angstrom if is_known and self.promote else self.rule.distance_angstrom
        near = next(
            (p for p in self.near[leader] if p.distance_angstrom <= limit and p.space_group not in judged), None
        )
        promoted = near is not None and self.promote and not is_known
        return Group(leader, tuple(sorted(own + copies)), tuple(sorted(copies)), near, promoted)

    def _leader(self, own: Sequence[int]) -> int:
        if self.candidates[own[0]].protected:
            return own[0]
        with_energy = [place for place in own if self.candidates[place].energy_per_atom is not None]
        if with_energy:
            return min(with_energy, key=lambda place: (self.candidates[place].energy_per_atom, place))
        volumes = {place: volume_per_atom(self.candidates[place].description) for place in own}
        median = float(np.median(list(volumes.values())))
        return min(own, key=lambda place: round(abs(volumes[place] - median), 3))  # cubic angstrom
