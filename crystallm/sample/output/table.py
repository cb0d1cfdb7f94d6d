"""The ranked crystals of a prompt, as a table for people and as records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from crystallm.crystal.checks.validity import CheckName, Checks
from crystallm.crystal.symmetry import space_group_symbol
from crystallm.sample.crystal import NOT_COMPARED, Crystal, above_hull, percent
from crystallm.sample.drawing.attempt import Attempt
from crystallm.sample.grammar.symmetry_search import Searched
from crystallm.sample.prompts import NamedPrompt

WIDTH = 110
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

    def to_json(self) -> dict[str, Any]:
        """The crystal's line of crystals.jsonl."""
        crystal = self.crystal
        description, attempt, known = crystal.description, crystal.attempt, crystal.known
        return {
            "target_id": crystal.prompt.name,
            "rank": self.rank,
            "probability": None if crystal.probability is None else round(crystal.probability, 4),
            "sample": None if attempt is None else attempt.number,
            "count": crystal.count,
            "file": self.file,
            "formula": crystal.formula,
            "formula_units": description.formula_units,
            "z": crystal.formula_units,
            "space_group": description.space_group,
            "symbol": crystal.space_group,
            "lattice": [round(value, 5) for value in description.cell],
            "volume_per_atom": round(self.volume_per_atom, 4),
            "density": round(crystal.density, 4),
            "origin": crystal.origin,
            "known": None if known is None else {"ids": list(known.ids), "observed": known.observed},
            "energy": None if crystal.energy is None else asdict(crystal.energy),
            "flags": list(crystal.flags),
            **_scores(attempt),
            "checks": None if self.checks is None else self.checks.to_json(),
        }


def _scores(attempt: Attempt | None) -> dict[str, Any]:
    """What the model says of a draw; null for a crystal that was not drawn."""
    names = ("ranking_log_probability", "protostructure_log_probability", "log_probability", "mean_log_probability")
    if attempt is None:
        return dict.fromkeys((*names, "template"))
    total = attempt.log_probability
    values = (
        attempt.ranking_log_probability,
        attempt.protostructure_log_probability,
        total,
        total / max(len(attempt.token_log_probabilities), 1),
    )
    scores: dict[str, Any] = {name: round(value, 6) for name, value in zip(names, values, strict=True)}
    return scores | {"template": None if attempt.followed is None else asdict(attempt.followed)}


def prompt_table(
    prompt: NamedPrompt, attempts: Sequence[Attempt], entries: Sequence[Entry], *, lattice: bool = False
) -> str:
    """What is printed for one prompt: counts with their denominators, then a line for each crystal.

    Args:
        prompt: what was asked for.
        attempts: its draws, given up ones included.
        entries: its ranked crystals.
        lattice: adds a, b, c in angstrom and the angles in degrees.

    Returns:
        The lines, joined.
    """
    return "\n".join([*_heads(prompt, attempts, entries), *_rows(prompt, entries, attempts, lattice)])


def _heads(prompt: NamedPrompt, attempts: Sequence[Attempt], entries: Sequence[Entry]) -> list[str]:
    finished = sum(attempt.description is not None for attempt in attempts)
    drawn = sum(entry.crystal.attempt is not None for entry in entries)
    known = sum(entry.crystal.known is not None for entry in entries)
    counts = [f"known {known}"] if known else []
    if attempts:
        alone = sum(entry.crystal.attempt is not None and NOT_COMPARED in entry.crystal.flags for entry in entries)
        open_ = f" ({alone} undecided)" if alone else ""
        counts += [f"finished {finished} of {len(attempts)} draws", f"distinct {drawn} of {finished}{open_}"]
    checked = [entry.checks for entry in entries if entry.checks is not None]
    if checked:
        undecided = sum(checks.undecided for checks in checked)
        open_ = f" ({undecided} undecided)" if undecided else ""
        counts.append(f"valid {sum(checks.valid for checks in checked)} of {len(checked)}{open_}")
    lines = [f"{prompt.name}: {', '.join(counts) or 'nothing known'}"]
    lines += [f"  {note}" for note in getattr(prompt, "notes", ())]
    redrawn = sum((Counter(attempt.redrawn) for attempt in attempts), Counter())
    if redrawn:
        lines.append("  sites drawn again: " + ", ".join(f"{n} ({reason})" for reason, n in sorted(redrawn.items())))
    draws = Counter(attempt.searched for attempt in attempts if attempt.searched is not None)
    if draws:
        kind = next(iter(draws)).kind.replace("_", " ")
        spread = sorted(draws, key=lambda searched: -searched.probability)
        told = [f"{_named(found)} {100 * found.probability:.0f} % ({draws[found]})" for found in spread]
        lines.append(f"  {kind} searched, probability and draws: {', '.join(told)}")
    return lines


def _rows(prompt: NamedPrompt, entries: Sequence[Entry], attempts: Sequence[Attempt], lattice: bool) -> list[str]:
    if not entries and not attempts:
        return ["  no crystal of this formula is known here; leave out --known-only to draw some"]
    if not entries:
        reasons = dict.fromkeys(attempt.reason for attempt in attempts[:3])
        return [
            "  no crystal, every draw was given up; try a higher --temperature, more draws, or a lower --contact:",
            *(f"  {reason}" for reason in reasons),
        ]
    columns = _columns(prompt, entries, lattice)
    lines = [_line([column.title for column in columns], columns)]
    lines += [_line([column.cell(entry) for column in columns], columns) for entry in entries[:MOST_ROWS]]
    if len(entries) > MOST_ROWS:
        lines.append(f"  and {len(entries) - MOST_ROWS} more")
    return lines


def _phase(entry: Entry) -> str:
    return f"{entry.crystal.space_group} ({entry.crystal.space_group_number})"


def _lattice(entry: Entry) -> str:
    a, b, c, *angles = entry.crystal.description.cell
    return f"{a:.3f} {b:.3f} {c:.3f}  " + " ".join(f"{angle:.1f}" for angle in angles)


@dataclass(frozen=True)
class _Column:
    title: str
    width: int
    """At least; to the left where it is negative."""
    cell: Any


def _columns(prompt: NamedPrompt, entries: Sequence[Entry], lattice: bool) -> list[_Column]:
    free = prompt.prompt.amounts is None
    chances = any(entry.crystal.probability is not None for entry in entries)
    energies = any(entry.crystal.energy is not None for entry in entries)
    columns = [_Column("rank", 4, lambda entry: str(entry.rank))]
    if chances:
        columns.append(_Column("chance %", 8, lambda entry: percent(entry.crystal.probability)))
    if free:
        columns.append(_Column("formula", -14, lambda entry: entry.crystal.formula))
    columns += [
        _Column("phase", -15, _phase),
        _Column("Z", 3, lambda entry: str(entry.crystal.formula_units)),
        _Column("g/cm3", 6, lambda entry: f"{entry.crystal.density:.2f}"),
    ]
    if energies:
        columns.append(_Column("meV above hull", 14, lambda entry: above_hull(entry.crystal)))
    columns.append(_Column("draws", 5, lambda entry: str(entry.crystal.count)))
    if lattice:
        columns.append(_Column("a b c (A)  alpha beta gamma", -44, _lattice))
    return [
        *columns,
        _Column("origin", -24, lambda entry: entry.crystal.origin),
        _Column("checks", -6, lambda entry: remarks(entry.checks, entry.crystal)),
    ]


def _line(cells: Sequence[str], columns: Sequence[_Column]) -> str:
    parts = [
        f"{cell:<{-column.width}}" if column.width < 0 else f"{cell:>{column.width}}"
        for cell, column in zip(cells, columns, strict=True)
    ]
    return "  ".join(parts).rstrip()


def _named(searched: Searched) -> str:
    return space_group_symbol(searched.value) if searched.kind == "space_group" else f"Z={searched.value}"


def verdict(checks: Checks | None) -> str:
    """'valid', which check failed first, or why there is no verdict; the reason stands in crystals.jsonl."""
    if checks is None:
        return "-"
    if checks.undecided:
        return next(f"undecided: {check.reason}" for check in checks.by_name.values() if check.undecided)
    failed = next((name for name, check in checks.by_name.items() if not check.passed), None)
    if failed is CheckName.READABLE:  # says why there are no checks
        return checks[failed].reason
    return f"fails {failed}" if failed else "valid"


def remarks(checks: Checks | None, crystal: Crystal) -> str:
    """The verdict of the checks and what else a reader should know."""
    return "; ".join([verdict(checks), *crystal.flags])


def ranked_lines(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Records of ranked crystals."""
    return [entry.to_json() for entry in entries]
