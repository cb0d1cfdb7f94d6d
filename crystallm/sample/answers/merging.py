"""One crystal out of equal ones: draws of a known crystal, and copies written in a lower space group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from crystallm.crystal.copies.merging import Candidate, Group, merge_copies
from crystallm.crystal.description import Description
from crystallm.crystal.symmetry import space_group_symbol
from crystallm.sample.crystal import Crystal, EnergyRecord, by_draw

Evaluated = tuple[Description, EnergyRecord]
"""A crystal of higher symmetry that was relaxed for its copies, and its energy."""


def candidates(crystals: Sequence[Crystal]) -> list[Candidate]:
    """Crystals as the merging sees them; known ones are joined by others and join none.

    Energies are compared at one stage: where drawn crystals were relaxed, that of a crystal that was not is unknown.
    """
    records = [crystal.energy or EnergyRecord("") for crystal in crystals]
    relaxed = any(
        crystal.known is None and record.relaxed is not None for crystal, record in zip(crystals, records, strict=True)
    )
    return [
        Candidate(
            crystal.description,
            record.relaxed if relaxed else record.lowest,
            protected=crystal.known is not None,
        )
        for crystal, record in zip(crystals, records, strict=True)
    ]


def merged(crystals: Sequence[Crystal], *, promote: bool, parents: Sequence[Evaluated] = ()) -> list[Crystal]:
    """Crystals of one formula with equal ones and copies made one.

    Args:
        crystals: in the order of preference.
        promote: whether a copy is shown in the higher symmetry; False where the space group was given: then what
            nearly has a higher symmetry is flagged.
        parents: crystals of higher symmetry that were evaluated for their copies.

    Returns:
        One crystal for each group, with the draws of all its members.
    """
    added = [Candidate(description, energy.lowest, added=True) for description, energy in parents]
    groups = merge_copies([*candidates(crystals), *added], promote=promote)
    found = [(_one(group, crystals, parents), group.undecided) for group in groups]
    return [crystal.uncompared() if undecided else crystal for crystal, undecided in found]


def _one(group: Group, crystals: Sequence[Crystal], parents: Sequence[Evaluated]) -> Crystal:
    own = [crystals[place] for place in group.members if place < len(crystals)]
    best = min(own, key=by_draw)  # the draw that stands for all
    count = sum(crystal.count for crystal in own)
    if group.leader >= len(crystals):
        description, energy = parents[group.leader - len(crystals)]
        return replace(best, description=description, energy=energy, count=count, flags=(*best.flags, _raised(best)))
    leader = replace(crystals[group.leader], attempt=best.attempt, count=count)
    if group.parent is None:
        return leader
    if not group.promoted:
        return replace(leader, flags=(*leader.flags, f"nearly {space_group_symbol(group.parent.space_group)}"))
    shown = group.parent.description
    assert isinstance(shown, Description)  # parents that cannot be described are no candidates
    return replace(leader, description=shown, flags=(*leader.flags, _raised(leader)))


def _raised(crystal: Crystal) -> str:
    return f"drawn as {crystal.space_group}"
