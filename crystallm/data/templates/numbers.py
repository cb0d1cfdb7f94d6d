"""Exact numbers of all crystals of a library, from their sources; what was found is kept until all is done."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO
from zlib import crc32

import numpy as np
import pyarrow.parquet as pq
from tqdm import tqdm

from crystallm.base.workers import Lost, run_limited
from crystallm.crystal.cell import Rejection
from crystallm.crystal.cif import read_cif
from crystallm.data.templates.exact import Exact, exact_numbers
from crystallm.tokenizer.layout import WYCKOFF

logger = logging.getLogger(__name__)

ROWS_PER_PART = 200
PART_LIMIT_S = 600.0
"""For so many crystals together; nearly all take some ten milliseconds."""


@dataclass(frozen=True)
class Deviations:
    """How far the crystals of a library are from their sources, in angstrom."""

    distances: tuple[float, ...]
    missing: tuple[str, ...]
    """Ids of crystals that no description was near enough to, or that could not be read."""
    described_again: int
    """Crystals described at a tighter tolerance than the project's."""

    def __str__(self) -> str:
        if not self.distances:
            return "no crystal was compared with its source"
        largest, most = max(self.distances), float(np.quantile(self.distances, 0.999))
        return (
            f"{len(self.distances):,} crystals compared with their sources: largest distance {largest:.4f} angstrom, "
            f"99.9th percentile {most:.4f}; {self.described_again:,} described at a tighter tolerance; "
            f"{len(self.missing):,} too far: {' '.join(self.missing[:10]) or 'none'}"
        )


Question = list[tuple[str, str, str]]
"""Id, CIF and text of some crystals."""

Answers = list[tuple[str, int, Exact | None]]
"""Id, checksum of the text, what is kept beside the text."""


def join_numbers(
    rows: Sequence[dict[str, Any]], sources: Sequence[Path], *, kept: Path, workers: int, show_progress: bool
) -> Deviations:
    """Write exact numbers into rows of a library, in place; those that have some keep them.

    Args:
        rows: rows of a library.
        sources: parquet files with the columns `id` and `cif`.
        kept: file for what is found before all is done; what it holds is not done again. Deleted at the end.
        workers: processes; does not change the result.
        show_progress: on stderr.
    """
    wanted = {row["id"]: row["text"] for row in rows if row["exact"] is None and row["exact_text"] is None}
    checksums = {id_: crc32(text.encode()) for id_, text in wanted.items()}
    found = {id_: exact for id_, checksum, exact in _read(kept) if checksums.get(id_) == checksum}
    missing_parts = _parts(sources, {id_: text for id_, text in wanted.items() if id_ not in found})
    progress = tqdm(total=len(wanted), initial=len(found), unit="crystals", desc="numbers", disable=not show_progress)
    with progress, kept.open("a", encoding="utf-8") as stream:
        for _, answers in run_limited(_exact, missing_parts, workers=workers, time_limit_s=PART_LIMIT_S):
            if isinstance(answers, Lost):
                logger.warning("numbers of %d crystals given up: %s", ROWS_PER_PART, answers.detail)
                continue
            _write(stream, answers)
            found.update((id_, exact) for id_, _, exact in answers)
            progress.update(len(answers))
    exacts = []
    for row in rows:
        exact = found.get(row["id"])
        if exact is not None:
            row["exact"], row["exact_text"] = exact.residuals, exact.text
            exacts.append(exact)
    kept.unlink()
    missing = tuple(id_ for id_ in wanted if found.get(id_) is None)
    return Deviations(tuple(e.deviation for e in exacts), missing, sum(e.text is not None for e in exacts))


def _write(stream: TextIO, answers: Answers) -> None:
    for id_, checksum, exact in answers:
        fields = None if exact is None else [exact.residuals and exact.residuals.hex(), exact.text, exact.deviation]
        stream.write(json.dumps([id_, checksum, fields]) + "\n")
    stream.flush()


def _read(kept: Path) -> Iterator[tuple[str, int, Exact | None]]:
    if not kept.is_file():
        return
    for line in kept.read_text(encoding="utf-8").splitlines():
        try:
            id_, checksum, fields = json.loads(line)
        except ValueError:  # the last line of a run that was killed
            continue
        if fields is None:
            yield id_, checksum, None
            continue
        residuals, text, deviation = fields
        yield id_, checksum, Exact(None if residuals is None else bytes.fromhex(residuals), text, deviation)


def _parts(sources: Sequence[Path], wanted: Mapping[str, str]) -> Iterator[Question]:
    part: Question = []
    for source in sources:
        for batch in pq.ParquetFile(source).iter_batches(batch_size=2000, columns=["id", "cif"]):
            for line in batch.to_pylist():
                if line["id"] in wanted:
                    part.append((line["id"], line["cif"], wanted[line["id"]]))
                if len(part) == ROWS_PER_PART:
                    yield part
                    part = []
    if part:
        yield part


def _exact(question: Question) -> Answers:
    answers: Answers = []
    for id_, cif, text in question:
        cell, rounded = read_cif(cif), WYCKOFF.read(text)
        exact: Exact | None = None
        if not isinstance(cell, Rejection) and not isinstance(rounded, Rejection):
            exact = exact_numbers(cell, rounded)
        answers.append((id_, crc32(text.encode()), exact))
    return answers
