"""Fits how like each other elements are: `python -m studies.tables.fit_similarity PREPARED OUT.json`.

Each training crystal is looked for among the others of its kind of formula, those of its own formula left out: the
weights exp(-distance) of the crystals that have its prototype with the elements exchanged, of all weights, are the
probability of finding it. The points of the elements, and how much an element counts by its share of the atoms, are
those of highest probability (neighbourhood components analysis). The volumes of the elements are fitted along with
them: how the volume of an atom changes from a crystal to one of the same prototype.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pymatgen.core import Element

from crystallm.base.errors import ConfigError, InputError
from crystallm.base.provenance import provenance, write_json
from crystallm.crystal.cell import Rejection, lattice_from_parameters
from crystallm.crystal.description import Description, letter_map
from crystallm.crystal.formulas.composition import element_order, symbol_of
from crystallm.crystal.formulas.element_similarity import N_ELEMENTS, SOFT, Kind, exchanges, kind_of
from crystallm.crystal.wyckoff import space_group
from crystallm.tokenizer.layout import get_layout

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SimilarityConfig:
    """Settings of the fit."""

    dimensions: int = 16
    steps: int = 2000
    learning_rate: float = 0.02
    """At the start; it falls to nothing."""
    targets: int = 32
    """Crystals looked for in a step."""
    pairs: int = 6000
    """Crystals times exchanges of elements among which they are looked for, at most."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("dimensions", "steps", "targets", "pairs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")


Labels = dict[tuple[int, int, tuple[str, ...]], int]
"""A number for each prototype: formula units, space group, and the letters of each element in the order of the kind."""

LOST = 0.1 * 0.02
"""Added to nine tenths of the probability: a crystal whose prototype is nowhere else costs its logarithm at most."""


class Group:
    """The crystals of one kind of formula."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.orders = np.array(exchanges(kind))
        self._rows: list[tuple[list[int], int, list[int], float]] = []

    def add(self, crystal: Description, elements: Sequence[str], labels: Labels) -> None:
        """Take in a crystal; `elements` in the order of the kind."""
        letters = ["".join(sorted(s.letter for s in crystal.sites if s.element == element)) for element in elements]
        numbers = []
        for order in self.orders:
            key = _canonical(crystal.space_group, tuple(letters[place] for place in order))
            numbers.append(labels.setdefault((crystal.formula_units, crystal.space_group, key), len(labels)))
        atoms = crystal.n_sites * space_group(crystal.space_group).centring_order
        volume = abs(float(np.linalg.det(lattice_from_parameters(crystal.cell)))) / atoms
        self._rows.append(([element_order(e)[1] for e in elements], crystal.formula_units, numbers, math.log(volume)))

    def close(self) -> None:
        """Make arrays of what was taken in."""
        self.elements = np.array([row[0] for row in self._rows])
        """Atomic numbers (N, K)."""
        self.units = np.array([row[1] for row in self._rows])
        self.prototypes = np.array([row[2] for row in self._rows])
        """Numbers (N, P) of the prototypes, for each exchange of elements."""
        self.log_volumes = np.array([row[3] for row in self._rows])
        """Of an atom (N,)."""

    def __len__(self) -> int:
        return len(self._rows)


@cache
def _letter_maps(number: int) -> list[dict[str, str]]:
    found = {tuple(sorted(letter_map(number, which).items())) for which in range(len(space_group(number).normalizer))}
    return [dict(items) for items in sorted(found)]


@lru_cache(maxsize=1_000_000)
def _canonical(number: int, letters: tuple[str, ...]) -> tuple[str, ...]:
    """The first of all equivalent letters of a space group."""
    moved = (tuple("".join(sorted(one[x] for x in slot)) for slot in letters) for one in _letter_maps(number))
    return min(moved)


def read_groups(texts: Iterable[str], layout: str) -> list[Group]:
    """Crystals by kind; kinds of a single crystal and of more than five elements are left out."""
    reader, labels = get_layout(layout), Labels()
    groups: dict[Kind, Group] = {}
    for text in texts:
        crystal = reader.read(text)
        if isinstance(crystal, Rejection):
            raise InputError(f"a text holds no crystal ({crystal}); prepare the data again")
        kind, elements = kind_of(crystal.amounts)
        if len(kind) <= 5:
            groups.setdefault(kind, Group(kind)).add(crystal, elements, labels)
    found = [group for _, group in sorted(groups.items()) if len(group) > 1]
    for group in found:
        group.close()
    return found


class Fit(torch.nn.Module):
    """What is fitted."""

    def __init__(self, config: SimilarityConfig) -> None:
        super().__init__()
        start = torch.from_numpy(_first_points(config)).float()
        self.points = torch.nn.Parameter(start)
        self.amount_power = torch.nn.Parameter(torch.tensor(0.3))
        self.log_volumes = torch.nn.Parameter(torch.full((N_ELEMENTS,), math.log(16.0)))

    def forward(self, group: Group, targets: NDArray[np.int64], among: NDArray[np.int64]) -> tuple[Any, Any]:
        """Distances and errors of the logarithm of the volume, (T, N, P)."""
        own, others = torch.from_numpy(group.elements[targets]), torch.from_numpy(group.elements[among])
        shares = torch.tensor(group.kind, dtype=torch.float32) / sum(group.kind)
        weights = shares**self.amount_power
        weights = weights * math.sqrt(len(weights)) / weights.sum()
        squares = (self.points[own][:, None, :, None] - self.points[others][None, :, None]).square().sum(-1)
        apart = torch.sqrt(squares + SOFT)  # (T, N, K, K)
        distances = sum(
            weight * apart[:, :, place][:, :, group.orders[:, place]] for place, weight in enumerate(weights)
        )
        sums = [(self.log_volumes.exp()[elements] * shares).sum(-1).log() for elements in (own, others)]
        known = [torch.from_numpy(group.log_volumes[rows]).float() for rows in (targets, among)]
        # An exchange gives an element the amount of the other, which is its own: volumes do not depend on it.
        errors = (known[0] - sums[0])[:, None] - (known[1] - sums[1])[None]
        return distances, errors[..., None].expand_as(distances)


def _first_points(config: SimilarityConfig) -> NDArray[np.float64]:
    """Electronegativity, radius, column, row and block of each element, then small random numbers."""
    points = np.random.default_rng(config.seed).normal(scale=0.04, size=(N_ELEMENTS, config.dimensions))
    for number in range(1, N_ELEMENTS):
        element = Element(symbol_of(number))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pymatgen warns where it knows no value
            negativity = element.X
            radius = element.atomic_radius or element.atomic_radius_calculated
        known = [
            2.0 * (negativity if negativity == negativity else 1.5),
            2.0 * float(radius or 1.5),
            2.0 * element.group / 18,
            element.row / 7,
            0.6 * (element.block == "f"),
            0.6 * (element.block == "d"),
        ]
        room = min(len(known), config.dimensions)
        points[number, :room] = known[:room]
    return points


def fit(model: Fit, groups: Sequence[Group], config: SimilarityConfig) -> Iterator[float]:
    """Fit the model; the mean logarithm of the probability of finding a crystal, at each step."""
    random = np.random.default_rng(config.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    sizes = np.array([len(group) for group in groups])
    for step in range(config.steps):
        for options in optimizer.param_groups:
            options["lr"] = config.learning_rate * (1 - step / config.steps)
        group = groups[int(random.choice(len(groups), p=sizes / sizes.sum()))]
        rows = np.arange(len(group))
        if random.random() < 0.7:  # mostly the formula units are given, as to a prompt that names them
            rows = np.flatnonzero(group.units == random.choice(group.units))
        rows = random.permutation(rows)[: max(2, config.pairs // len(group.orders))]
        targets = rows[: config.targets]
        formulas = np.sort(group.elements)
        same = (formulas[targets][:, None] == formulas[rows][None]).all(-1)
        if same.all():
            continue
        targets, same = targets[~same.all(1)], same[~same.all(1)]
        distances, errors = model(group, targets, rows)
        distances = distances + 1e4 * torch.from_numpy(same)[..., None]
        weights = torch.softmax(-distances.flatten(1), dim=1).view_as(distances)
        right = weights * torch.from_numpy(group.prototypes[rows][None] == group.prototypes[targets, :1, None])
        found = torch.log(0.9 * right.sum((1, 2)) + LOST).mean()
        pairs = right.detach()
        loss = -found + 10.0 * (pairs * errors.abs()).sum() / (pairs.sum() + 1e-3) + 1e-5 * model.points.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield float(found.detach())


def main(argv: list[str]) -> None:
    """Fit the similarity of elements to the crystals of PREPARED/train.parquet."""
    parser = argparse.ArgumentParser(prog="python -m studies.tables.fit_similarity", description=main.__doc__)
    parser.add_argument("prepared", type=Path, help="folder made by `crystallm data prepare`")
    parser.add_argument("out", type=Path, help="file to write, JSON")
    parser.add_argument("--steps", type=int, default=SimilarityConfig.steps)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    config = SimilarityConfig(steps=options.steps, seed=options.seed)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    file = options.prepared / "train.parquet"
    groups = read_groups(pq.read_table(file, columns=["text"])["text"].to_pylist(), "wyckoff")
    logger.info("%d crystals of %d kinds of formula", sum(map(len, groups)), len(groups))
    recent: list[float] = []
    model = Fit(config)
    for step, found in enumerate(fit(model, groups, config), start=1):
        recent = [*recent[-199:], found]
        if step % 200 == 0:
            logger.info("step %d of %d: log-probability %.3f", step, config.steps, sum(recent) / len(recent))
    values = {
        "points": model.points.detach().double().numpy().round(4).tolist(),
        "amount_power": round(float(model.amount_power.detach()), 4),
        "volumes": model.log_volumes.detach().double().exp().numpy().round(3).tolist(),
        "provenance": provenance(config, inputs=[file]),
    }
    write_json(options.out, values)


if __name__ == "__main__":
    main(sys.argv[1:])
