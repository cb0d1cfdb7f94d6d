"""A named reference: the real crystals that samples are compared with, read only where they are needed."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from crystallm.base.errors import CompositionError, InputError
from crystallm.base.workers import Lost, run_limited
from crystallm.crystal.cell import Reason, Rejection
from crystallm.crystal.cif import read_cif
from crystallm.crystal.formulas.composition import Amounts, parse_formula, reduce_amounts, symbol_of

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
    counted in `refused` and in nothing else. One whose reading runs out of time stays if its column names a formula:
    whoever compares it finds it undecided.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        split_column: str = "",
        split: str = "",
        workers: int = 1,
        time_limit_s: float = 60.0,
    ) -> None:
        """Find the formulas of the rows.

        Args:
            paths: Parquet files with the column `cif`.
            split_column: With `split`, take only rows with this value in this column; empty takes all rows.
            split: See `split_column`.
            workers: Processes that read CIFs.
            time_limit_s: Seconds for one CIF.
        """
        self.paths = tuple(paths)
        self._workers, self._time_limit_s = workers, time_limit_s
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
        of_chosen: dict[Amounts, list[tuple[int, int]]] = {}
        wanted = set(chosen)
        for amounts, found in self._places.items():
            if among := [place for place in found if place in wanted]:
                of_chosen[amounts] = among
        refused = self._refuse_unreadable(of_chosen, rows)
        return [rows[place] for place in chosen if place not in refused]

    def _refuse_unreadable(
        self, places: Mapping[Amounts, Sequence[tuple[int, int]]], rows: Mapping[tuple[int, int], ReferenceRow]
    ) -> set[tuple[int, int]]:
        """Take out, and count, rows that are no crystal of their formula; returns their places."""
        stated = {place: amounts for amounts, found in places.items() for place in found}
        unread = [place for place in stated if place not in self._read_places]
        self._read_places.update(unread)
        refused = set()
        for place, own in zip(unread, self._of_cifs([rows[place].cif for place in unread]), strict=True):
            if isinstance(own, Lost) or own == stated[place]:
                continue
            refused.add(place)
            said = str(own.reason) if isinstance(own, Rejection) else "atoms of another formula than the column says"
            self.refused[said] += 1
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
        start = 0
        for batch in pq.ParquetFile(path).iter_batches(ROWS_AT_A_TIME, columns=columns):
            rows = {
                number: row
                for number, row in enumerate(batch.to_pylist(), start=start)
                if not split_column or row[split_column] == split
            }
            start += len(batch)
            formulas = {number: _stated(row["reduced_formula"]) if known else None for number, row in rows.items()}
            unknown = [number for number, amounts in formulas.items() if amounts is None]
            if known and unknown and texts is None:
                texts = pq.read_table(path, columns=["cif"]).column("cif")
            cifs = [rows[number]["cif"] if texts is None else texts[number].as_py() for number in unknown]
            for number, own in zip(unknown, self._of_cifs(cifs), strict=True):
                self._read_places.add((place, number))
                if isinstance(own, Rejection | Lost):
                    self.refused[str(own.reason if isinstance(own, Rejection) else own.fate)] += 1
                else:
                    formulas[number] = own
            yield from ((number, amounts) for number, amounts in formulas.items() if amounts is not None)

    def _of_cifs(self, texts: Sequence[object]) -> list[Amounts | Rejection | Lost]:
        """What some rows are made of; read in processes, since a text that nobody vouches for may take for ever."""
        self.n_read += len(texts)
        calls = run_limited(_amounts_of, texts, workers=self._workers, time_limit_s=self._time_limit_s)
        return [found for _, found in sorted(calls, key=lambda call: call[0])]

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


def _amounts_of(text: object) -> Amounts | Rejection:
    """The reduced formula of the atoms of a CIF."""
    cell = read_cif(text) if isinstance(text, str) else Rejection(Reason.EMPTY, "no CIF in the row")
    if isinstance(cell, Rejection):
        return cell
    return reduce_amounts({symbol_of(number): count for number, count in cell.amounts.items()})


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
