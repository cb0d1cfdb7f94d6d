"""Structure types: has training seen the prototype of a target? Anonymous formula, space group, Wyckoff letters."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tqdm import tqdm

from crystallm.base.whole_file import cannot_write
from crystallm.base.workers import Lost, run_limited
from crystallm.crystal.cell import Rejection
from crystallm.crystal.cif import read_cif
from crystallm.crystal.description import Description, describe
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.energy.journal import open_to_append
from crystallm.eval.sets.targets import Target

SEEN, UNSEEN, NO_SYMMETRY, UNDECIDED = "seen", "unseen", "no symmetry found", "undecided"


def prototype(description: Description) -> str:
    """Name of a structure type: space group, and for each element, in any order, its amount and Wyckoff letters.

    Letters are those of the canonical description, so that the choice of origin does not matter. Rutile: `136 1:a 2:f`.
    """
    letters: dict[str, str] = {}
    for site in description.sites:
        letters[site.element] = letters.get(site.element, "") + site.letter
    elements = sorted(f"{amount}:{''.join(sorted(letters[symbol]))}" for symbol, amount in description.amounts)
    return " ".join([str(description.space_group), *elements])


def prototype_of_cif(cif: str) -> str | None:
    """The structure type of a crystal as CIF text at 0.1 angstrom; None where none is found."""
    cell = read_cif(cif)
    description = cell if isinstance(cell, Rejection) else describe(cell)
    return None if isinstance(description, Rejection) else prototype(description)


def seen_prototypes(
    targets: Sequence[Target],
    rows: Sequence[dict[str, Any]],
    *,
    workers: int,
    time_limit_s: float,
    cache: Path,
) -> dict[str, str]:
    """Target id -> seen or unseen among training rows (id, cif, reduced_formula, spacegroup_number).

    Undecided are targets whose prototype was not found where a row that may have it ran out of time.

    Only rows of a target's anonymous formula and space group can hold its prototype, and only until one does; of these
    the structure type is determined and kept in `cache` (JSONL), which the caller names after the rows. Where a row has
    no spacegroup_number, its formula alone decides whether it is looked at.
    """
    wanted = {t.id: prototype(t.description) for t in targets if not isinstance(t.description, Rejection)}
    pending: dict[Kind, set[str]] = defaultdict(set)
    for target in targets:
        if target.id in wanted:
            formula = _anonymous(target.amounts)
            pending[formula, target.space_group].add(wanted[target.id])
            pending[formula, None].add(wanted[target.id])
    known = dict(_read(cache))
    seen = {known.get(str(row["id"])) for row in rows}
    asked: list[tuple[str, Kind]] = []
    lost: set[Kind] = set()

    def open_rows() -> Iterator[str]:
        """CIFs of rows that may still decide something when their turn comes."""
        for row in rows:
            kind = _anonymous_of(str(row["reduced_formula"])), row.get("spacegroup_number")
            if kind in pending and str(row["id"]) not in known and not pending[kind] <= seen:
                asked.append((str(row["id"]), kind))
                yield row["cif"]

    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with open_to_append(cache) as file:
            found = run_limited(prototype_of_cif, open_rows(), workers=workers, time_limit_s=time_limit_s)
            for place, label in tqdm(found, desc="training prototypes", unit=" rows", disable=None):
                name, kind = asked[place]
                if isinstance(label, Lost):  # it is asked again by the next run
                    lost.add(kind)
                    continue
                seen.add(label)
                file.write(json.dumps([name, label]) + "\n")
    except OSError as error:
        raise cannot_write(cache, error) from error

    def part(target: Target) -> str:
        if target.id not in wanted:
            return NO_SYMMETRY
        formula = _anonymous(target.amounts)
        is_open = bool({(formula, target.space_group), (formula, None)} & lost)
        return SEEN if wanted[target.id] in seen else UNDECIDED if is_open else UNSEEN

    return {target.id: part(target) for target in targets}


Kind = tuple[tuple[int, ...], int | None]
"""Anonymous formula and space group of a row; None where the row does not name its group."""


def _anonymous(amounts: Sequence[tuple[str, int]]) -> tuple[int, ...]:
    return tuple(sorted(amount for _, amount in amounts))


@lru_cache(maxsize=100_000)
def _anonymous_of(formula: str) -> tuple[int, ...]:
    return _anonymous(parse_formula(formula))


def _read(cache: Path) -> Iterator[tuple[str, str | None]]:
    if cache.exists():
        for line in cache.read_text(encoding="utf-8").splitlines():
            try:
                name, label = json.loads(line)
            except ValueError:  # the last line of a killed run
                continue
            yield name, label
