"""The untrained baseline: put the elements of a formula into known structures of the same kind of formula.

A template is a training structure with the same anonymous formula (TiO2 -> AB2) and the same number of formula units in
the primitive cell. Its elements are replaced by those of the target, amounts kept; templates are ranked by how similar
the exchanged elements are; the volume is rescaled by the atomic volumes of the elements. A model that does not beat
this has learned nothing useful.
"""

from __future__ import annotations

import itertools
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element

from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.cif import read_cif
from crystallm.crystal.description import describe
from crystallm.crystal.formulas.composition import parse_formula

Amounts = tuple[tuple[str, int], ...]

N_ELEMENTS = 119
RADIUS_WEIGHT_PER_ANGSTROM = 1.0
"""What an angstrom of atomic radius counts beside one unit of Pauling electronegativity."""

TEMPLATES_EXAMINED = 200
"""The nearest templates of which distinct prototypes are chosen for one target."""


@dataclass(frozen=True)
class Candidate:
    """A crystal proposed for a target, the template it was made from, and its chemical distance (lower is nearer)."""

    cell: Cell
    template_id: str
    distance: float


@dataclass(frozen=True)
class _Prototype:
    formula_units: int
    label: tuple[int, tuple[tuple[str, str], ...]]
    """Space group and sorted (element, Wyckoff letter): what two templates of the same structure type share."""


def anonymous(amounts: Amounts) -> tuple[int, ...]:
    """The amounts of a reduced formula in ascending order: (1, 2) for TiO2."""
    return tuple(sorted(amount for _, amount in amounts))


class SubstitutionLibrary:
    """Training structures by anonymous formula; symmetry is only determined for those that a target asks for."""

    def __init__(self, rows: Iterable[tuple[str, str, str, int | None]]) -> None:
        """Rows are (id, reduced formula, CIF text, number of atoms in the cell of the CIF if known)."""
        self._ids: list[str] = []
        self._cifs: list[str] = []
        self._sites: list[int | None] = []
        self._cells: dict[int, Cell | None] = {}
        self._prototypes: dict[int, _Prototype | None] = {}
        amounts_of: dict[tuple[int, ...], list[Amounts]] = defaultdict(list)
        rows_of: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for name, formula, cif, n_sites in rows:
            amounts = parse_formula(formula)
            kind = anonymous(amounts)
            rows_of[kind].append(len(self._ids))
            amounts_of[kind].append(tuple(sorted(amounts, key=lambda pair: pair[1])))
            self._ids.append(name)
            self._cifs.append(cif)
            self._sites.append(n_sites)
        self._rows = {kind: np.array(rows) for kind, rows in rows_of.items()}
        self._elements = {
            kind: np.array([[Element(symbol).Z for symbol, _ in amounts] for amounts in found])
            for kind, found in amounts_of.items()
        }
        """Atomic numbers (templates, elements), columns in ascending order of amounts."""
        self._similarity = _element_distances()

    def __len__(self) -> int:
        return len(self._ids)

    def fit_volumes(self, *, most: int = 20000, seed: int = 0) -> None:
        """Least-squares volume of each element in cubic angstrom per atom, from a random part of the library."""
        chosen = np.random.default_rng(seed).permutation(len(self))[:most]
        counts = np.zeros((len(chosen), N_ELEMENTS))
        volumes = np.zeros(len(chosen))
        for row, index in enumerate(chosen):
            cell = self._cell(int(index))
            if cell is not None:
                for number, count in cell.amounts.items():
                    counts[row, number] = count / len(cell)
                volumes[row] = cell.volume / len(cell)
        # A little ridge towards the mean keeps elements that are rare in the library sensible.
        mean = volumes[volumes > 0].mean()
        ridge = np.eye(N_ELEMENTS)
        solution = np.linalg.lstsq(
            np.vstack([counts, ridge]), np.concatenate([volumes, np.full(N_ELEMENTS, mean)]), rcond=None
        )[0]
        self.atomic_volumes: NDArray[np.float64] = np.maximum(solution, 2.0)

    def candidates(self, amounts: Amounts, formula_units: int, *, most: int = 20) -> list[Candidate]:
        """Up to `most` crystals for a target, nearest template first: one per prototype, then the other templates."""
        kind = anonymous(amounts)
        if kind not in self._rows:
            return []
        columns, distances = self._rank(kind, amounts)
        order = np.argsort(distances, axis=None, kind="stable")
        distinct: list[Candidate] = []
        repeated: list[Candidate] = []
        seen: set[object] = set()
        examined = 0
        for flat in order:
            template, assignment = divmod(int(flat), len(columns))
            index = int(self._rows[kind][template])
            if (self._sites[index] or 0) % (formula_units * sum(kind)):  # no multiple of a primitive cell of this size
                continue
            prototype = self._prototype(index)
            if prototype is None or prototype.formula_units != formula_units:
                continue
            examined += 1
            mapping = dict(zip(self._elements[kind][template].tolist(), columns[assignment], strict=True))
            symbols = {Element.from_Z(old).symbol: new for old, new in mapping.items()}
            label = (prototype.label[0], tuple(sorted((symbols[e], letter) for e, letter in prototype.label[1])))
            if label not in seen or len(repeated) < most:
                candidate = self._substitute(index, mapping, float(distances[template, assignment]))
                (repeated if label in seen else distinct).append(candidate)
                seen.add(label)
            if len(distinct) >= most or examined >= TEMPLATES_EXAMINED:
                break
        return [*distinct, *repeated][:most]

    def _rank(self, kind: tuple[int, ...], amounts: Amounts) -> tuple[list[tuple[int, ...]], NDArray[np.float64]]:
        """Assignments of the target's elements to the columns, and distances (templates, assignments)."""
        ordered = sorted(amounts, key=lambda pair: pair[1])
        groups = [list(group) for _, group in itertools.groupby(ordered, key=lambda pair: pair[1])]
        shuffled = (itertools.permutations([Element(symbol).Z for symbol, _ in group]) for group in groups)
        columns = [tuple(itertools.chain(*parts)) for parts in itertools.product(*shuffled)]
        old = self._elements[kind]
        weights = np.array(kind, dtype=float) / sum(kind)
        distances = np.stack([(self._similarity[old, np.array(new)] * weights).sum(axis=1) for new in columns], axis=1)
        return columns, distances

    def _substitute(self, index: int, mapping: dict[int, int], distance: float) -> Candidate:
        cell = self._cell(index)
        assert cell is not None
        numbers = np.array([mapping[int(number)] for number in cell.numbers])
        ratio = self.atomic_volumes[numbers].sum() / self.atomic_volumes[cell.numbers].sum()
        return Candidate(Cell(cell.lattice * ratio ** (1 / 3), cell.positions, numbers), self._ids[index], distance)

    def _cell(self, index: int) -> Cell | None:
        if index not in self._cells:
            cell = read_cif(self._cifs[index])
            self._cells[index] = None if isinstance(cell, Rejection) else cell
        return self._cells[index]

    def _prototype(self, index: int) -> _Prototype | None:
        if index not in self._prototypes:
            cell = self._cell(index)
            description = None if cell is None else describe(cell)
            if description is None or isinstance(description, Rejection):
                self._prototypes[index] = None
            else:
                sites = tuple(sorted((site.element, site.letter) for site in description.sites))
                self._prototypes[index] = _Prototype(description.formula_units, (description.space_group, sites))
        return self._prototypes[index]


def _element_distances() -> NDArray[np.float64]:
    """Distance of two elements by atomic number: electronegativity (Pauling) plus radius; unknown ones are far."""
    electronegativity = np.full(N_ELEMENTS, np.nan)
    radius = np.full(N_ELEMENTS, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns about noble gases
        for number in range(1, N_ELEMENTS):
            element = Element.from_Z(number)
            electronegativity[number] = element.X
            radius[number] = element.atomic_radius or element.atomic_radius_calculated or np.nan
    distances: Sequence[NDArray[np.float64]] = [
        np.nan_to_num(np.abs(values[:, None] - values[None, :]), nan=2.0) for values in (electronegativity, radius)
    ]
    total = distances[0] + RADIUS_WEIGHT_PER_ANGSTROM * distances[1]
    np.fill_diagonal(total, 0.0)
    return np.asarray(total)
