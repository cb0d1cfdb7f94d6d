"""Relaxations that a run has finished, kept in its folder, so that the same command does not make them again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from crystallm.crystal.description import Description
from crystallm.energy.journal import Journal
from crystallm.energy.potentials.protocol import NoEnergy
from crystallm.energy.relaxation.race import RaceSettings
from crystallm.energy.relaxation.relaxation import Relaxed, Stopped

FILE = "energies.jsonl"


class KeptRelaxations:
    """Relaxations by crystal, potential and settings; with a file they outlast the run.

    Args:
        folder: of the run; None keeps them in memory only.
        potential: name and version.
        settings: of the race.

    Raises:
        InputError: the file cannot be read.
    """

    def __init__(self, folder: Path | None, potential: str, settings: RaceSettings) -> None:
        self._journal = None if folder is None else Journal(folder / FILE)
        self._label = f"{potential} {settings}"

    def find(self, description: Description) -> Relaxed | NoEnergy | None:
        """What was found for a crystal before; None if nothing was."""
        value = None if self._journal is None else self._journal.values.get(self._key(description))
        return None if value is None else _read(value, description)

    def keep(self, description: Description, result: Relaxed | NoEnergy) -> None:
        """Write a result to the file at once; what was cut short is not kept."""
        if self._journal is None or (isinstance(result, Relaxed) and result.stopped is Stopped.INTERRUPTED):
            return
        with self._journal:
            self._journal.add(self._key(description), _written(result))

    def _key(self, description: Description) -> str:
        return hashlib.sha256(f"{self._label} {description}".encode()).hexdigest()[:32]


def _written(result: Relaxed | NoEnergy) -> dict[str, Any]:
    if isinstance(result, NoEnergy):
        return asdict(result)
    numbers = asdict(replace(result, before=result.after))
    del numbers["before"], numbers["after"]
    free = [list(site.free) for site in result.after.sites]
    return numbers | {"cell": list(result.after.cell), "free": free}


def _read(value: Mapping[str, Any], before: Description) -> Relaxed | NoEnergy:
    if "reason" in value:
        return NoEnergy(**value)
    numbers = dict(value)
    cell, free = numbers.pop("cell"), numbers.pop("free")
    sites = tuple(replace(site, free=tuple(own)) for site, own in zip(before.sites, free, strict=True))
    after = replace(before, cell=tuple(cell), sites=sites)
    return Relaxed(before=before, after=after, **numbers | {"stopped": Stopped(numbers["stopped"])})
