"""`python -m studies.audit.agreement`: do the fast checks give the verdicts of the reference checks, and how fast?"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tqdm import tqdm

from crystallm.base.command_line import Command, Option
from crystallm.base.errors import ConfigError, InputError
from crystallm.base.provenance import check_place, provenance, write_json
from crystallm.base.workers import Lost, run_limited
from crystallm.cli import run_program
from crystallm.crystal.checks.fast_validity import check_cif_fast
from crystallm.crystal.checks.validity import CheckName, Checks, check_cif
from crystallm.crystal.checks.warm_up import warm_up_checks
from crystallm.eval.rate import Rate
from crystallm.eval.sets.inputs import read_parquet
from studies.audit.corruption import KINDS, RANDOM_KINDS

SPLIT_COLUMN = "suggested_split"


@dataclass(frozen=True, kw_only=True)
class AgreementConfig:
    """Settings of the comparison."""

    number: Annotated[int, Option("-n")] = 2000
    """Crystals compared, drawn in equal parts from the files; half of them are corrupted."""
    random_cells: int | None = None
    """Cells with atoms anywhere, added to them; None: a fifth as many."""
    seed: int = 0
    """Of the draw."""
    split: str = "val"
    """In files with the column `suggested_split`, only rows with this value."""
    workers: int = 0
    """Processes; 0 takes one for each core."""
    time_limit: float = 120.0
    """Seconds for both paths on one crystal; beyond it there is no verdict on their agreement."""

    def __post_init__(self) -> None:
        if self.number < 1 or (self.random_cells or 0) < 0:
            raise ConfigError(f"number must be >= 1, got {self.number}; random_cells >= 0, got {self.random_cells}")
        if self.time_limit <= 0 or self.workers < 0:
            raise ConfigError(
                f"time limit {self.time_limit:g} and workers {self.workers} must not be negative, the limit not 0"
            )


@dataclass(frozen=True)
class Subject:
    """A CIF to be checked both ways."""

    id: str
    kind: str
    """How it was corrupted, a key of `KINDS`."""
    cif: str


@dataclass(frozen=True)
class Comparison:
    """Both verdicts on one CIF, and how long they took in seconds."""

    fast: Checks
    reference: Checks
    fast_s: float
    reference_s: float


@dataclass
class Agreement:
    """Tally of comparisons; of one that was lost it is not known whether the paths agree."""

    compared: int = 0
    undecided: int = 0
    agreed: Counter[str] = field(default_factory=Counter)
    by_kind: dict[str, Counter[str]] = field(default_factory=dict)
    """Kind of corruption -> compared, agreed (on every check), and valid by the reference."""
    differences: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(check, reason of the fast path, reason of the reference), reasons of passed checks included."""
    examples: list[dict[str, Any]] = field(default_factory=list)
    fast_s: float = 0.0
    reference_s: float = 0.0

    def add(self, subject: Subject, found: Comparison | Lost) -> None:
        """Count one crystal."""
        self.compared += 1
        kind = self.by_kind.setdefault(subject.kind, Counter())
        kind["compared"] += 1
        if isinstance(found, Lost):
            self.undecided += 1
            kind["undecided"] += 1
            self.examples.append({"id": subject.id, "kind": subject.kind, "undecided": str(found.fate)})
            return
        self.fast_s += found.fast_s
        self.reference_s += found.reference_s
        kind["valid"] += found.reference.valid
        wrong = [name for name in CheckName if found.fast[name].passed != found.reference[name].passed]
        self.agreed.update(str(name) for name in CheckName if name not in wrong)
        self.agreed["valid"] += found.fast.valid == found.reference.valid
        self.agreed["every check"] += not wrong
        kind["agreed"] += not wrong
        for name in wrong:
            reasons = _reason(found.fast, name), _reason(found.reference, name)
            self.differences[str(name), *reasons] += 1
            self.examples.append(
                {"id": subject.id, "kind": subject.kind, "check": str(name), "fast": reasons[0]}
                | {"fast_detail": found.fast[name].detail, "reference": reasons[1]}
                | {"reference_detail": found.reference[name].detail}
            )

    def rates(self) -> dict[str, Rate]:
        """Agreement on each check, on `valid`, and on all checks of a crystal at once."""
        names = [*map(str, CheckName), "valid", "every check"]
        return {name: Rate(self.agreed[name], self.compared, self.undecided) for name in names}

    def to_json(self) -> dict[str, Any]:
        """Rates, times and differences as a JSON object."""
        return {
            "rates": {name: rate.to_json() for name, rate in self.rates().items()},
            "by_kind": {
                kind: {
                    "every check": Rate(found["agreed"], found["compared"], found["undecided"]).to_json(),
                    "valid by the reference": Rate(found["valid"], found["compared"], found["undecided"]).to_json(),
                }
                for kind, found in self.by_kind.items()
            },
            "differences": [
                {"check": check, "fast": fast, "reference": reference, "count": count}
                for (check, fast, reference), count in self.differences.most_common()
            ],
            "fast_ms": 1e3 * self.fast_s / self.compared if self.compared else None,
            "reference_ms": 1e3 * self.reference_s / self.compared if self.compared else None,
            "speed_ratio": self.reference_s / self.fast_s if self.fast_s else None,
            "examples": self.examples,
        }

    def table(self) -> str:
        """The tally for people."""
        lines = [f"{name:18} {rate.with_interval()}" for name, rate in self.rates().items()]
        for kind, found in self.by_kind.items():
            agreed, valid = (Rate(found[name], found["compared"], found["undecided"]) for name in ("agreed", "valid"))
            lines.append(f"  {kind:18} agree {agreed}, valid {valid}")
        for (check, fast, reference), count in self.differences.most_common():
            lines.append(f"  {count:5} {check}: fast {fast!r}, reference {reference!r}")
        if self.fast_s:
            lines.append(
                f"fast {1e3 * self.fast_s / self.compared:.2f} ms, reference "
                f"{1e3 * self.reference_s / self.compared:.2f} ms a crystal: {self.reference_s / self.fast_s:.1f} times"
            )
        return "\n".join(lines)


def compare_checks(cif: str) -> Comparison:
    """Check a CIF both ways; runs in a worker process."""
    started = time.perf_counter()
    fast = check_cif_fast(cif)
    between = time.perf_counter()
    reference = check_cif(cif)
    return Comparison(fast, reference, between - started, time.perf_counter() - between)


def draw_subjects(files: Sequence[Sequence[tuple[str, str]]], *, number: int, seed: int) -> list[Subject]:
    """True and corrupted CIFs in equal numbers, in equal parts from files of (id, CIF text), in random order.

    Every crystal drawn comes once true (as given or with its symmetry stated) and once corrupted, in turn by each kind.
    """
    rng = random.Random(seed)
    true, false = list(KINDS)[:2], list(KINDS)[2:]
    pools = [rng.sample(list(rows), len(rows)) for rows in files]
    subjects: list[Subject] = []
    turn = 0
    while len(subjects) < number:
        pool = pools[turn % len(pools)]
        if not any(pools):
            raise InputError(f"the files hold too few rows for {number} crystals; lower -n to {len(subjects)}")
        if pool:
            name, cif = pool.pop()
            for kind in (true[turn // len(pools) % 2], false[turn // len(pools) % len(false)]):
                subjects.append(Subject(name, kind, KINDS[kind](cif, rng)))
        turn += 1
    return subjects[:number]


def random_subjects(number: int, *, seed: int) -> list[Subject]:
    """Cells with atoms anywhere, as nobody draws them on purpose: bonds are missing, atoms coincide.

    Args:
        number: How many, in turn of each kind of `RANDOM_KINDS`.
        seed: Of all of them.
    """
    rng = np.random.default_rng(seed)
    kinds = list(RANDOM_KINDS)
    turns = ((place, kinds[place % len(kinds)]) for place in range(number))
    return [Subject(f"random {place}", kind, RANDOM_KINDS[kind](rng)) for place, kind in turns]


def measure(subjects: Sequence[Subject], config: AgreementConfig) -> Agreement:
    """Check all subjects both ways in a pool of processes."""
    agreement = Agreement()
    with tqdm(total=len(subjects), desc="comparing", unit="crystal", disable=None) as bar:
        texts: Iterable[str] = (subject.cif for subject in subjects)
        calls: Iterator[tuple[int, Comparison | Lost]] = run_limited(
            compare_checks, texts, workers=config.workers, time_limit_s=config.time_limit, warm_up=warm_up_checks
        )
        for place, found in calls:
            agreement.add(subjects[place], found)
            bar.update()
    return agreement


def compare_paths(
    parquet: tuple[Path, ...],
    config: AgreementConfig,
    *,
    json: Annotated[Path | None, Option(metavar="FILE")] = None,
) -> None:
    """Check true and corrupted crystals both ways and print how often the verdicts agree, and what differs.

    Args:
        parquet: Files with the columns id and cif.
        json: Also write rates and every difference here.
    """
    cells = config.number // 5 if config.random_cells is None else config.random_cells
    config = replace(config, random_cells=cells)
    check_place(json)
    files = [_rows(path, config.split) for path in parquet]
    subjects = draw_subjects(files, number=config.number, seed=config.seed)
    agreement = measure([*subjects, *random_subjects(cells, seed=config.seed)], config)
    print(agreement.table())
    if json:
        write_json(json, agreement.to_json() | {"provenance": provenance(config, inputs=parquet)})


main = Command(compare_paths, "python -m studies.audit.agreement")


def _rows(path: Path, split: str) -> list[tuple[str, str]]:
    rows = read_parquet(path, ["id", "cif", SPLIT_COLUMN])
    found = [
        (f"{path.name}:{row.get('id', number)}", row["cif"])
        for number, row in enumerate(rows)
        if row.get(SPLIT_COLUMN, split) == split and isinstance(row["cif"], str)
    ]
    if not found:
        raise InputError(f"{path} has no row with {SPLIT_COLUMN} == {split!r}; choose another with --split")
    return found


def _reason(checks: Checks, name: CheckName) -> str:
    check = checks[name]
    return f"passed{': ' + check.reason if check.reason else ''}" if check.passed else check.reason


if __name__ == "__main__":
    run_program(main)
