"""What a potential is: energies, forces and stress of crystals, or a reason why it gives none."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crystallm.base.errors import ConfigError
from crystallm.crystal.cell import Cell

CHGNET = "chgnet"
"""Deng et al., Nature Machine Intelligence 5, 1031 (2023); weights (0.3.0) travel in its wheel; BSD-3 licence."""

SEVENN = "sevenn"
"""SevenNet-0: Park et al., J. Chem. Theory Comput. 20, 4857 (2024); weights travel in its wheel; MIT licence."""


@dataclass(frozen=True)
class NoEnergy:
    """Why there is no energy; `reason` is short and countable, `detail` is for people."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a potential says of a cell: energy in eV/atom, forces (N, 3) in eV/angstrom, stress (3, 3) in eV/A^3.

    Stress is the derivative of the energy by strain over the volume: positive where the crystal wants to shrink.
    """

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]


class Potential(Protocol):
    """Anything that gives energies of crystals. Cells it cannot judge get a reason, never a number."""

    @property
    def name(self) -> str:
        """Name and version; energies of different names are not compared."""

    def energies(self, cells: Sequence[Cell]) -> list[float | NoEnergy]:
        """Energies in eV/atom of cells as they are, in order."""

    def evaluate(self, cell: Cell) -> Evaluation | NoEnergy:
        """Energy, forces and stress of a cell as it is."""


def require(name: str) -> None:
    """Raise ConfigError, naming the remedy, unless the potential `name` is installed."""
    if name == CHGNET:
        if importlib.util.find_spec("chgnet") is None:
            raise ConfigError(
                "the potential chgnet is not installed; run `pip install crystallm[energy]` with a Python below 3.13 "
                "(there are no wheels for later ones), or name another potential"
            )
        return
    if name == SEVENN:
        if importlib.util.find_spec("sevenn") is None:
            raise ConfigError("the potential sevenn is not installed; run `pip install crystallm[sevenn]`")
        return
    module, colon, attribute = name.partition(":")
    if not colon or not attribute:
        raise ConfigError(f"unknown potential {name!r}; give chgnet, sevenn or package.module:callable")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise ConfigError(
            f"cannot import the potential {name!r}: {error}; install its package, or set PYTHONPATH to its folder"
        ) from error
    if not callable(found):
        raise ConfigError(f"{module} has no callable {attribute!r}; give package.module:callable")


def identity(name: str) -> str:
    """Name and version of the package a potential comes from: energies of different versions are not mixed."""
    package = name if name in (CHGNET, SEVENN) else name.partition(".")[0].partition(":")[0]
    try:
        return f"{name} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return name
