"""Evidence and verdicts for the draws of a sampling run whose targets are known.

`python -m studies.ranking.collect RUN PROMPTS TARGETS LIBRARY OUT`: RUN is a folder of `crystallm sample --prompts
PROMPTS`, TARGETS a parquet file with id and cif (and, if wanted, `observed`), LIBRARY the templates.parquet of the
checkpoint that drew. OUT gets one line (JSON) for each target; a target that stands there is not looked at again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from crystallm.crystal.cif import write_cif
from crystallm.crystal.formulas.composition import format_formula
from crystallm.crystal.matching.duplicates import are_near
from crystallm.crystal.matching.own_symmetry import prepare_built
from crystallm.crystal.matching.reduced_crystal import Prepared
from crystallm.crystal.matching.tolerances import STANDARD, STRICT
from crystallm.data.templates import TemplateLibrary
from crystallm.eval.prediction.comparisons import Group, match
from crystallm.sample.answers.evidence import Relatives, evidence_of
from crystallm.sample.crystal import Crystal, rank
from crystallm.sample.drawing.attempt import Attempt
from crystallm.sample.output.records import RECORDS, attempt_of, read_records
from crystallm.sample.prompts import NamedPrompt, read_prompts
from crystallm.tokenizer.layout import get_layout


def merged(crystals: Sequence[Crystal]) -> list[Crystal]:
    """One of equal crystals, the first, with their number (duplicates by the root mean square displacement)."""
    leaders: list[Prepared] = []
    counts: list[int] = []
    kept: list[Crystal] = []
    for crystal in crystals:
        prepared = prepare_built(crystal.description)
        near = are_near(leaders, prepared) if leaders else []
        if any(near):
            counts[near.index(True)] += 1
            continue
        leaders.append(prepared)
        counts.append(1)
        kept.append(crystal)
    return [replace(crystal, count=count) for crystal, count in zip(kept, counts, strict=True)]


def line_of(
    target: Mapping[str, Any], item: NamedPrompt, attempts: Sequence[Attempt], library: TemplateLibrary | None
) -> dict[str, Any]:
    """What is known of a target's draws, and which are right.

    `verdicts`: for each draw in order [rms under the benchmark's tolerances or null, under strict ones, whether it
    passes CDVAE's filter]. `candidates`: evidence for the different crystals, each with the number of its draw.
    """
    crystals = merged(rank(attempts, merge=False))
    drawn = {one.number: write_cif(one.description) for one in attempts if one.description is not None}
    group = Group(target["cif"], tuple(drawn.values()), STANDARD, STRICT)
    verdicts: list[Any] = [None] * len(attempts)
    for number, outcome in zip(drawn, match(group), strict=True):
        verdicts[number] = [outcome.rms, outcome.rms_strict, outcome.valid]
    evidence = evidence_of(crystals, Relatives.of(item, library))
    return {
        "target": target["id"],
        "formula": format_formula(item.prompt.amounts or ()),
        "observed": target.get("observed"),
        "verdicts": verdicts,
        "candidates": [
            asdict(one) | {"number": crystal.attempt.number, "text": crystal.attempt.text}
            for crystal, one in zip(crystals, evidence, strict=True)
            if crystal.attempt is not None
        ],
    }


def lines(
    run: Path, prompts: Path, targets: Path, library: Path, done: set[str], *, n: int
) -> Iterator[dict[str, Any]]:
    """The lines of all targets that have their n draws and are not done."""
    layout, templates = get_layout("wyckoff"), TemplateLibrary(library)
    named = {item.name: item for item in read_prompts(prompts)}
    attempts: dict[str, list[Attempt]] = {}
    for record in read_records(run / RECORDS):
        name = record["target_id"]
        if name not in done:
            attempts.setdefault(name, []).append(attempt_of(record, named[name], layout))
    for target in pq.read_table(targets).to_pylist():
        found = attempts.get(target["id"], [])
        if len(found) == n:
            yield line_of(target, named[target["id"]], found, templates)


def main() -> None:
    """Append the lines that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("run", "prompts", "targets", "library", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("-n", type=int, default=20, help="draws of a target (%(default)s)")
    options = parser.parse_args()
    old = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
    done = {json.loads(line)["target"] for line in old}
    with options.out.open("a", encoding="utf-8") as file:
        for line in lines(options.run, options.prompts, options.targets, options.library, done, n=options.n):
            file.write(json.dumps(line) + "\n")
            file.flush()


if __name__ == "__main__":
    main()
