"""Which crystals of a library are database copies of one: the measured cell and its DFT twin, and repeats.

Copies have the same formula, space group at 0.1 angstrom and number of atoms. Phases of one compound that differ in
symmetry (BaTiO3 as P4mm and Pm-3m) are never copies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from math import log
from typing import Any

from crystallm.crystal.description import Description, expand
from crystallm.crystal.matching.duplicates import group_duplicates
from crystallm.data.preparing.convert import skeleton
from crystallm.data.preparing.leakage import VOLUME_RATIO, close_numbers
from crystallm.data.templates.exact import volume_per_atom
from crystallm.tokenizer.layout import WYCKOFF

MEASURED_VOLUME_RATIO = 1.15
"""Largest ratio of the volumes of a measured crystal and its DFT twin; layered ones differ most."""


def mark_copies(rows: Sequence[dict[str, Any]]) -> int:
    """Write into the rows of a library, in place, of which other row each is a copy; return how many are.

    Two rows are copies if their texts agree closely (`compare.close_numbers`) or, where one is measured, if one is
    listed among the copies of the other or the structure matcher says so. The first of them stays: calculated before
    measured, because energies refer to calculated cells; then observed, then of lowest energy above the hull.

    Args:
        rows: rows of a library with all columns of `schema.SCHEMA`.

    Returns:
        The number of rows that are copies of others.
    """
    buckets: dict[tuple[str, int, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        row["copy_of"] = None
        buckets[row["formula"], row["space_group"], row["formula_units"]].append(row)
    count = 0
    for bucket in buckets.values():
        if len(bucket) > 1:
            count += _mark(sorted(bucket, key=_precedence))
    return count


def _precedence(row: dict[str, Any]) -> tuple[object, ...]:
    above = row["dft_above_hull"]
    return bool(row["measured"]), not row["observed"], above is None, above or 0, row["id"]


def _mark(bucket: list[dict[str, Any]]) -> int:
    """The rows of one formula, space group and size; those that come first stay."""
    descriptions: list[Description] = []
    for row in bucket:
        description = WYCKOFF.read(row["text"])
        assert isinstance(description, Description), row["id"]
        descriptions.append(description)
    skeletons = [skeleton(description) for description in descriptions]
    numbers = [_numbers(description) for description in descriptions]
    volumes = [volume_per_atom(description) for description in descriptions]
    count = 0
    for one, other in combinations(range(len(bucket)), 2):
        leader, row = bucket[one], bucket[other]
        if leader["copy_of"] is not None or row["copy_of"] is not None:
            continue
        ratio = abs(log(volumes[one] / volumes[other]))
        same = skeletons[one] == skeletons[other] and close_numbers(numbers[one], numbers[other])
        same = same and ratio <= log(VOLUME_RATIO)
        if not same and (leader["measured"] or row["measured"]) and ratio <= log(MEASURED_VOLUME_RATIO):
            same = _listed(leader, row) or _match(descriptions[one], descriptions[other])
        if same:
            row["copy_of"] = leader["id"]
            count += 1
    return count


def _numbers(description: Description) -> tuple[float, ...]:
    return (*description.cell, *(number for site in description.sites for number in site.free))


def _listed(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether one is named among the copies of the other."""
    return one["id"] in (other["copies"] or "").split() or other["id"] in (one["copies"] or "").split()


def _match(one: Description, other: Description) -> bool:
    return len(group_duplicates([expand(one).to_structure(), expand(other).to_structure()]).groups) == 1
