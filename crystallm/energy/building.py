"""Makes the table of reference energies: long, and killed at any time without losing what is done.

OUT/given/*.npz     energies as given, a file for every 512 rows
OUT/relaxed.jsonl   a line for every crystal that was relaxed, or why it could not be
OUT/energies.parquet, hull.parquet, report.json   written at the end, from what is there
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from crystallm.base.command_line import Option
from crystallm.base.errors import ConfigError, InputError
from crystallm.base.provenance import provenance, write_json
from crystallm.base.whole_file import whole_file
from crystallm.base.workers import Lost, run_limited
from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.cif import read_cif
from crystallm.energy.hull.hull import HULL_FILE, write_table
from crystallm.energy.hull.references import (
    Corpus,
    Energies,
    entries,
    excluded,
    landscape,
    lowest_rows,
    missing_elements,
    to_relax,
)
from crystallm.energy.potentials import PotentialName
from crystallm.energy.potentials.by_name import load_potential
from crystallm.energy.potentials.protocol import CHGNET, NoEnergy, Potential, identity
from crystallm.energy.relaxing import LOADING_S, RelaxedReference

CHUNK = 512
"""Rows in one file of energies as given."""

BATCH = 4096
"""Rows that are relaxed before it is asked again which ones matter."""

GROUP = 8
"""Rows that are relaxed side by side."""


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """How reference energies are made."""

    potential: PotentialName = CHGNET
    max_force: float = 0.05
    """eV/angstrom; largest component at which a relaxation has converged."""
    max_steps: int = 30
    """Of one relaxation; the energy of the last step counts."""
    time_limit: float = 20.0
    """Seconds for one relaxation; a crystal that takes longer stays as given."""
    window: float = 0.02
    """eV per atom; the most that relaxing a crystal computed by density functional theory is taken to gain."""
    hours: float = 0.0
    """Relaxing ends after so long, 0: never; the table says of each row whether it is relaxed."""
    workers: int = 1
    """Processes that relax."""
    exclude: Annotated[tuple[str, ...], Option(listed=False)] = ()
    """Ids whose energy is an artefact."""

    def __post_init__(self) -> None:
        if self.max_force <= 0 or self.time_limit <= 0 or self.max_steps < 1:
            raise ConfigError(
                f"max_force {self.max_force:g}, time_limit {self.time_limit:g} and max_steps {self.max_steps} must be "
                "above 0"
            )
        if self.window < 0 or self.hours < 0:
            raise ConfigError(f"window {self.window:g} and hours {self.hours:g} must be >= 0")


Relaxer = Callable[[Sequence[str]], "list[RelaxedReference | NoEnergy]"]
"""From some CIF texts to their energies; sent to a worker process."""


@dataclass(eq=False)
class Builder:
    """What is known of a corpus, and how to know more."""

    corpus: Corpus
    config: BuildConfig
    out: Path
    relaxer: Relaxer
    imported: Sequence[Path] = ()
    """Folders with energies as given that were computed before by the same potential."""
    energies: Energies = field(init=False)
    why: Counter[str] = field(init=False, default_factory=Counter)
    """Rows without an energy as given, by reason."""
    refused: Counter[str] = field(init=False, default_factory=Counter)
    """Rows that could not be relaxed, by reason."""
    found: dict[str, RelaxedReference] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        rows = len(self.corpus)
        nothing = np.full(rows, np.nan)
        self.energies = Energies(nothing.copy(), nothing.copy(), np.zeros(rows, dtype=bool))

    def energies_as_given(self) -> None:
        """Read what is computed, compute the rest."""
        known = np.zeros(len(self.corpus), dtype=bool)
        own = self.out / "given"
        own.mkdir(exist_ok=True)
        for file in sorted(file for folder in (*self.imported, own) for file in folder.glob("*.npz")):
            if file.name.endswith(".tmp.npz"):
                continue
            self._take(*read_chunk(file), known)
        todo = np.flatnonzero(~known)
        potential: Potential | None = None
        with tqdm(total=len(known), initial=int(known.sum()), desc="as given", unit="crystal", disable=None) as bar:
            for start in range(0, len(todo), CHUNK):
                rows = todo[start : start + CHUNK].tolist()
                potential = potential or load_potential(self.config.potential)
                values, why = evaluate(potential, self.corpus.cifs(rows))
                ids = [self.corpus.ids[row] for row in rows]
                write_chunk(own / f"{ids[0].replace('/', '_')}.npz", ids, values, why)
                self._take(ids, values, why, known)
                bar.update(len(rows))
        # What is no reference has no energy from here on.
        self.energies.given[excluded(self.corpus, self.config.exclude)] = np.nan

    def _take(
        self, ids: Sequence[str], values: NDArray[np.float64], why: Sequence[str], known: NDArray[np.bool_]
    ) -> None:
        for name, value, reason in zip(ids, values, why, strict=True):
            row = self.corpus.row_of.get(name)
            if row is None or known[row]:
                continue
            known[row], self.energies.given[row] = True, value
            if not np.isfinite(value):
                self.why[reason or "energy is not finite"] += 1

    def relax(self) -> bool:
        """Relax what makes the hulls until all of it is, or time is over; whether nothing is left."""
        self._read_lines()
        end = time.monotonic() + 3600 * self.config.hours if self.config.hours else float("inf")
        among: NDArray[np.bool_] | None = None
        while True:
            todo, active = to_relax(self.corpus, self.energies, window=self.config.window, among=among)
            if not todo:
                if among is None:
                    return True
                among = None  # look at all formulas once more: crystals may have been refused
                continue
            among = active
            rows = sorted(todo[:BATCH])  # a corpus is often sorted by size: crystals of one group take as long
            texts = dict(zip(rows, self.corpus.cifs(rows), strict=True))
            groups = [rows[start : start + GROUP] for start in range(0, len(rows), GROUP)]
            with (
                (self.out / "relaxed.jsonl").open("a", encoding="utf-8") as file,
                tqdm(total=len(rows), desc=f"relaxing, {len(todo)} left", unit="crystal", disable=None) as bar,
            ):
                lost: list[list[int]] = []
                for row, outcome in self._outcomes(groups, texts, lost):
                    self._keep(row, outcome, file)
                    bar.update()
                    if time.monotonic() > end:
                        return False
                for row, outcome in self._outcomes([[row] for group in lost for row in group], texts, []):
                    self._keep(row, outcome, file)
                    bar.update()

    def _outcomes(
        self, groups: Sequence[Sequence[int]], texts: Mapping[int, str], lost: list[list[int]]
    ) -> Iterator[tuple[int, RelaxedReference | NoEnergy]]:
        """Rows and what relaxing them gave; a group of several that took its process down goes into `lost`."""
        calls = run_limited(
            self.relaxer,
            ([texts[row] for row in group] for group in groups),
            workers=self.config.workers,
            time_limit_s=2 * self.config.time_limit + LOADING_S,
        )
        for place, found in calls:
            group = groups[place]
            if not isinstance(found, Lost):
                yield from zip(group, found, strict=True)
            elif len(group) > 1:
                lost.append(list(group))
            else:
                yield group[0], NoEnergy(str(found.fate), found.detail)

    def _keep(self, row: int, outcome: RelaxedReference | NoEnergy, file: IO[str]) -> None:
        file.write(json.dumps({"id": self.corpus.ids[row]} | asdict(outcome)) + "\n")
        file.flush()
        self._note(self.corpus.ids[row], outcome)

    def _read_lines(self) -> None:
        path = self.out / "relaxed.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in lines:
            try:
                values = json.loads(line)
                name = values.pop("id")
                self._note(name, NoEnergy(**values) if "reason" in values else RelaxedReference(**values))
            except (ValueError, KeyError, TypeError):  # a line that a kill cut off
                continue
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            with path.open("a", encoding="utf-8") as file:
                file.write("\n")

    def _note(self, name: str, outcome: RelaxedReference | NoEnergy) -> None:
        row = self.corpus.row_of.get(name)
        if row is None or self.energies.tried[row]:
            return
        self.energies.tried[row] = True
        if isinstance(outcome, RelaxedReference):
            self.found[name] = outcome
            if np.isfinite(self.energies.given[row]):  # not excluded
                self.energies.relaxed[row] = outcome.energy
            return
        self.refused[outcome.reason] += 1
        if outcome.reason not in ("timed out", "out of memory", "worker process died"):
            # What the potential refuses as a crystal, or tears apart, is no reference as given either.
            self.energies.given[row] = np.nan

    def write(self, libraries: Sequence[tuple[Path | None, Path]], *, hours: float, complete: bool) -> dict[str, Any]:
        """Write the tables and the report; returns the report.

        libraries: (a parquet file with the ids that an edition knows, or None for all; folder) for each table.
        """
        corpus, energies = self.corpus, self.energies
        table = pa.table(
            {
                "id": corpus.ids,
                "energy": pa.array(energies.given.astype(np.float32), from_pandas=True),
                "relaxed_energy": pa.array(energies.relaxed.astype(np.float32), from_pandas=True),
            }
        )
        with whole_file(self.out / "energies.parquet") as partial:
            pq.write_table(table, partial, compression="zstd")
        report = self._report(hours, complete)
        for library, folder in libraries:
            keep = np.ones(len(corpus), dtype=bool)
            if library is not None:
                keep = np.isin(np.array(corpus.ids), read_ids(library))
            rows = list(entries(corpus, energies, keep))
            folder.mkdir(parents=True, exist_ok=True)
            write_table(folder / HULL_FILE, rows, potential=identity(self.config.potential))
            vertices = self._vertices(keep)
            report["tables"].append(
                {
                    "folder": folder.name,
                    "crystals": int(keep.sum()),
                    "formulas": len(rows),
                    "relaxed": sum(row.relaxed for row in rows),
                    "on_hull": len(vertices),
                    "on_hull_relaxed": int(np.isfinite(energies.relaxed[vertices]).sum()),
                    "elements_without_reference": missing_elements(rows),
                    "bytes": (folder / HULL_FILE).stat().st_size,
                }
            )
        write_json(self.out / "report.json", report)
        return report

    def _vertices(self, keep: NDArray[np.bool_]) -> NDArray[np.int64]:
        best = np.where(keep, self.energies.best(self.corpus), np.nan)
        lowest = lowest_rows(self.corpus, best)
        land = landscape(self.corpus.formulas, np.where(lowest >= 0, best[lowest], np.nan))
        return lowest[land.vertex]

    def _report(self, hours: float, complete: bool) -> dict[str, Any]:
        found = list(self.found.values())
        gains = np.array([one.given - one.energy for one in found])
        quantiles = dict(zip(("median", "95%", "largest"), np.quantile(gains, [0.5, 0.95, 1]).tolist(), strict=True))
        return {
            "potential": identity(self.config.potential),
            "rows": len(self.corpus),
            "with_energy_as_given": int(np.isfinite(self.energies.given).sum()),
            "without_energy": dict(self.why),
            "relaxed": len(found),
            "converged": sum(one.converged for one in found),
            "not_relaxed": dict(self.refused),
            "complete": complete,
            "hours_of_this_run": round(hours, 2),
            "core_hours_of_relaxing": round(sum(one.seconds for one in found) / 3600, 2),
            "gain_of_relaxing_ev_per_atom": quantiles if found else None,
            "excluded": sorted(self.config.exclude),
            "tables": [],
            "provenance": provenance(self.config, inputs=list(self.corpus.paths)),
        }


def evaluate(potential: Potential, cifs: Sequence[str]) -> tuple[NDArray[np.float64], list[str]]:
    """Energies (N,) in eV per atom of CIF texts as they are, nan with a reason where there is none."""
    values, why = np.full(len(cifs), np.nan), [""] * len(cifs)
    cells: list[Cell] = []
    places: list[int] = []
    for place, text in enumerate(cifs):
        cell = read_cif(text)
        if isinstance(cell, Rejection):
            why[place] = str(cell.reason)
        else:
            cells.append(cell)
            places.append(place)
    for place, value in zip(places, potential.energies(cells), strict=True):
        if isinstance(value, NoEnergy):
            why[place] = value.reason
        else:
            values[place] = value
    return values, why


def read_chunk(path: Path) -> tuple[list[str], NDArray[np.float64], list[str]]:
    """Ids, energies and reasons of one file of energies as given.

    Raises InputError where it is no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return file["ids"].tolist(), np.asarray(file["e"], dtype=np.float64), file["why"].tolist()
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(f"{path} holds no energies: {error}; delete it, and they are computed again") from error


def write_chunk(path: Path, ids: Sequence[str], values: NDArray[np.float64], why: Sequence[str]) -> None:
    """Write one file of energies as given, whole or not at all."""
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez(file, ids=np.array(ids), e=values, why=np.array(why))


def read_ids(path: Path) -> list[str]:
    """The ids of the crystals that an edition knows.

    Raises InputError where the file has none.
    """
    try:
        ids: list[str] = pq.read_table(path, columns=["id"])["id"].to_pylist()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise InputError(f"cannot read the ids in {path}: {error}; give a templates.parquet") from error
    return ids


def lines_of(report: dict[str, Any]) -> Iterator[str]:
    """What the command prints at the end."""
    yield (
        f"{report['with_energy_as_given']} of {report['rows']} crystals have an energy, {report['relaxed']} are relaxed"
        f" ({report['converged']} converged)"
    )
    for table in report["tables"]:
        yield (
            f"{table['folder']}/{HULL_FILE}: {table['formulas']} formulas, {table['on_hull']} on a hull, "
            f"{table['on_hull_relaxed']} of them relaxed, {table['bytes'] / 1e6:.2f} MB"
        )
    if not report["complete"]:
        yield "not all that makes a hull is relaxed; the same command goes on"
