"""The steps of a preparation. Each works on the entries by number and says which go out, and why."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

import datasets
import pyarrow as pa
from tqdm import tqdm

from crystallm.base.errors import CrystallmError, InputError
from crystallm.base.whole_file import or_room
from crystallm.base.workers import Lost
from crystallm.crystal.cell import MAX_INPUT_SITES, Reason, Rejection
from crystallm.data.config import SPLITS, PrepareConfig
from crystallm.data.preparing import leakage as compare
from crystallm.data.preparing.convert import OTHER_SPLIT, Traits, convert, is_other_split
from crystallm.data.preparing.leakage import Pair, Verdict
from crystallm.data.preparing.resumable import Job
from crystallm.data.preparing.workspace import Workspace
from crystallm.data.sources.readers import Entry, Form
from crystallm.data.sources.sources import Source

CRYSTALS_PER_PART = 500
PAIRS_PER_PART = 200

CONVERTED = pa.schema(
    [
        ("id", pa.string()),
        ("split", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("text", pa.string()),
        ("n_tokens", pa.int32()),
        ("reduced_formula", pa.string()),
        ("space_group", pa.int32()),
        ("n_sites", pa.int32()),
        ("skeleton", pa.string()),
        ("numbers", pa.list_(pa.float32())),
        ("volume_per_atom", pa.float64()),
    ]
)
COMPARED = pa.schema([("index", pa.int64()), ("rival", pa.int64()), ("verdict", pa.string())])


@dataclass
class Ledger:
    """What is known of each entry: its text and traits in `rows`, and for those taken out the reason and a detail."""

    entries: datasets.Dataset
    rows: pa.Table
    traits: list[Traits]
    drops: dict[int, tuple[str, str]]

    @property
    def kept(self) -> list[int]:
        """Numbers of the entries that are still in."""
        return [index for index in range(len(self.traits)) if index not in self.drops]


@dataclass(frozen=True)
class Shop:
    """Where the steps keep their parts, and how many processes they may use."""

    space: Workspace
    workers: int


def read(
    sources: list[Source],
    split_column: str | None,
    shop: Shop,
    *,
    title: str,
    max_file_mb: float,
    shard: tuple[int, int] | None = None,
) -> datasets.Dataset:
    """All entries as a memory-mapped data set, read once and kept until the preparation is complete.

    shard: (i, n) for the i-th of every n entries, counted from 1 through all sources.
    """
    part, parts = shard or (1, 1)

    def generate() -> Iterator[dict[str, Any]]:
        place = count()
        for number, source in enumerate(sources):
            entries = source.entries(split_column, max_file_mb=max_file_mb)
            for entry in tqdm(entries, desc=f"{title} {source.name}", unit=" crystals"):
                if next(place) % parts != part - 1:
                    continue
                columns = {"id": entry.id, "form": entry.form.value, "text": entry.text, "split": entry.split}
                yield columns | {"source": number}

    features = {name: datasets.Value("large_string") for name in ("id", "form", "text", "split")}
    features["source"] = datasets.Value("int32")
    datasets.disable_progress_bars()  # it would speak of a train split, which this is not
    try:
        return datasets.Dataset.from_generator(
            generate,
            features=datasets.Features(features),
            cache_dir=str(shop.space.folder(title)),
            fingerprint=shop.space.key,
        )
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, CrystallmError):
            raise error.__cause__ from None
        with or_room(shop.space.out, "give the same command again: it goes on from the parts that are whole"):
            raise
    except ValueError as error:
        if "corresponds to no data" not in str(error):  # what `datasets` says of a generator that gave nothing
            raise
        what = "; cut the sources into fewer parts" if parts > 1 else ""
        names = ", ".join(source.name for source in sources)
        raise InputError(f"there is no structure in {names} for part {part} of {parts}{what}") from None
    finally:
        datasets.enable_progress_bars()


def load(entries: datasets.Dataset, numbers: range | list[int]) -> list[Entry]:
    """Entries by number."""
    rows = entries[numbers]
    columns = (rows["id"], map(Form, rows["form"]), rows["text"], rows["split"])
    return [Entry(*values) for values in zip(*columns, strict=True)]


def describe_all(entries: datasets.Dataset, config: PrepareConfig, shop: Shop, *, title: str) -> Ledger:
    """Screen, describe and write every entry, or note why not."""
    starts = range(0, len(entries), CRYSTALS_PER_PART)
    parts = [range(start, min(start + CRYSTALS_PER_PART, len(entries))) for start in starts]
    job = Job(partial(converted_rows, config=config), schema=CONVERTED, lost=_lost_entry)
    rows = job.run(
        shop.space.folder(title),
        lambda part: load(entries, parts[part]),
        [len(part) for part in parts],
        workers=shop.workers,
        title=title,
        unit="crystals",
    )
    return ledger_of(entries, rows)


def ledger_of(entries: datasets.Dataset, rows: pa.Table) -> Ledger:
    """Return what rows of the schema CONVERTED say of their entries."""
    reasons = zip(rows["reason"].to_pylist(), rows["detail"].to_pylist(), strict=True)
    drops = {index: (reason, detail) for index, (reason, detail) in enumerate(reasons) if reason is not None}
    columns = [rows[name].to_pylist() for name in Traits.__slots__]
    return Ledger(entries, rows, [Traits(*values) for values in zip(*columns, strict=True)], drops)


def converted_rows(entries: list[Entry], *, config: PrepareConfig) -> list[dict[str, Any]]:
    """Convert entries to rows of the schema CONVERTED."""
    return [_converted_row(entry, config) for entry in entries]


def _converted_row(entry: Entry, config: PrepareConfig) -> dict[str, Any]:
    row: dict[str, Any] = {"id": entry.id, "split": entry.split}
    if is_other_split(entry, config):
        return row | {"reason": OTHER_SPLIT, "detail": f"{config.split_column} is {entry.split!r}"}
    try:
        result = convert(entry, config)
    except Exception as error:  # a bug: it stops the run, but says which crystal shows it
        error.add_note(f"while converting {entry.id}")
        raise
    if isinstance(result, Rejection):
        return row | {"reason": result.reason.value, "detail": result.detail}
    traits = {name: getattr(result.traits, name) for name in Traits.__slots__}
    return row | {"text": result.text, "n_tokens": result.n_tokens} | traits


def _lost_entry(entry: Entry, lost: Lost) -> dict[str, Any]:
    detail = f"{lost.fate} {lost.detail}"
    return {"id": entry.id, "split": entry.split, "reason": Reason.TIMED_OUT.value, "detail": detail}


def drop_duplicates(ledger: Ledger, config: PrepareConfig, shop: Shop) -> dict[str, int]:
    """Take out each repetition of an earlier crystal; returns what was counted on the way."""
    if config.deduplicate == "off":
        return {"taken_out": 0}
    repeats = compare.same_text(ledger.traits, ledger.kept)
    counts = {"taken_out": 0, "by_text": len(repeats)}
    if config.deduplicate == "matcher":
        remaining = [index for index in ledger.kept if index not in repeats]
        candidates, too_large = compare.duplicate_candidates(ledger.traits, remaining)
        found, matching = _match(ledger, ledger, candidates, compare.duplicate_matches, shop, title="duplicates")
        counts |= {"by_matcher": len(found), "buckets_too_large_for_matcher": too_large} | matching
        repeats |= found
    names = ledger.rows["id"]
    for index, original in repeats.items():
        while original in repeats:  # an original may repeat an earlier one itself
            original = repeats[original]
        ledger.drops[index] = (Reason.DUPLICATE.value, f"of {names[original]}")
    return counts | {"taken_out": len(repeats)}


def drop_leakage(ledger: Ledger, benchmarks: list[Source], config: PrepareConfig, shop: Shop) -> dict[str, Any]:
    """Take out each crystal that equals one of a benchmark; returns what was counted on the way."""
    if not benchmarks:
        return {"taken_out": 0}
    # The limits are for what is trained on; a test structure beyond them, or with a wrong sum, must still be found.
    lenient = replace(
        config,
        max_sites=MAX_INPUT_SITES,
        max_tokens=10**6,
        min_distance_angstrom=0.0,
        split_column=None,
        trust_atoms=True,
    )
    tests = describe_all(
        read(benchmarks, None, shop, title="read benchmark", max_file_mb=config.max_file_mb),
        lenient,
        shop,
        title="describe benchmarks",
    )
    known = tests.kept
    candidates = compare.leakage_candidates(ledger.traits, ledger.kept, tests.traits, known)
    counts: dict[str, Any] = {"structures_not_understood": len(tests.drops)}
    if config.exclude_level == "formula":
        found = {index: rivals[0] for index, rivals in candidates.items()}
    else:
        found, matching = _match(ledger, tests, candidates, compare.leakage_matches, shop, title="leakage")
        counts |= matching
    files, names = tests.entries["source"], tests.rows["id"]
    by_file = dict.fromkeys((source.name for source in benchmarks), 0)
    for index, rival in found.items():
        file = benchmarks[files[rival]].name
        by_file[file] += 1
        ledger.drops[index] = (Reason.LEAKAGE.value, f"{names[rival]} in {file}")
    return {"taken_out": len(found), "first_match_in": by_file} | counts


def _match(
    ledger: Ledger,
    rivals: Ledger,
    candidates: dict[int, list[int]],
    function: Callable[[list[Pair]], list[dict[str, Any]]],
    shop: Shop,
    *,
    title: str,
) -> tuple[dict[int, int], dict[str, int]]:
    """First rival that each candidate equals, and how many comparisons it took."""
    pairs = [(index, rival) for index, others in candidates.items() for rival in others]
    parts = [pairs[start : start + PAIRS_PER_PART] for start in range(0, len(pairs), PAIRS_PER_PART)]

    def make(part: int) -> list[Pair]:
        left = _by_number(ledger.entries, {index for index, _ in parts[part]})
        right = _by_number(rivals.entries, {rival for _, rival in parts[part]})
        return [Pair(index, rival, left[index], right[rival]) for index, rival in parts[part]]

    job = Job(function, schema=COMPARED, lost=compare.lost_pair)
    sizes = [len(part) for part in parts]
    verdicts = job.run(shop.space.folder(title), make, sizes, workers=shop.workers, title=title, unit="pairs")
    found: dict[int, int] = {}
    tally: Counter[str] = Counter()
    for row in verdicts.to_pylist():
        tally[row["verdict"]] += 1
        if row["verdict"] == Verdict.EQUAL:
            found.setdefault(row["index"], row["rival"])
    return found, {"pairs": len(pairs), "pairs_given_up": tally[Verdict.GIVEN_UP]}


def _by_number(entries: datasets.Dataset, numbers: set[int]) -> dict[int, Entry]:
    ordered = sorted(numbers)
    return dict(zip(ordered, load(entries, ordered), strict=True)) if ordered else {}


def assign_splits(ledger: Ledger, config: PrepareConfig) -> dict[str, list[int]]:
    """Numbers of the kept entries by split, in the order in which they were read."""
    splits: dict[str, list[int]] = {name: [] for name in SPLITS}
    column = ledger.rows["split"].to_pylist()
    for index in ledger.kept:
        name = column[index] if config.split_column else split_of(ledger.traits[index].reduced_formula, config)
        splits[name].append(index)
    return splits


def split_of(reduced_formula: str, config: PrepareConfig) -> str:
    """The split of a formula: a hash, so that it depends on nothing but the formula, the seed and the fractions."""
    # By formula, not by row: polymorphs of a training compound would leak into the test set.
    digest = hashlib.sha256(f"{config.seed} {reduced_formula}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < config.test_fraction:
        return "test"
    return "val" if place < config.test_fraction + config.val_fraction else "train"
