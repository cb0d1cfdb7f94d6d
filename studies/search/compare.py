"""Search beside draws: which finds the lower crystal in the same CPU time?

    python -m studies.search.compare formulas.jsonl --out compare.jsonl        # chgnet; goes on where it stopped
    python -m studies.search.compare formulas.jsonl --out compare.jsonl --second sevenn
    python -m studies.search.compare formulas.jsonl --out compare.jsonl --report

A: 100 draws of a formula, raced. B: the first 20 of the same draws, raced, and a search until as many CPU seconds are
spent, one of whose moves is to make the next of the same draws; time of loading is left out. Compared are the lowest
crystals that pass all checks.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from crystallm.crystal.description import Description
from crystallm.energy.journal import Journal
from crystallm.energy.potentials.by_name import load_potential
from crystallm.energy.potentials.protocol import NoEnergy, Potential
from crystallm.energy.relaxation.race import race
from crystallm.energy.relaxation.relaxation import Relaxed, relax
from crystallm.model.editions import edition_folder
from crystallm.sample.answers.search.searching import SearchSettings, passes, search
from crystallm.sample.answers.search.trials import packed, unpacked
from crystallm.sample.config import SampleConfig
from crystallm.sample.generator import Generator
from crystallm.sample.prompts import make_prompt

DRAWS, FIRST = 100, 20
MAX_ATOMS = 24
BATCH = 20
"""Draws that are made side by side, so that the first ones are ready before the others are begun."""

SEED = 0
Starts = list[tuple[Description, float]]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparison, its second opinion, or print its report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formulas", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--second", help="name of a second potential, by which the winners are relaxed")
    parser.add_argument("--report", action="store_true", help="print what is there")
    args = parser.parse_args(argv)
    rows = [json.loads(line) for line in args.formulas.read_text(encoding="utf-8").splitlines()]
    with Journal(args.out) as journal:
        if args.report:
            report(rows, journal)
        elif args.second:
            second_opinion(rows, journal, args.second)
        else:
            compare_all(rows, journal)


def compare_all(rows: Sequence[dict[str, Any]], journal: Journal) -> None:
    """Both ways for every formula that is not in the journal."""
    potential = load_potential()
    generator = Generator.from_pretrained(edition_folder("benchmark"))
    warm(generator, potential)
    for row in rows:
        if row["formula"] not in journal.values:
            found = compare(row["formula"], generator, potential)
            journal.add(row["formula"], found)
            print(row["formula"], {name: value for name, value in found.items() if not name.endswith("crystal")})


def warm(generator: Generator, potential: Potential) -> None:
    """Everything is loaded and compiled before time is taken."""
    found = raced(list(drawn(generator, "MgO", 3)), potential)
    search(found, potential, SearchSettings(evaluations=30, max_atoms=8), name="MgO")


def drawn(generator: Generator, formula: str, n: int) -> Iterator[Description]:
    """The draws of a formula that were not given up, made as they are asked for."""
    config = SampleConfig(n=n, seed=SEED, max_atoms=MAX_ATOMS, batch_size=BATCH)
    for attempt in generator.attempts([make_prompt(formula)], config):
        if attempt.description is not None:
            yield attempt.description


def raced(draws: Sequence[Description], potential: Potential) -> Starts:
    """Draws where the race has left them."""
    results = race(draws, potential)
    return [(result.after, result.energy) for result in results if isinstance(result, Relaxed)]


def compare(formula: str, generator: Generator, potential: Potential) -> dict[str, Any]:
    """Both ways for one formula."""
    began = time.process_time()
    all_draws = raced(list(drawn(generator, formula, DRAWS)), potential)
    lowest = winner(all_draws)
    limit = time.process_time() - began
    began = time.process_time()
    draws = drawn(generator, formula, DRAWS)
    first = raced(list(islice(draws, FIRST)), potential)
    started = time.process_time() - began
    settings = SearchSettings(evaluations=1_000_000, seed=SEED, max_atoms=MAX_ATOMS)
    found = search(
        first,
        potential,
        settings,
        name=formula,
        draws=lambda number: next(draws, None),
        stop=lambda: time.process_time() - began > limit - ROUND_SECONDS,
    )
    best = winner([*first, *((one.description, one.energy) for one in found.minima)])
    spent = time.process_time() - began
    by = [one.made_by for one in found.minima if best is not None and one.energy == best[1]]
    return {
        "draws_cpu": round(limit, 1),
        "search_cpu": round(spent, 1),
        "first_draws_cpu": round(started, 1),
        "evaluations": found.evaluations,
        "trials": found.trials,
        "made_by": next(iter(by), ""),
        "lowest_draw_of_all": min((energy for _, energy in all_draws), default=None),
        "draws": told(lowest),
        "first": told(winner(first)),
        "search": told(best),
        "draws_crystal": None if lowest is None else packed(lowest[0]),
        "search_crystal": None if best is None else packed(best[0]),
        "chances": found.chances,
    }


ROUND_SECONDS = 0.5
"""About half of what a round of trials takes, so that the time of the search is as often below as above."""


def winner(found: Starts) -> tuple[Description, float] | None:
    """The lowest crystal that passes all checks."""
    for description, energy in sorted(found, key=lambda one: one[1]):
        if passes(description):
            return description, energy
    return None


def told(found: tuple[Description, float] | None) -> list[float] | None:
    """Energy in eV/atom and space group."""
    return None if found is None else [round(found[1], 5), found[0].space_group]


def second_opinion(rows: Sequence[dict[str, Any]], journal: Journal, name: str) -> None:
    """Relax the winners of both ways by another potential."""
    potential = load_potential(name)
    for row in rows:
        found, key = journal.values.get(row["formula"]), f"{row['formula']} {name}"
        if found is None or key in journal.values or None in (found["draws_crystal"], found["search_crystal"]):
            continue
        energies = []
        for one in ("draws_crystal", "search_crystal"):
            result = relax(unpacked(found[one]), potential)
            energies.append(None if isinstance(result, NoEnergy) else [round(result.energy, 5), passes(result.after)])
        journal.add(key, energies)
        print(key, energies)


def report(rows: Sequence[dict[str, Any]], journal: Journal) -> None:
    """Print a table in Markdown and the counts."""
    print("| formula | draws, eV/atom | search | gain, meV/atom | gain by sevenn | groups | CPU s | evaluations | by |")
    print("|---|---:|---:|---:|---:|---|---:|---:|---|")
    gains, others = [], []
    for row in rows:
        found = journal.values.get(row["formula"])
        if found is None or found["draws"] is None or found["search"] is None:
            continue
        (one, one_group), (other, other_group) = found["draws"], found["search"]
        gains.append(1000 * (one - other))
        told = journal.values.get(f"{row['formula']} sevenn")
        others.append(1000 * (told[0][0] - told[1][0]) if told and None not in told else np.nan)
        print(
            f"| {row['formula']} | {one:.4f} | {other:.4f} | {gains[-1]:.1f} | {others[-1]:.1f} | {one_group}, "
            f"{other_group} | {found['draws_cpu']:.0f}, {found['search_cpu']:.0f} | {found['evaluations']} | "
            f"{found['made_by']} |"
        )
    if gains:
        print(f"\nlower by search: {sum(gain > 1 for gain in gains)} of {len(gains)}, median {np.median(gains):.1f}")
        both = [other for other in others if np.isfinite(other)]
        print(f"by sevenn: {sum(gain > 1 for gain in both)} of {len(both)}, median {np.median(both or [np.nan]):.1f}")


if __name__ == "__main__":
    main()
