"""The ranked crystals of a prompt, as a table for people and as records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from crystallm.crystal.composition import format_formula
from crystallm.crystal.symmetry import space_group_symbol
from crystallm.crystal.validity import CheckName, Checks
from crystallm.sample.generator import Attempt, Crystal
from crystallm.sample.guide import Followed
from crystallm.sample.prompts import NamedPrompt
from crystallm.sample.search import Searched

WIDTH = 100
MOST_ROWS = 20
"""Rows printed for one prompt; the files hold all."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A ranked crystal, its file below the folder of the run, and its checks if they were made."""

    rank: int
    crystal: Crystal
    file: str
    checks: Checks | None = None

    @cached_property
    def volume_per_atom(self) -> float:
        """Cubic angstrom."""
        return self.crystal.cell.volume / len(self.crystal.cell)

    @property
    def mean_log_probability(self) -> float:
        """Per free choice."""
        return self.crystal.log_probability / max(len(self.crystal.attempt.token_log_probabilities), 1)

    def to_json(self) -> dict[str, Any]:
        """The crystal's line of crystals.jsonl."""
        description = self.crystal.description
        return {
            "target_id": self.crystal.attempt.prompt.name,
            "rank": self.rank,
            "sample": self.crystal.attempt.number,
            "count": self.crystal.count,
            "file": self.file,
            "formula": format_formula(description.amounts),
            "formula_units": description.formula_units,
            "z": self.crystal.formula_units,
            "space_group": description.space_group,
            "symbol": space_group_symbol(description.space_group),
            "volume_per_atom": round(self.volume_per_atom, 4),
            "density": round(float(self.crystal.structure.density), 4),
            "ranking_log_probability": round(self.crystal.attempt.ranking_log_probability, 6),
            "protostructure_log_probability": round(self.crystal.attempt.protostructure_log_probability, 6),
            "log_probability": round(self.crystal.log_probability, 6),
            "mean_log_probability": round(self.mean_log_probability, 6),
            "template": None if (followed := self.crystal.attempt.followed) is None else asdict(followed),
            "checks": None if self.checks is None else self.checks.to_json(),
        }


def prompt_table(prompt: NamedPrompt, attempts: Sequence[Attempt], entries: Sequence[Entry]) -> str:
    """What is printed for one prompt: counts with their denominators, then a line for each crystal."""
    finished = sum(attempt.description is not None for attempt in attempts)
    counts = [f"finished {finished} of {len(attempts)} draws", f"distinct {len(entries)} of {finished}"]
    checked = [entry.checks for entry in entries if entry.checks is not None]
    if checked:
        counts.append(f"valid {sum(checks.valid for checks in checked)} of {len(checked)}")
    lines = [f"{prompt.name}: {', '.join(counts)}"]
    redrawn = sum((Counter(attempt.redrawn) for attempt in attempts), Counter())
    if redrawn:
        lines.append("  sites drawn again: " + ", ".join(f"{n} ({reason})" for reason, n in sorted(redrawn.items())))
    draws = Counter(attempt.searched for attempt in attempts if attempt.searched is not None)
    if draws:
        kind = next(iter(draws)).kind.replace("_", " ")
        spread = sorted(draws, key=lambda searched: -searched.probability)
        told = [f"{_named(found)} {100 * found.probability:.0f} % ({draws[found]})" for found in spread]
        lines.append(f"  {kind} searched, probability and draws: {', '.join(told)}")
    if not entries:
        reasons = dict.fromkeys(attempt.reason for attempt in attempts[:3])
        return "\n".join(
            [
                *lines,
                "  no crystal, every draw was given up; try a higher --temperature, more draws, or a lower --contact:",
                *(f"  {reason}" for reason in reasons),
            ]
        )
    free = prompt.prompt.amounts is None
    guided = any(entry.crystal.attempt.followed is not None for entry in entries)
    lines.append(_line(HEADINGS, "checks", "formula" if free else "like" if guided else None))
    for entry in entries[:MOST_ROWS]:
        crystal = entry.crystal
        number = crystal.description.space_group
        cells = [
            str(entry.rank),
            str(crystal.formula_units),
            f"{space_group_symbol(number)} ({number})",
            f"{entry.volume_per_atom:.2f}",
            f"{crystal.structure.density:.2f}",
            f"{crystal.attempt.ranking_log_probability:.2f}",
            f"{crystal.log_probability:.2f}",
            str(crystal.count),
        ]
        made = format_formula(crystal.description.amounts)
        more = made if free else like(crystal.attempt.followed, made) if guided else None
        lines.append(_line(cells, verdict(entry.checks), more))
    if len(entries) > MOST_ROWS:
        lines.append(f"  and {len(entries) - MOST_ROWS} more")
    return "\n".join(lines)


def _named(searched: Searched) -> str:
    return space_group_symbol(searched.value) if searched.kind == "space_group" else f"Z={searched.value}"


def like(followed: Followed | None, made: str) -> str:
    """The formula of the known crystal that a draw followed; `known` where it is its own."""
    return "-" if followed is None else "known" if followed.formula == made else followed.formula


def verdict(checks: Checks | None) -> str:
    """'valid', or which check failed first; the reason stands in crystals.jsonl."""
    if checks is None:
        return "-"
    failed = next((name for name, check in checks.by_name.items() if not check.passed), None)
    if failed is CheckName.READABLE:  # says why there are no checks, such as a time limit
        return checks[failed].reason
    return f"fails {failed}" if failed else "valid"


HEADINGS = ("rank", "Z", "space group", "A^3/atom", "g/cm3", "protostr.", "log p", "draws")
NUMBER_WIDTHS = (9, 7, 10, 9, 6)


def _line(cells: Sequence[str], last: str, more: str | None) -> str:
    rank, z, group, *numbers = cells
    middle = "".join(f"{cell:>{width}}" for cell, width in zip(numbers, NUMBER_WIDTHS, strict=True))
    made = "" if more is None else f"  {more:14}"
    return f"{rank:>4} {z:>3}  {group:15}{middle}{made}  {last}"[:WIDTH].rstrip()


def ranked_lines(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Records of ranked crystals."""
    return [entry.to_json() for entry in entries]
