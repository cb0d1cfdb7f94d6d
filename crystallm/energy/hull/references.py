"""Which crystals of a corpus make a hull, and the table of their energies.

Energies of all rows as given come first. Rows that make a hull, or could after relaxing, are then relaxed, the most
important first, until those that make it are relaxed: relaxed samples are compared with relaxed references.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from crystallm.base.errors import CompositionError, InputError
from crystallm.crystal.formulas.composition import Amounts, parse_formula, symbol_of
from crystallm.energy.hull.hull import DftAboveHull, HullEntry, inside
from crystallm.energy.hull.mixture import lowest_mixture, simplex

UNTRAINED = frozenset(["Po", "At", "Rn", "Fr", "Ra"])
"""Elements below plutonium without a crystal in chgnet's training set (MPtrj, 89 elements): it gives numbers for them
that mean nothing."""

MEASURED_GAIN_EV = 0.3
"""Most that relaxing a measured cell is taken to gain, in eV per atom: it is not at the minimum of any functional."""

SMALL_SYSTEM = 2
"""Systems of up to so many elements are part of most hulls."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """Rows of parquet files: id, formula, what is known of them; CIF texts stay in the files."""

    paths: tuple[Path, ...]
    ids: list[str]
    formulas: list[Amounts]
    """Distinct reduced formulas."""
    formula: NDArray[np.int64]
    """(N,) index of each row's formula."""
    places: NDArray[np.int64]
    """(N, 2) file, row in the file."""
    measured: NDArray[np.bool_]
    """(N,) cells from an experiment, which are references only once they are relaxed."""
    observed: NDArray[np.bool_]
    dft: NDArray[np.float64]
    """(N,) published energy above hull in eV per atom, nan where unknown."""

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of each id; the first where an id stands twice."""
        return {name: row for row, name in reversed(list(enumerate(self.ids)))}

    def cifs(self, rows: Sequence[int]) -> list[str]:
        """CIF texts of rows."""
        texts: dict[int, str] = {}
        for number, path in enumerate(self.paths):
            mine = [row for row in rows if self.places[row, 0] == number]
            if mine:
                column = pq.read_table(path, columns=["cif"])["cif"].take(pa.array(self.places[mine, 1]))
                texts.update(zip(mine, column.to_pylist(), strict=True))
        return [texts[row] for row in rows]


def read_corpus(paths: Sequence[Path]) -> Corpus:
    """Read the columns `id`, `reduced_formula` and, where they exist, `origin`, `experimentally_observed`,
    `e_above_hull` of parquet files.

    Raises InputError where a file or a column is missing.
    """
    ids: list[str] = []
    index: dict[Amounts, int] = {}
    formula: list[int] = []
    places: list[tuple[int, int]] = []
    measured: list[bool] = []
    observed: list[bool] = []
    dft: list[float] = []
    parsed: dict[str, Amounts | None] = {}
    for number, path in enumerate(paths):
        for place, row in enumerate(_rows(path)):
            text = str(row["reduced_formula"])
            if text not in parsed:
                parsed[text] = _parsed(text)
            amounts = parsed[text]
            if amounts is None:
                continue
            ids.append(str(row["id"]))
            formula.append(index.setdefault(amounts, len(index)))
            places.append((number, place))
            measured.append(row.get("origin") == "experiment")
            observed.append(measured[-1] or row.get("experimentally_observed") is True)
            value = row.get("e_above_hull")
            dft.append(float("nan") if value is None else float(value))
    return Corpus(
        paths=tuple(paths),
        ids=ids,
        formulas=list(index),
        formula=np.array(formula, dtype=np.int64),
        places=np.array(places, dtype=np.int64).reshape(-1, 2),
        measured=np.array(measured, dtype=bool),
        observed=np.array(observed, dtype=bool),
        dft=np.array(dft),
    )


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    wanted = ["id", "reduced_formula", "origin", "experimentally_observed", "e_above_hull"]
    try:
        available = pq.read_schema(path).names
        missing = [name for name in ("id", "reduced_formula", "cif") if name not in available]
        if missing:
            raise InputError(f"{path} has no column {missing[0]!r}; its columns are {', '.join(available)}")
        table = pq.read_table(path, columns=[name for name in wanted if name in available])
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"cannot read {path}: {error}; give a .parquet with the columns id, reduced_formula, cif"
        ) from error
    return iter(table.to_pylist())


def _parsed(text: str) -> Amounts | None:
    try:
        return parse_formula(text)
    except CompositionError:
        return None


@dataclass(eq=False)
class Energies:
    """What is known of the rows of a corpus so far, in eV per atom; nan where nothing is."""

    given: NDArray[np.float64]
    """(N,) as given; nan where there is none, or it is no reference."""
    relaxed: NDArray[np.float64]
    """(N,) after relaxing."""
    tried: NDArray[np.bool_]
    """(N,) whether relaxing was tried."""

    def best(self, corpus: Corpus) -> NDArray[np.float64]:
        """(N,) the lower of both; a measured cell has no energy until it is relaxed."""
        return np.fmin(np.where(corpus.measured, np.nan, self.given), self.relaxed)

    def reachable(self, corpus: Corpus, window: float) -> NDArray[np.float64]:
        """(N,) the lowest energy that a row may have after relaxing."""
        gain = np.where(corpus.measured, MEASURED_GAIN_EV, window)
        return np.where(self.tried, self.best(corpus), self.given - gain)


def lowest_rows(corpus: Corpus, energies: NDArray[np.float64]) -> NDArray[np.int64]:
    """(F,) the row of the lowest energy of each formula, -1 where no row has one."""
    order = np.argsort(energies, kind="stable")  # nan comes last
    order = order[np.isfinite(energies[order])]
    lowest = np.full(len(corpus.formulas), -1)
    lowest[corpus.formula[order[::-1]]] = order[::-1]
    return lowest


@dataclass(frozen=True, eq=False)
class Landscape:
    """The hulls of all systems.

    hull: (F,) eV per atom of the hull at each formula, nan where an element has no reference. vertex: (F,) whether the
    formula itself makes it.
    """

    hull: NDArray[np.float64]
    vertex: NDArray[np.bool_]


def landscape(
    formulas: Sequence[Amounts], energies: NDArray[np.float64], among: NDArray[np.bool_] | None = None
) -> Landscape:
    """The hull at every formula, by one linear program each.

    Systems are taken from small to large: of those inside a system only the phases on their own hulls count.

    Args:
        formulas: (F) reduced formulas.
        energies: (F,) eV per atom; nan: no phase.
        among: (F,) the formulas that may be on a hull, None for all; the others are no phases, and their hull is nan.
    """
    from crystallm.base.compiling import compiled

    method = compiled(simplex)
    among = np.ones(len(formulas), dtype=bool) if among is None else among
    symbols = sorted({symbol for amounts in formulas for symbol, _ in amounts})
    column = {symbol: place for place, symbol in enumerate(symbols)}
    fractions = np.zeros((len(formulas), len(symbols)))
    systems: dict[tuple[int, ...], list[int]] = {}
    for place in np.flatnonzero(among).tolist():
        amounts = formulas[place]
        columns = [column[symbol] for symbol, _ in amounts]
        counts = np.array([count for _, count in amounts], dtype=np.float64)
        fractions[place, columns] = counts / counts.sum()
        systems.setdefault(tuple(sorted(columns)), []).append(place)
    words = (len(symbols) + 63) // 64
    bits = np.zeros((len(symbols), words), dtype=np.uint64)
    for place in range(len(symbols)):
        bits[place, place // 64] = np.uint64(1) << np.uint64(place % 64)
    hull, vertex = np.full(len(formulas), np.nan), np.zeros(len(formulas), dtype=bool)
    inner = np.zeros(0, dtype=np.int64)  # formulas on the hulls of smaller systems
    inner_masks = np.zeros((0, words), dtype=np.uint64)
    for size in sorted({len(system) for system in systems}):
        found: list[tuple[int, NDArray[np.uint64]]] = []
        for system, own in systems.items():
            if len(system) != size:
                continue
            mask = np.bitwise_or.reduce(bits[list(system)], axis=0)
            within = inner[inside(inner_masks, mask)]
            phases = np.concatenate([within, [place for place in own if np.isfinite(energies[place])]]).astype(np.int64)
            compositions = fractions[phases][:, list(system)]
            for place in own:
                mixture = lowest_mixture(compositions, energies[phases], fractions[place, list(system)], method=method)
                if mixture is None:
                    continue
                hull[place] = mixture[0]
                vertex[place] = [phases[row] for row in mixture[1]] == [place]
            found.extend((place, mask) for place in own if vertex[place])
        inner = np.concatenate([inner, [place for place, _ in found]]).astype(np.int64)
        inner_masks = np.concatenate(
            [inner_masks, np.array([mask for _, mask in found], dtype=np.uint64).reshape(-1, words)]
        )
    return Landscape(hull, vertex)


def to_relax(
    corpus: Corpus, energies: Energies, *, window: float, among: NDArray[np.bool_] | None = None
) -> tuple[list[int], NDArray[np.bool_]]:
    """Rows whose relaxed energy can change a hull, the most important first, and (F,) the formulas that can.

    These are the rows that make a hull now, and those that come below it if relaxing gains `window` eV per atom. First
    come formulas with an observed crystal and systems of one or two elements, then three, and so on; among them first
    what makes the hull, small systems before large ones.

    among: (F,) the formulas to look at, None for all. Relaxing only lowers hulls: what could not reach one before
    cannot now, unless a crystal that made it is no reference any more.
    """
    best = energies.best(corpus)
    lowest = lowest_rows(corpus, best)
    values = np.where(lowest >= 0, best[lowest], np.nan)
    land = landscape(corpus.formulas, values, among)
    makes = np.zeros(len(corpus), dtype=bool)
    makes[lowest[land.vertex]] = True
    could = energies.reachable(corpus, window) < land.hull[corpus.formula]
    active = np.zeros(len(corpus.formulas), dtype=bool)
    active[corpus.formula[makes | could]] = True
    todo = np.flatnonzero((makes | could) & ~energies.tried & np.isfinite(energies.given))
    sizes = np.array([len(amounts) for amounts in corpus.formulas])[corpus.formula[todo]]
    order = np.lexsort((sizes, ~makes[todo], importance(corpus)[todo]))
    return [int(row) for row in todo[order]], active


def importance(corpus: Corpus) -> NDArray[np.int64]:
    """(N,) 0 for rows of formulas with an observed crystal and of small systems, else the number of elements."""
    sizes = np.array([len(amounts) for amounts in corpus.formulas])
    observed = np.zeros(len(corpus.formulas), dtype=bool)
    observed[corpus.formula[corpus.observed]] = True
    return np.where(observed | (sizes <= SMALL_SYSTEM), 0, sizes)[corpus.formula]


def excluded(corpus: Corpus, by_hand: Collection[str]) -> NDArray[np.bool_]:
    """(N,) rows whose energy is no reference: elements that the potential was never fitted to, and ids by hand."""
    unfit = np.array([any(symbol in UNTRAINED for symbol, _ in amounts) for amounts in corpus.formulas], dtype=bool)
    return unfit[corpus.formula] | np.isin(np.array(corpus.ids, dtype=object), list(by_hand))


def entries(corpus: Corpus, energies: Energies, keep: NDArray[np.bool_]) -> Iterator[HullEntry]:
    """The rows of the table: for each formula the lowest energy and the lowest published energy above hull.

    keep: (N,) the rows that an edition knows.
    """
    best = np.where(keep, energies.best(corpus), np.nan)
    published = lowest_rows(corpus, np.where(keep, corpus.dft, np.nan))
    for place, row in enumerate(lowest_rows(corpus, best)):
        if row < 0:
            continue
        dft = None
        if published[place] >= 0:
            dft = DftAboveHull(float(corpus.dft[published[place]]), corpus.ids[published[place]])
        relaxed = bool(best[row] == energies.relaxed[row])
        yield HullEntry(corpus.formulas[place], float(best[row]), corpus.ids[row], relaxed, dft)


def missing_elements(entries: Iterable[HullEntry]) -> list[str]:
    """Elements up to plutonium without a reference energy."""
    known = Counter(entry.amounts[0][0] for entry in entries if len(entry.amounts) == 1)
    return [symbol_of(number) for number in range(1, 95) if symbol_of(number) not in known]
