"""`python -m studies.audit.roundtrip`: how many real crystals can be written, and what is lost there and back."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow
import pyarrow.parquet as pq
from tqdm import tqdm

from crystallm.base.command_line import Command, Option
from crystallm.base.errors import ConfigError, InputError
from crystallm.base.provenance import check_place, provenance, write_json, write_text
from crystallm.base.workers import NO_VERDICT, Lost, run_limited
from crystallm.cli import run_program
from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.cif import read_cif
from crystallm.crystal.description import Description, describe, expand
from crystallm.crystal.matching.matcher import rms_distance, unreduced_matcher
from crystallm.crystal.symmetry import primitive, space_group_number, standardize_number
from crystallm.eval.rate import Rate
from crystallm.tokenizer.layout import DEFAULT_LAYOUT, get_layout
from crystallm.tokenizer.text_layout import TextLayout
from studies.audit.roundtrip_report import markdown, plain


@dataclass(frozen=True, kw_only=True)
class RoundtripConfig:
    """Settings of the round trip."""

    layout: str = DEFAULT_LAYOUT
    """How a crystal is written as text."""
    random: int = 2000
    """Rows drawn at random from all."""
    per_group: int = 20
    """Rows drawn from each space group that occurs; all where there are fewer."""
    seed: int = 0
    """Of the rows drawn."""
    workers: int = 0
    """Processes; 0 takes one for each core."""
    time_limit: float = 60.0
    """Seconds for one crystal; one that takes longer counts as failed."""

    def __post_init__(self) -> None:
        for name in ("random", "per_group", "seed", "workers"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be >= 0, got {getattr(self, name)}")
        if self.time_limit <= 0:
            raise ConfigError(f"time_limit must be > 0 seconds, got {self.time_limit:g}")
        get_layout(self.layout)


@dataclass(frozen=True)
class Encoded:
    """A crystal that can be written: its space group and the length of its text."""

    space_group: int
    n_tokens: int


@dataclass(frozen=True)
class Trip:
    """A crystal that went into text and back. rms: over (volume / atoms)^(1/3), None where it does not match itself."""

    rms: float | None
    rms_primitive: float | None
    """The same matcher between primitive cells of the two."""
    rms_unreduced: float | None
    """Between primitive cells without the matcher's own search for one; asked for where `rms` is None."""
    space_group: int
    moyopy_again: int | None
    """What moyopy finds in the crystal that came back."""
    spglib_before: int | None
    """What spglib finds in the crystal as it came."""
    spglib_again: int | None


def encode(cif: str, layout: str) -> Encoded | Rejection:
    """Whether a crystal can be written."""
    cell = read_cif(cif)
    if isinstance(cell, Rejection):
        return cell
    description = describe(cell)
    if isinstance(description, Rejection):
        return description
    tokens = get_layout(layout).tokens_of(cell, description)
    tokens = tokens if isinstance(tokens, Rejection) else get_layout(layout).checked(tokens)
    return tokens if isinstance(tokens, Rejection) else Encoded(description.space_group, len(tokens))


def round_trip(cif: str, layout: str) -> Trip | Rejection:
    """Into text and back, compared with where it started."""
    cell = read_cif(cif)
    if isinstance(cell, Rejection):
        return cell
    text = into_text(cell, get_layout(layout))
    back = text if isinstance(text, Rejection) else get_layout(layout).read(text)
    if isinstance(back, Rejection):
        return back
    again = expand(back)
    rms = rms_unreduced = rms_distance(again.to_structure(), cell.to_structure())
    ours = [primitive(crystal).to_structure() for crystal in (again, cell)]
    if rms is None:
        rms_unreduced = rms_distance(*ours, by=unreduced_matcher())
    return Trip(
        rms=rms,
        rms_primitive=rms_distance(*ours),
        rms_unreduced=rms_unreduced,
        space_group=back.space_group,
        moyopy_again=standardize_number(again),
        spglib_before=space_group_number(cell),
        spglib_again=space_group_number(again),
    )


def into_text(cell: Cell, layout: TextLayout) -> str | Rejection:
    """The text of a crystal, symmetry search included."""
    description = describe(cell)
    tokens = description if isinstance(description, Rejection) else layout.tokens_of(cell, description)
    return tokens if isinstance(tokens, Rejection) else layout.text(tokens)


UNDECIDED = NO_VERDICT | {"not reached"}
"""Reasons that are no verdict on a row."""


@dataclass
class Counts:
    """What was found so far; a row is known by (file, number in the file)."""

    rows: Counter[str] = field(default_factory=Counter)
    encoded: dict[tuple[str, int], Encoded] = field(default_factory=dict)
    refused: dict[tuple[str, int], Rejection | Lost] = field(default_factory=dict)
    trips: dict[tuple[str, int], Trip | str] = field(default_factory=dict)

    def rates(self, chosen: Iterable[tuple[str, int]]) -> dict[str, Any]:
        """Match, rms and space groups of chosen rows; a row refused on the way fails everything, one that ran out of
        time is undecided."""
        found = [self.trips.get(row, "not reached") for row in chosen]
        done = [trip for trip in found if isinstance(trip, Trip)]
        undecided = sum(trip in UNDECIDED for trip in found if isinstance(trip, str))
        rms = sorted(trip.rms for trip in done if trip.rms is not None)

        def rate(passes: Callable[[Trip], bool]) -> Rate:
            return Rate(sum(map(passes, done)), len(found), undecided)

        return {
            "matches_itself": rate(lambda trip: trip.rms is not None),
            "matches_itself_from_primitive_cells": rate(lambda trip: trip.rms_primitive is not None),
            "matches_itself_in_our_cells": rate(lambda trip: trip.rms_unreduced is not None),
            "median_rms": statistics.median(rms) if rms else None,
            "largest_rms": rms[-1] if rms else None,
            "same_space_group_moyopy": rate(lambda trip: trip.moyopy_again == trip.space_group),
            "same_space_group_spglib": rate(lambda trip: trip.spglib_again == trip.space_group),
            "same_space_group_spglib_before_and_after": rate(lambda trip: trip.spglib_again == trip.spglib_before),
            "reasons": dict(Counter(trip for trip in found if isinstance(trip, str)).most_common()),
        }


def rows_of(path: Path) -> Iterator[str]:
    """The `cif` column of a parquet file, a few rows in memory at a time."""
    try:
        table = pq.ParquetFile(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise InputError(f"cannot read {path}: {error}; give a parquet file with a `cif` column") from error
    if "cif" not in table.schema_arrow.names:
        raise InputError(f"{path} has no column `cif`; its columns are {', '.join(table.schema_arrow.names)}")
    for batch in table.iter_batches(batch_size=1000, columns=["cif"]):
        yield from (cif or "" for cif in batch.column(0).to_pylist())


def draw(counts: Counts, config: RoundtripConfig) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """The rows to send round: some of all, whether they can be written or not, and some of each space group."""
    rng = np.random.default_rng(config.seed)
    every = [(name, number) for name, total in counts.rows.items() for number in range(total)]
    at_random = [every[i] for i in sorted(rng.choice(len(every), min(config.random, len(every)), replace=False))]
    groups: dict[int, list[tuple[str, int]]] = {}
    for row in sorted(counts.encoded):
        groups.setdefault(counts.encoded[row].space_group, []).append(row)
    of_groups = [
        members[i]
        for _, members in sorted(groups.items())
        for i in sorted(rng.choice(len(members), min(config.per_group, len(members)), replace=False))
    ]
    return at_random, of_groups


def speed(cells: Sequence[Cell], layout: TextLayout) -> dict[str, float]:
    """Structures per second of processor time, after a first pass that fills the tables."""
    descriptions = [d for d in map(describe, cells) if isinstance(d, Description)]
    texts = [layout.write(description) for description in descriptions]
    start = time.process_time()
    for cell in cells:
        into_text(cell, layout)
    into_s, start = time.process_time() - start, time.process_time()
    for text in texts:
        back = layout.read(text)
        assert isinstance(back, Description)
        expand(back).to_structure()
    back_s = time.process_time() - start
    return {
        "structures": len(cells),
        "into_text_per_s": round(len(cells) / into_s, 1),
        "text_to_structure_per_s": round(len(texts) / back_s, 1),
    }


def encode_all(paths: Sequence[Path], config: RoundtripConfig, counts: Counts) -> None:
    """Encode every row of the files."""
    work = partial(encode, layout=config.layout)
    for path in paths:
        total = _number_of_rows(path)
        with tqdm(total=total, desc=f"encoding {path.name}", unit="row", disable=None) as bar:
            for number, found in run_limited(
                work, rows_of(path), workers=config.workers, time_limit_s=config.time_limit
            ):
                counts.rows[path.name] += 1
                if isinstance(found, Encoded):
                    counts.encoded[path.name, number] = found
                else:
                    counts.refused[path.name, number] = found
                bar.update()


def send_round(
    paths: Sequence[Path], chosen: Iterable[tuple[str, int]], config: RoundtripConfig, counts: Counts
) -> list[str]:
    """Send the chosen rows into text and back; returns their CIFs."""
    wanted = set(chosen)
    rows = [
        ((path.name, number), cif)
        for path in paths
        for number, cif in enumerate(rows_of(path))
        if (path.name, number) in wanted
    ]
    work = partial(round_trip, layout=config.layout)
    with tqdm(total=len(rows), desc="there and back", unit="crystal", disable=None) as bar:
        cifs = (cif for _, cif in rows)
        for place, found in run_limited(work, cifs, workers=config.workers, time_limit_s=config.time_limit):
            counts.trips[rows[place][0]] = found if isinstance(found, Trip) else _reason(found)
            bar.update()
    return [cif for _, cif in rows]


def _reason(found: Rejection | Lost) -> str:
    return str(found.reason if isinstance(found, Rejection) else found.fate)


def _undecided(counts: Counts, file: str | None = None) -> int:
    """How many rows, of a file or of all, ran out of time or memory."""
    return sum(isinstance(found, Lost) and file in (None, name) for (name, _), found in counts.refused.items())


def _number_of_rows(path: Path) -> int | None:
    next(rows_of(path), None)  # says what is wrong with the file
    return int(pq.ParquetFile(path).metadata.num_rows)


def lengths(counts: Counts) -> dict[str, dict[str, Any]]:
    """For each file how many rows can be written, and how long their texts are."""
    found = {}
    for name, total in counts.rows.items():
        tokens = [encoded.n_tokens for (file, _), encoded in counts.encoded.items() if file == name]
        found[name] = {
            "encoded": Rate(len(tokens), total, _undecided(counts, name)),
            "mean_tokens": round(statistics.fmean(tokens), 2) if tokens else None,
            "longest_tokens": max(tokens, default=None),
        }
    return found


def send_all_round(
    sources: Annotated[tuple[Path, ...], Option(metavar="PARQUET")],
    config: RoundtripConfig,
    *,
    length_only: Annotated[tuple[Path, ...], Option(metavar="PARQUET")] = (),
    json: Annotated[Path | None, Option(metavar="FILE")] = None,
) -> None:
    """Write every crystal of parquet files as text, and send some of them there and back.

    Args:
        sources: Files with a `cif` column.
        length_only: Only encode these.
        json: Write the report here, and beside it as .md.
    """
    check_place(json)
    names = Counter(path.name for path in [*sources, *length_only])
    if max(names.values()) > 1:
        raise ConfigError(
            f"two files are named {names.most_common(1)[0][0]}; rename one, the report tells them by name"
        )
    for path in [*sources, *length_only]:
        _number_of_rows(path)
    counts, side = Counts(), Counts()
    at_random: list[tuple[str, int]] = []
    of_groups: list[tuple[str, int]] = []
    measured: dict[str, float] = {}
    complete = False
    try:
        encode_all(sources, config, counts)
        encode_all(length_only, config, side)
        at_random, of_groups = draw(counts, config)
        cifs = send_round(sources, [*at_random, *of_groups], config, counts)
        cells = [cell for cell in map(read_cif, cifs[:: max(1, len(cifs) // 1000)]) if isinstance(cell, Cell)]
        measured = speed(cells, get_layout(config.layout)) if cells else {}
        complete = True
    finally:
        # Ctrl-C passes through here: what was measured is printed and kept, and marked as a part.
        chosen = {"random": at_random, "per group": of_groups, "all": [*dict.fromkeys([*at_random, *of_groups])]}
        named = [
            (f"{file} row {number}", counts.trips.get((file, number), "not reached"))
            for file, number in sorted(chosen["all"])
        ]
        result = {
            "complete": complete,
            "encoded": Rate(len(counts.encoded), counts.rows.total(), _undecided(counts)),
            "refused": dict(Counter(map(_reason, counts.refused.values())).most_common()),
            "refused_rows": [
                f"{file} row {number}: {_reason(found)}, {found.detail}"
                for (file, number), found in sorted(counts.refused.items(), key=lambda row: row[0])
            ],
            "files": lengths(counts),
            "length_only": lengths(side),
            "space_groups": len({counts.encoded[row].space_group for row in of_groups}),
            "trips": {name: counts.rates(rows) for name, rows in chosen.items() if rows},
            "not_matched": [
                name
                for name, trip in named
                if trip not in UNDECIDED and not (isinstance(trip, Trip) and trip.rms is not None)
            ],
            "undecided": [name for name, trip in named if trip in UNDECIDED],
            "other_space_group": [
                f"{name}: written {trip.space_group}, moyopy {trip.moyopy_again}, spglib {trip.spglib_again} "
                f"(before {trip.spglib_before})"
                for name, trip in named
                if isinstance(trip, Trip) and {trip.moyopy_again, trip.spglib_again} != {trip.space_group}
            ],
            "speed": measured,
            "provenance": provenance(config, inputs=[*sources, *length_only]),
        }
        print(markdown(result), end="")
        if json:
            write_json(json, plain(result))
            write_text(json.with_suffix(".md"), markdown(result))


main = Command(send_all_round, "python -m studies.audit.roundtrip")


if __name__ == "__main__":
    run_program(main)
