"""Crystals relaxed a second, ours beside chgnet's own optimiser and FIRE over all atoms.

`python -m studies.bench.relaxing`
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crystallm.base import markdown
from crystallm.base.errors import ConfigError
from crystallm.cli import run_program
from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.description import describe, expand
from crystallm.crystal.symmetry import primitive
from crystallm.energy.potentials.ase_potential import calculator
from crystallm.energy.potentials.by_name import load_potential
from crystallm.energy.potentials.protocol import CHGNET, NoEnergy, require
from crystallm.energy.relaxation import fire
from crystallm.energy.relaxation.relaxation import RelaxationSettings, relax_all
from crystallm.tokenizer.layout import get_layout

OURS = "crystallm.energy, all side by side"
ALONE = "crystallm.energy, one by one"
OPTIMIZER = "chgnet StructOptimizer, primitive cell"
FIRE = "FIRE over all atoms, conventional cell"

AGREEMENT = 0.002
"""eV/atom: energies that are no further above another way's are as good."""

STRUCT_OPTIMIZER_STEPS = 500
"""The default of chgnet's optimiser."""


@dataclass(frozen=True)
class Timing:
    """One way of relaxing: final energies in eV/atom by place, None where there is none."""

    way: str
    energies: list[float | None]
    converged: int
    evaluations: int | None
    cpu_seconds: float
    wall_seconds: float

    def no_higher_than(self, other: Timing) -> int:
        """Crystals that end at most 2 meV/atom above where the other way ends; without an energy they do not."""
        pairs = zip(self.energies, other.energies, strict=True)
        return sum(own is not None and (its is None or own <= its + AGREEMENT) for own, its in pairs)


def main(argv: list[str]) -> None:
    """Relax the same draws with each way, one after the other in one process and on one thread."""
    parser = argparse.ArgumentParser(prog="python -m studies.bench.relaxing", description=main.__doc__)
    parser.add_argument("-n", "--number", type=int, metavar="N", help="take the first draws only (default: all 64)")
    parser.add_argument("--max-force", type=float, default=0.05, metavar="F", help="eV/angstrom (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures here")
    options = parser.parse_args(argv)
    if options.number is not None and options.number < 1:
        raise ConfigError(f"-n must be >= 1, got {options.number}")
    require(CHGNET)
    import torch

    torch.set_num_threads(1)
    settings = RelaxationSettings(max_force=options.max_force)
    cells = read_draws()[: options.number]
    timings = list(measure(cells, settings).values())
    print(table(timings))
    if options.json:
        from crystallm.base.provenance import provenance, write_json

        write_json(
            options.json, {"timings": [asdict(timing) for timing in timings], "provenance": provenance(settings)}
        )


def read_draws() -> list[Cell]:
    """The conventional cells of 64 draws, four of each of 16 formulas, as `crystallm sample` made them at e9df87b."""
    layout = get_layout()
    cells = []
    for line in Path(__file__).with_name("relax_draws.jsonl").read_text(encoding="utf-8").splitlines():
        description = layout.read(json.loads(line)["text"])
        assert not isinstance(description, Rejection), description
        cells.append(expand(description))
    return cells


def measure(cells: Sequence[Cell], settings: RelaxationSettings) -> dict[str, Timing]:
    """Each way on the same cells, after one crystal that nobody times."""
    ways: dict[str, Callable[[Sequence[Cell]], list[Any]]] = {
        OURS: lambda some: _ours(some, settings),
        ALONE: lambda some: [found for cell in some for found in _ours([cell], settings)],
        OPTIMIZER: lambda some: _struct_optimizer(some, settings),
        FIRE: lambda some: _fire(some, settings),
    }
    timings = {}
    for way, relax in ways.items():
        relax(cells[:1])  # loads weights and tables
        cpu, wall = time.process_time(), time.perf_counter()
        found = relax(cells)
        seconds = time.process_time() - cpu, time.perf_counter() - wall
        outcomes = [None if isinstance(one, NoEnergy) else one for one in found]
        timings[way] = Timing(
            way,
            [None if one is None else one.energy for one in outcomes],
            sum(one is not None and one.converged for one in outcomes),
            sum(one.evaluations for one in outcomes if one is not None) if way in (OURS, ALONE) else None,
            *seconds,
        )
    return timings


@dataclass(frozen=True)
class _Ended:
    """Energy in eV/atom where another way ends."""

    energy: float
    converged: bool


def _ours(cells: Sequence[Cell], settings: RelaxationSettings) -> list[Any]:
    described = [describe(cell) for cell in cells]
    crystals = [one for one in described if not isinstance(one, Rejection)]
    assert len(crystals) == len(cells), "every draw has a description"
    return list(relax_all(crystals, load_potential(CHGNET), settings))


def _struct_optimizer(cells: Sequence[Cell], settings: RelaxationSettings) -> list[Any]:
    from chgnet.model.dynamics import StructOptimizer

    found = []
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # it greets on stdout
        warnings.simplefilter("ignore")
        optimizer = StructOptimizer(use_device="cpu")
        for cell in cells:
            structure = primitive(cell).to_structure()
            done = optimizer.relax(structure, fmax=settings.max_force, steps=STRUCT_OPTIMIZER_STEPS, verbose=False)
            path = done["trajectory"]
            found.append(
                _Ended(float(np.ravel(path.energies[-1])[0]) / len(structure), len(path) <= STRUCT_OPTIMIZER_STEPS)
            )
    return found


def _fire(cells: Sequence[Cell], settings: RelaxationSettings) -> list[Any]:
    return [fire.relax(cell, calculator(CHGNET), settings) for cell in cells]


def table(timings: Sequence[Timing]) -> str:
    """The timings for people, as Markdown; ratios are those of crystals a second of CPU time."""
    head = ["way", "crystals", "converged", "evaluations", "CPU s", "wall s", "crystals a CPU second"]
    references = [timing for timing in timings if timing.way in (OPTIMIZER, FIRE)]
    head += [f"x {timing.way.split(',')[0]}" for timing in references]
    head += [f"at most 2 meV/atom above {timing.way.split(',')[0]}" for timing in references]
    lines = []
    for timing in timings:
        count = len(timing.energies)
        numbers = [timing.way, count, timing.converged, "" if timing.evaluations is None else timing.evaluations]
        numbers += [f"{timing.cpu_seconds:.1f}", f"{timing.wall_seconds:.1f}", f"{count / timing.cpu_seconds:.2f}"]
        numbers += [f"{other.cpu_seconds / timing.cpu_seconds:.1f}" for other in references]
        numbers += [f"{timing.no_higher_than(other)}/{count}" for other in references]
        lines.append(tuple(numbers))
    return markdown.table(tuple(head), lines)


if __name__ == "__main__":
    run_program(main)
