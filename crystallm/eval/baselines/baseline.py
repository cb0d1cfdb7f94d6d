"""`crystallm eval baseline`: samples that no model made, to be scored like any others."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element
from tqdm import tqdm

from crystallm.base.command_line import Command, Option
from crystallm.base.errors import ConfigError, InputError
from crystallm.base.provenance import output_folder, provenance, write_json
from crystallm.base.whole_file import whole_file
from crystallm.crystal.cell import Cell, Rejection, lattice_from_parameters
from crystallm.crystal.cif import read_cif
from crystallm.eval.baselines.substitution import SubstitutionLibrary
from crystallm.eval.benchmarking.score_command import choose_targets
from crystallm.eval.prediction.scoring import library_rows
from crystallm.eval.sets.benchmark import data_folder, load_benchmark
from crystallm.eval.sets.frames import plain_cif
from crystallm.eval.sets.targets import Target

Method = Literal["substitution", "random_positions", "random_template"]
METHODS: dict[Method, str] = {
    "substitution": "elements put into the chemically nearest training structures of the same kind",
    "random_positions": "random positions in a random cell of the expected volume",
    "random_template": "a random training structure with as many atoms of each kind as the stored cell, shuffled",
}
SHORTEST_PART = 0.5
"""Random positions are drawn again when nearer than this part of the diameter of an atom's volume."""

TRIES = 100
"""Draws of one random position before it is taken as it is."""


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    """Settings of a baseline."""

    method: Method = "substitution"
    """What the samples are made of."""
    n: Annotated[int, Option("-n")] = 20
    """Samples for each target."""
    seed: int = 0
    """Of the draws."""

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ConfigError(f"n must be >= 1, got {self.n}")


class Baseline:
    """Makes samples of one method out of training rows (id, cif, reduced_formula, n_sites)."""

    def __init__(self, rows: Sequence[dict[str, Any]], config: BaselineConfig) -> None:
        if not rows:
            raise InputError("the benchmark has no training rows; baselines need them")
        self._config = config
        self._library = SubstitutionLibrary(
            (str(row["id"]), str(row["reduced_formula"]), row["cif"], row.get("n_sites")) for row in rows
        )
        self._library.fit_volumes()
        self._by_sites: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for row in rows:
            self._by_sites[row.get("n_sites") or _sites(row["cif"])].append(row)

    def cells(self, target: Target) -> Iterator[tuple[Cell, str | None]]:
        """Crystals for a target, at most n, each with the id of the training row it was made from, if there is one.

        A target's draws depend on its id and the seed only.
        """
        rng = np.random.default_rng([self._config.seed, *target.id.encode()])
        if self._config.method == "substitution":
            for found in self._library.candidates(target.amounts, target.formula_units, most=self._config.n):
                yield found.cell, found.template_id
            return
        if self._config.method == "random_positions":
            numbers = self._numbers(target, target.formula_units)
            for _ in range(self._config.n):
                yield random_cell(numbers, self._volume(numbers), rng), None
        else:
            # The atoms of the stored cell: what diffusion models are given, and the random baseline of carbon_24.
            stored = target.n_sites // sum(amount for _, amount in target.amounts)
            numbers = self._numbers(target, stored)
            yield from self._templates(numbers, self._volume(numbers), rng)

    def _numbers(self, target: Target, formula_units: int) -> NDArray[np.int64]:
        return np.array(
            [Element(symbol).Z for symbol, amount in target.amounts for _ in range(amount * formula_units)],
            dtype=np.int64,
        )

    def _volume(self, numbers: NDArray[np.int64]) -> float:
        return float(self._library.atomic_volumes[numbers].sum())

    def _templates(
        self, numbers: NDArray[np.int64], volume: float, rng: np.random.Generator
    ) -> Iterator[tuple[Cell, str | None]]:
        amounts = sorted(np.unique(numbers, return_counts=True)[1].tolist())
        rows = self._by_sites[len(numbers)]
        made = 0
        for index in rng.permutation(len(rows)):
            cell = read_cif(rows[index]["cif"])
            if isinstance(cell, Rejection) or sorted(cell.amounts.values()) != amounts:
                continue
            yield shuffle_elements(cell, numbers, volume, rng), str(rows[index]["id"])
            made += 1
            if made == self._config.n:
                return


def _sites(cif: str) -> int:
    cell = read_cif(cif)
    return 0 if isinstance(cell, Rejection) else len(cell)


def shuffle_elements(cell: Cell, numbers: NDArray[np.int64], volume: float, rng: np.random.Generator) -> Cell:
    """A cell with its elements exchanged at random for those of `numbers`, as many of each, at another volume in A3."""
    places: dict[int, list[int]] = defaultdict(list)
    for element, count in zip(*np.unique(numbers, return_counts=True), strict=True):
        places[int(count)].append(int(element))
    mapping: dict[int, int] = {}
    for count, elements in places.items():
        old = [element for element, amount in cell.amounts.items() if amount == count]
        mapping |= dict(zip(old, rng.permutation(elements).tolist(), strict=True))
    exchanged = np.array([mapping[int(number)] for number in cell.numbers], dtype=np.int64)
    return Cell(cell.lattice * (volume / cell.volume) ** (1 / 3), cell.positions, exchanged)


def random_cell(numbers: NDArray[np.int64], volume: float, rng: np.random.Generator) -> Cell:
    """Atoms at random in a cell of random shape (lengths within a factor of 2, angles 60 to 120 degrees)."""
    lattice = lattice_from_parameters((*rng.uniform(1, 2, 3), *rng.uniform(60, 120, 3)))
    while abs(np.linalg.det(lattice)) < 0.3:
        lattice = lattice_from_parameters((*rng.uniform(1, 2, 3), *rng.uniform(60, 120, 3)))
    lattice = lattice * (volume / abs(np.linalg.det(lattice))) ** (1 / 3)
    shortest = SHORTEST_PART * (volume / len(numbers)) ** (1 / 3)
    positions: list[NDArray[np.float64]] = []
    for _ in numbers:
        for _ in range(TRIES):
            point = rng.uniform(size=3)
            difference = np.array(positions).reshape(-1, 3) - point
            difference -= np.round(difference)
            if not (np.linalg.norm(difference @ lattice, axis=1) < shortest).any():
                break
        positions.append(point)
    return Cell(lattice, np.array(positions), numbers)


def make_samples(
    name: str,
    config: BaselineConfig,
    *,
    out: Path,
    data: Path | None = None,
    benchmarks: Path | None = None,
    targets: Annotated[str, Option(metavar="N")] = "all",
    target_seed: int = 0,
) -> None:
    """Write OUT/samples.jsonl with the samples of a baseline for targets of a benchmark.

    Args:
        name: Benchmark, see `crystallm eval list`, or a .yaml file.
        out: Folder to write.
        data: Folder of data files (default: $CRYSTALLM_DATA).
        benchmarks: Folder of benchmark files (default: ours).
        targets: All, a number to draw, or a file.
        target_seed: Of the draw of targets.
    """
    benchmark = load_benchmark(name, benchmarks)
    if benchmark.train is None:
        raise InputError(f"{benchmark.name} names no training rows; baselines need them")
    data = data_folder(data)
    chosen = choose_targets(benchmark, data, targets, target_seed)
    baseline = Baseline(library_rows(benchmark.train, data), config)
    out = output_folder(out)
    with whole_file(out / "samples.jsonl") as partial, partial.open("w", encoding="utf-8") as file:
        for target in tqdm(chosen.targets, desc=config.method, unit="target", disable=None):
            for number, (cell, template) in enumerate(baseline.cells(target)):
                row = {"target_id": target.id, "sample": number, "template": template, "cif": plain_cif(cell)}
                file.write(json.dumps(row) + "\n")
    inputs = [data / name for name in (*benchmark.rows.files, *benchmark.train.files)]
    write_json(out / "baseline.json", {"targets": len(chosen.targets), "provenance": provenance(config, inputs=inputs)})
    print(f"{METHODS[config.method]}: {out / 'samples.jsonl'}")


main = Command(make_samples, "crystallm eval baseline")
