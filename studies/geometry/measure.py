"""How near relaxed first answers are to the crystals they match: volumes and root mean square displacements.

    python -m studies.geometry.measure EVIDENCE TARGETS.parquet --out DIR [--most N]

EVIDENCE was written by `studies.ranking.collect` (draws of the benchmark edition); TARGETS holds id and cif of the same
rows. The first answer of each target is the one that the fitted ranking puts first without energies. Where it matches
its target (stol 0.5, ltol 0.3, angle_tol 10) it is relaxed with the packaged potential. Only observed targets count.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from crystallm.base.provenance import provenance, write_json, write_text
from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.cif import read_cif
from crystallm.crystal.description import expand
from crystallm.crystal.matching.displacement import rms_of_many
from crystallm.crystal.matching.reduced_crystal import prepare
from crystallm.crystal.matching.tolerances import STANDARD
from crystallm.energy.potentials.by_name import load_potential
from crystallm.energy.potentials.protocol import NoEnergy
from crystallm.energy.ranking import Evidence, Question, probabilities
from crystallm.energy.relaxation.relaxation import relax
from crystallm.sample.answers.energies import LARGEST_CHANGE, without_excess
from crystallm.tokenizer.layout import get_layout

FIELDS = {field.name for field in fields(Evidence)}


def first_answer(line: dict[str, Any]) -> dict[str, Any] | None:
    """The candidate ranked first without energies; None where nothing was drawn."""
    candidates = line["candidates"]
    if not candidates:
        return None
    evidence = [
        Evidence(**{name: tuple(v) if isinstance(v, list) else v for name, v in one.items() if name in FIELDS})
        for one in candidates
    ]
    chances = probabilities(evidence, Question.DATABASE)
    return dict(candidates[int(np.argmax(chances))])


def rms(cell: Cell, target: Cell) -> float | None:
    """Root mean square displacement as the structure matcher scales it; None where they do not match."""
    (found,) = rms_of_many([prepare(cell)], prepare(target), (STANDARD,))[0]
    return found


def volume_error(cell: Cell, target: Cell) -> float:
    """Volume per atom over the target's, less one."""
    return (cell.volume / len(cell)) / (target.volume / len(target)) - 1


def measure(lines: list[dict[str, Any]], cifs: dict[str, str]) -> tuple[list[dict[str, Any]], int]:
    """One record for each first answer that matches its target, and the number of targets."""
    layout, potential = get_layout("wyckoff"), load_potential()
    records, targets = [], 0
    for line in lines:
        if not line["observed"] or line["target"] not in cifs:
            continue
        targets += 1
        target, first = read_cif(cifs[line["target"]]), first_answer(line)
        drawn = None if first is None else layout.read(first["text"])
        if isinstance(target, Rejection) or first is None or drawn is None or isinstance(drawn, Rejection):
            continue
        before = rms(expand(drawn), target)
        if before is None:
            continue
        result = relax(drawn, potential, time_limit=120)
        record: dict[str, Any] = {"id": line["target"], "rms_before": before}
        record["volume_error_before"] = volume_error(expand(drawn), target)
        if isinstance(result, NoEnergy):
            record["reason"] = result.reason
        else:
            kept = bool(first["share"]) and abs(math.log(result.volume_ratio)) > LARGEST_CHANGE
            relaxed = without_excess(result.after, potential.name)
            shown = expand(drawn if kept else relaxed)  # as `crystallm sample` writes it
            record["kept_as_drawn"] = kept
            record["rms_after"] = rms(shown, target)
            record["volume_error_after"] = volume_error(shown, target)
        records.append(record)
    return records, targets


def summary(records: list[dict[str, Any]], targets: int) -> dict[str, Any]:
    """The figures of a report; what could not be relaxed keeps its drawn values in none of them, and is counted."""
    done = [one for one in records if "volume_error_after" in one]
    before = np.abs([one["volume_error_before"] for one in done])
    after = np.abs([one["volume_error_after"] for one in done])
    both = [one for one in done if one["rms_after"] is not None]
    rms_before = float(np.mean([one["rms_before"] for one in both]))
    rms_after = float(np.mean([one["rms_after"] for one in both]))
    return {
        "targets": targets,
        "matched_first_answers": len(records),
        "relaxed": len(done),
        "kept_as_drawn": sum(one["kept_as_drawn"] for one in done),
        "still_matched": len(both),
        "median_volume_error": {"drawn": float(np.median(before)), "relaxed": float(np.median(after))},
        "within_8_percent": {"drawn": int((before <= 0.08).sum()), "relaxed": int((after <= 0.08).sum())},
        "median_signed_error": {
            "drawn": float(np.median([one["volume_error_before"] for one in done])),
            "relaxed": float(np.median([one["volume_error_after"] for one in done])),
        },
        "mean_rms": {"drawn": rms_before, "relaxed": rms_after, "ratio": rms_after / rms_before},
    }


def markdown(found: dict[str, Any]) -> str:
    """The report as text."""
    volume, near, moved = found["median_volume_error"], found["within_8_percent"], found["mean_rms"]
    signed = found["median_signed_error"]
    n = found["relaxed"]
    return f"""# Geometry of matched first answers

Benchmark edition, generated only; {found["targets"]} observed validation rows (formula and Z given, 20 draws, seed 0),
{found["matched_first_answers"]} first answers match, {n} were relaxed, {found["still_matched"]} of them still match;
{found["kept_as_drawn"]} follow a known crystal and changed their volume too much, and stay as drawn (decision 20).

| | as drawn | relaxed |
|---|---:|---:|
| median volume error | {volume["drawn"]:.2%} | {volume["relaxed"]:.2%} |
| median volume error with its sign | {signed["drawn"]:+.2%} | {signed["relaxed"]:+.2%} |
| volume within 8 % | {near["drawn"]}/{n} | {near["relaxed"]}/{n} |
| mean rms | {moved["drawn"]:.4f} | {moved["relaxed"]:.4f} ({moved["ratio"]:.2f} of it) |
"""


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evidence", type=Path, nargs="+")
    parser.add_argument("--targets", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=int, default=10**9)
    options = parser.parse_args()
    lines = [json.loads(text) for file in options.evidence for text in file.read_text(encoding="utf-8").splitlines()]
    cifs: dict[str, str] = {}
    for file in options.targets:
        table = pq.read_table(file, columns=["id", "cif"])
        cifs |= dict(zip(table["id"].to_pylist(), table["cif"].to_pylist(), strict=True))
    records, targets = measure(lines[: options.most], cifs)
    options.out.mkdir(parents=True, exist_ok=True)
    found = summary(records, targets) | {"provenance": provenance(), "records": records}
    write_json(options.out / "geometry.json", found)
    write_text(options.out / "geometry.md", markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    main()
