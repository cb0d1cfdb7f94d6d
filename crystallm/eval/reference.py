"""A named reference: the real crystals that samples are compared with, read only where they are needed."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from crystallm.crystal.cell import Reason, Rejection
from crystallm.crystal.cif import read_cif
from crystallm.crystal.composition import Amounts, parse_formula, reduce_amounts, symbol_of
from crystallm.errors import CompositionError, InputError

ROWS_AT_A_TIME = 10_000


@dataclass(frozen=True)
class ReferenceRow:
    """One crystal of the reference."""

    id: str
    cif: str


class Reference:
    """The rows of parquet files with the column `cif`, by reduced formula; `id` and `reduced_formula` where they exist.

    Texts stay in the files: a corpus is larger than what one evaluation compares. With the column `reduced_formula` the
    CIF of a row is read when it is first asked for, without it all are, which takes about a millisecond a row. A row
    that cannot be read, or whose atoms are not of the formula in its column, is no crystal of the reference: it is
    counted in `refused` and in nothing else.
    """

    def __init__(self, paths: Sequence[Path], *, split_column: str = "", split: str = "") -> None:
        """split_column, split: take only rows with this value in this column; empty takes all rows."""
        self.paths = tuple(paths)
        self.refused: Counter[str] = Counter()
        """Rows left out because their formula or CIF cannot be read, by reason."""
        self.n_read = 0
        """Rows whose CIF was read; of the others only the formula is known."""
        self._read_places: set[tuple[int, int]] = set()
        self._places: dict[Amounts, list[tuple[int, int]]] = defaultdict(list)
        for number, path in enumerate(self.paths):
            for row, amounts in self._formulas(number, path, split_column, split):
                self._places[amounts].append((number, row))
        if not len(self):
            asked = f" with {split_column} == {split!r}" if split_column else ""
            raise InputError(f"the reference {', '.join(path.name for path in self.paths)} has no row{asked}")

    def __len__(self) -> int:
        return sum(map(len, self._places.values()))

    @property
    def formulas(self) -> Iterable[Amounts]:
        """Every reduced formula of the reference."""
        return self._places.keys()

    def of_formulas(self, formulas: Iterable[Amounts]) -> dict[Amounts, list[ReferenceRow]]:
        """The rows of some reduced formulas, in the order of the files."""
        wanted = {amounts: self._places[amounts] for amounts in set(formulas) if amounts in self._places}
        rows = self._read(place for places in wanted.values() for place in places)
        self._refuse_unreadable(wanted, rows)
        return {amounts: [rows[place] for place in self._places.get(amounts, ())] for amounts in wanted}

    def drawn(self, number: int, *, seed: int) -> list[ReferenceRow]:
        """At most `number` rows at random, without replacement."""
        places = sorted(place for found in self._places.values() for place in found)
        chosen = random.Random(seed).sample(places, min(number, len(places)))
        rows = self._read(chosen)
        of_chosen: dict[Amounts, list[tuple[int, int]]] = defaultdict(list)
        formulas = {place: amounts for amounts, found in self._places.items() for place in found}
        for place in chosen:
            of_chosen[formulas[place]].append(place)
        refused = self._refuse_unreadable(of_chosen, rows)
        return [rows[place] for place in chosen if place not in refused]

    def _refuse_unreadable(
        self, places: Mapping[Amounts, Sequence[tuple[int, int]]], rows: Mapping[tuple[int, int], ReferenceRow]
    ) -> set[tuple[int, int]]:
        """Take out, and count, rows that are no crystal of their formula; returns their places."""
        refused = set()
        for amounts, found in places.items():
            for place in found:
                if place in self._read_places:
                    continue
                self._read_places.add(place)
                own = self._of_cif(rows[place].cif)
                if own is not None and own != amounts:
                    self.refused["atoms of another formula than the column says"] += 1
                if own != amounts:
                    refused.add(place)
        for amounts in places if refused else ():
            self._places[amounts] = [place for place in self._places[amounts] if place not in refused]
        return refused

    def _formulas(self, place: int, path: Path, split_column: str, split: str) -> Iterable[tuple[int, Amounts]]:
        available = _columns(path)
        if split_column and split_column not in available:
            raise InputError(f"{path} has no column {split_column!r}; its columns are {', '.join(available)}")
        known = "reduced_formula" in available
        columns = ["reduced_formula" if known else "cif", *([split_column] if split_column else [])]
        texts = None  # only read where the formula of a row says nothing
        number = -1
        for batch in pq.ParquetFile(path).iter_batches(ROWS_AT_A_TIME, columns=columns):
            for row in batch.to_pylist():
                number += 1
                if split_column and row[split_column] != split:
                    continue
                amounts = _stated(row["reduced_formula"]) if known else None
                if amounts is None:
                    if known and texts is None:
                        texts = pq.read_table(path, columns=["cif"]).column("cif")
                    amounts = self._of_cif(row["cif"] if texts is None else texts[number].as_py())
                    self._read_places.add((place, number))
                if amounts is not None:
                    yield number, amounts

    def _of_cif(self, text: object) -> Amounts | None:
        self.n_read += 1
        cell = read_cif(text) if isinstance(text, str) else Rejection(Reason.EMPTY, "no CIF in the row")
        if isinstance(cell, Rejection):
            self.refused[str(cell.reason)] += 1
            return None
        return reduce_amounts({symbol_of(number): count for number, count in cell.amounts.items()})

    def _read(self, places: Iterable[tuple[int, int]]) -> dict[tuple[int, int], ReferenceRow]:
        by_file: dict[int, list[int]] = defaultdict(list)
        for number, row in places:
            by_file[number].append(row)
        found = {}
        for number, rows in by_file.items():
            columns = ["cif", *(["id"] if "id" in _columns(self.paths[number]) else [])]
            table = pq.read_table(self.paths[number], columns=columns).take(pa.array(rows))
            for row, values in zip(rows, table.to_pylist(), strict=True):
                name = str(values.get("id", f"{self.paths[number].name} row {row}"))
                found[number, row] = ReferenceRow(name, str(values["cif"]))
        return found


def _stated(text: object) -> Amounts | None:
    """The formula of a column; None where it is none."""
    try:
        return parse_formula(text) if isinstance(text, str) else None
    except CompositionError:
        return None


def elements_of(amounts: Amounts) -> frozenset[str]:
    """The elements of a reduced formula."""
    return frozenset(symbol for symbol, _ in amounts)


def _columns(path: Path) -> list[str]:
    try:
        names: list[str] = pq.read_schema(path).names
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}; give a .parquet with the column `cif`") from error
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} is no parquet file: {error}; give a .parquet with the column `cif`") from error
    if "cif" not in names:
        raise InputError(f"{path} has no column `cif`; its columns are {', '.join(names)}")
    return names
