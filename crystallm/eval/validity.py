"""`crystallm eval validity`: how many of anyone's crystals pass each check, and why the others do not."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from tqdm import tqdm

from crystallm.base.command_line import Command, Option
from crystallm.base.errors import ConfigError
from crystallm.base.input_files import Reading, count_refused
from crystallm.base.provenance import check_place, provenance, write_json
from crystallm.base.workers import Lost, run_limited
from crystallm.crystal.cell import Rejection
from crystallm.crystal.checks.paths import CHECKS_PATHS, CheckCif, ChecksPath
from crystallm.crystal.checks.validity import CheckName, Checks, failed_checks, undecided_checks
from crystallm.crystal.switch import Way
from crystallm.eval.rate import Rate
from crystallm.eval.sets.inputs import Record, read_records


@dataclass(frozen=True, kw_only=True)
class ValidityConfig(Reading):
    """Settings of the validity check."""

    workers: int = 0
    """Processes; 0 takes one for each core."""
    time_limit: float = 60.0
    """Seconds for one crystal; the checks of one that takes longer are undecided."""
    p1_is_claim: bool = False
    """Count a CIF that lists all atoms under P 1 as stating that space group, as CrystaLLM does."""
    checks: ChecksPath = "reference"
    """By CrystalNN and spglib, or for filtering by the fast path; published numbers come from the reference path."""
    fast: bool = False
    """The fast path (gemmi, moyopy and neighbour lists instead of CrystalNN), for filtering; published numbers come
    from the reference path."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.time_limit <= 0:
            raise ConfigError(f"time_limit must be > 0 seconds, got {self.time_limit:g}")
        if self.workers < 0:
            raise ConfigError(f"workers must be >= 0, got {self.workers}; 0 takes one for each core")

    @property
    def path(self) -> Way[CheckCif]:
        """Who checks."""
        return CHECKS_PATHS["fast" if self.fast else self.checks]


@dataclass
class ValidityCounts:
    """Tally of checked crystals: a rate for each check, with the reasons counted beside it."""

    checked: int = 0
    valid: int = 0
    undecided: int = 0
    made: Counter[CheckName] = field(default_factory=Counter)
    passed: Counter[CheckName] = field(default_factory=Counter)
    open: Counter[CheckName] = field(default_factory=Counter)
    """Crystals on which a check gave no verdict."""
    reasons: dict[CheckName, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in CheckName})

    def add(self, checks: Checks) -> None:
        """Count one crystal."""
        self.checked += 1
        self.valid += checks.valid
        self.undecided += checks.undecided
        for name, check in checks.by_name.items():  # what an older version kept has fewer
            self.made[name] += 1
            self.passed[name] += check.passed
            self.open[name] += check.undecided
            if check.reason:
                said = "passed: " if check.passed else "undecided: " if check.undecided else ""
                self.reasons[name][f"{said}{check.reason}"] += 1

    def rates(self) -> dict[str, Rate]:
        """The rate of each check and of `valid`."""
        rates = {str(name): Rate(self.passed[name], self.made[name], self.open[name]) for name in CheckName}
        return rates | {"valid": Rate(self.valid, self.checked, self.undecided)}

    def to_json(self) -> dict[str, Any]:
        """Rates and reasons as a JSON object."""
        return {
            "rates": {name: rate.to_json() for name, rate in self.rates().items()},
            "reasons": {str(name): dict(found.most_common()) for name, found in self.reasons.items() if found},
        }

    def table(self) -> str:
        """Rates and reasons for people."""
        lines = []
        for name, rate in self.rates().items():
            lines.append(f"{name:18} {rate.with_interval()}")
            reasons = self.reasons[CheckName(name)].most_common() if name != "valid" else []
            lines.extend(f"  {count:6} {reason}" for reason, count in reasons)
        return "\n".join(lines)


def check_all(
    texts: Sequence[str | Rejection],
    config: ValidityConfig,
    *,
    on_result: Callable[[int, Checks], None],
    title: str = "checking",
) -> None:
    """Check every text in a pool of processes; results are handed over as they come, in any order.

    Checks that take longer than the limit, or end their process, are undecided: that is no verdict on the crystal.
    """
    todo = [index for index, text in enumerate(texts) if not isinstance(text, Rejection)]
    with tqdm(total=len(texts), desc=title, unit="crystal", disable=None) as bar:
        for index, text in enumerate(texts):
            if isinstance(text, Rejection):
                on_result(index, failed_checks(str(text.reason), text.detail))
                bar.update()
        check = partial(config.path.load(), p1_is_claim=config.p1_is_claim)
        items: Iterable[str] = (str(texts[index]) for index in todo)
        for place, checks in run_limited(
            check,
            items,
            workers=config.workers,
            time_limit_s=config.time_limit,
            warm_up=config.path.warm_up,
        ):
            if isinstance(checks, Lost):
                checks = undecided_checks(str(checks.fate), checks.detail)
            on_result(todo[place], checks)
            bar.update()


NAMED = 20
"""Most records that cannot be read that are listed one by one."""


def list_unread(records: Sequence[Record]) -> None:
    """Name on stderr what cannot be read; it counts as invalid all the same."""
    unread = [record for record in records if isinstance(record.cif, Rejection)]
    for record in unread[:NAMED]:
        print(f"not read: {record.name}: {record.cif}", file=sys.stderr)
    if len(unread) > NAMED:
        print(f"... and {len(unread) - NAMED} more; --json lists all", file=sys.stderr)


def check_source(
    source: Path, config: ValidityConfig, *, json: Annotated[Path | None, Option(metavar="FILE")] = None
) -> None:
    """Check the crystals of one source and print each rate with its denominator and reasons.

    Args:
        source: Folder or zip of CIFs, .cif, .jsonl with `cif`, .parquet with `cif`.
        json: Also write rates, reasons and every verdict here.
    """
    check_place(json)
    records = read_records(source, trust_atoms=config.trust_atoms, max_file_mb=config.max_file_mb)
    list_unread(records)
    verdicts: dict[int, Checks] = {}
    complete = False
    try:
        check_all([record.cif for record in records], config, on_result=verdicts.__setitem__)
        complete = True
    finally:
        # Ctrl-C passes through here: what was checked is printed and kept, and marked as a part.
        counts = ValidityCounts()
        for checks in verdicts.values():
            counts.add(checks)
        if not complete:
            print(f"interrupted: {counts.checked} of {len(records)} crystals were checked")
        print(counts.table())
        if json:
            result = counts.to_json() | {
                "complete": complete,
                "records": len(records),
                "judges": {"checks": config.path.to_json()},
                "crystals": [{"name": records[i].name} | verdicts[i].to_json() for i in sorted(verdicts)],
                "provenance": provenance(config, inputs=[source]),
            }
            write_json(json, result)
    count_refused(sum(isinstance(record.cif, Rejection) for record in records), len(records))


main = Command(check_source, "crystallm eval validity")
