"""Strategies of fine-tuning side by side: every recipe on every family, size and seed, and one table.

`python -m studies.finetuning.strategies TABLES OUT --recipes train/finetune/*.yaml`, after `python -m
studies.finetuning.families DATA TABLES`. Runs that are done are kept; the same command continues.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from crystallm.base.config import load_recipe
from crystallm.base.provenance import output_folder, provenance, write_json, write_text
from crystallm.eval.rate import Rate
from crystallm.train.finetune.config import FinetuneConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One strategy on one table of crystals."""

    family: str
    size: int
    seed: int
    strategy: str

    @property
    def table(self) -> str:
        """Name of the table of crystals."""
        return f"{self.family}_{self.size}_{self.seed}"


def result_of(report: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """What the comparison keeps of a report."""
    draws = report["recipe"]["draws"]
    row: dict[str, Any] = {"family": run.family, "size": run.size, "seed": run.seed, "strategy": run.strategy}
    for time in ("before", "after"):
        found = report[time]
        row |= {f"{part}_{time}": found["losses"][part]["per_crystal"] for part in ("val", "heldout")}
        row[f"general_{time}"] = found["losses"]["general"]["per_token"]
        if draws:
            row[f"draws_{time}"] = _counts(found["matching_draws"])
            row[f"any_{time}"] = _counts(found["metrics"][f"match_rate@{draws}"])
            row[f"strict_{time}"] = _counts(found["metrics"][f"match_rate@{draws}_strict"])
    return row | {key: report[key] for key in ("steps", "best_step", "epochs", "seconds")}


def _counts(rate: Mapping[str, Any]) -> tuple[int, int, int]:
    return rate["passed"], rate["attempted"], rate.get("undecided", 0)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Means over seeds as Markdown, standard deviations beside them; rates are pooled over seeds.

    Draws for one crystal are alike, and the seeds share their held-out crystals: a Wilson interval of the pooled counts
    would be too narrow, so none is given.
    """
    groups: dict[tuple[str, int, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["family"], row["size"], row["strategy"]].append(row)
    head = (
        "| family | crystals | strategy | seeds | held-out loss | general loss | draws that match | any draw"
        " | any draw, strict | epochs |"
    )
    lines = [head, "|---" * (head.count("|") - 1) + "|"]
    shown: set[tuple[str, int]] = set()
    for (family, size, strategy), found in groups.items():
        if (family, size) not in shown:
            shown.add((family, size))
            lines.append(_line(family, size, "none (the general model)", found, "before"))
        lines.append(_line(family, size, strategy, found, "after"))
    return "\n".join(lines)


def _line(family: str, size: int, name: str, rows: Sequence[Mapping[str, Any]], time: str) -> str:
    cells = [family, str(size), name, str(len(rows))]
    cells += [
        _spread([row[f"heldout_{time}"] for row in rows], 2),
        _spread([row[f"general_{time}"] for row in rows], 3),
    ]
    for name in ("draws", "any", "strict"):
        counts = [row[f"{name}_{time}"] for row in rows if f"{name}_{time}" in row]
        rate = Rate(*map(sum, zip(*counts, strict=True))) if counts else None
        spread = f" ± {100 * stdev(passed / of for passed, of, _ in counts):.1f}" if len(counts) > 1 else ""
        cells.append(f"{rate}{spread}" if counts else "-")
    cells.append(_spread([row["epochs"] for row in rows], 1) if time == "after" else "")
    return "| " + " | ".join(cells) + " |"


def _spread(values: Sequence[float], digits: int) -> str:
    told = f"{mean(values):.{digits}f}"
    return told + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def run_one(run: Run, recipe: Path, tables: Path, out: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Fine-tune once, or read the report of the run that is there."""
    from crystallm.train.finetune.finetuning import RECIPE, finetune

    folder = out / f"{run.table}_{run.strategy}"
    if (folder / "report.json").is_file():
        return result_of(json.loads((folder / "report.json").read_text(encoding="utf-8")), run)
    fixed = ["split_column=split", "deduplicate=none", "guide=0", "bond_tries=0", f"seed={run.seed}"]
    config = load_recipe(FinetuneConfig, recipe, overrides=[*fixed, *overrides])
    started = (folder / RECIPE).is_file()
    report = finetune(
        config, [str(tables / f"{run.table}.parquet")], folder, resume=started, before=_before(run, out, folder)
    )
    shutil.rmtree(folder / "run")  # hundreds of checkpoints are of no further use
    return result_of(report, run)


def _before(run: Run, out: Path, folder: Path) -> Path | None:
    """The draws of the general model for these held-out crystals and this seed, where another run has made them."""
    done = sorted(file.parent for file in out.glob(f"{run.family}_*_{run.seed}_*/report.json"))
    return next((other / "before" for other in done if other != folder), None)


def main() -> None:
    """Run every recipe on every table, and write OUT/strategies.json and OUT/strategies.md after each run."""
    parser = argparse.ArgumentParser(prog="python -m studies.finetuning.strategies", description=main.__doc__)
    parser.add_argument("tables", type=Path, help="folder made by studies.finetuning.families")
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--recipes", type=Path, nargs="+", required=True, help="train/finetune/*.yaml")
    parser.add_argument("--families", nargs="+", default=["oxides", "perovskites", "heuslers"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 500])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="for all runs")
    options = parser.parse_args()
    from crystallm.train.process import prepare_process

    prepare_process()
    out = output_folder(options.out)
    rows: list[dict[str, Any]] = []
    wanted = [
        (Run(family, size, seed, recipe.stem), recipe)
        for size in options.sizes
        for family in options.families
        for recipe in options.recipes
        for seed in options.seeds
    ]
    for number, (run, recipe) in enumerate(wanted, start=1):
        logger.info("== %d of %d: %s, %s", number, len(wanted), run.table, run.strategy)
        rows.append(run_one(run, recipe, options.tables, out, options.set))
        write_json(out / "strategies.json", {"runs": rows, "provenance": provenance({"set": options.set})})
        write_text(out / "strategies.md", table(rows) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
