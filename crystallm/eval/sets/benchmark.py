"""Benchmarks as versioned files: which rows, which prompt, which metrics, which settings; and `crystallm eval list`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crystallm.base.command_line import Command
from crystallm.base.config import load_recipe
from crystallm.base.errors import ConfigError, InputError
from crystallm.base.provenance import sha256
from crystallm.crystal.matching.tolerances import Tolerances
from crystallm.eval.sets.inputs import read_parquet
from crystallm.eval.sets.select import SelectConfig, Selection, select_targets

Level = Literal["formula", "formula_units", "space_group"]
"""What a prompt gives: the reduced formula; Z of the primitive cell, too; the space group, too."""

DATA_VARIABLE = "CRYSTALLM_DATA"
PACKAGE = Path(__file__).parents[2]
PLACES = (PACKAGE / "eval" / "benchmarks", PACKAGE.parent / "eval" / "benchmarks")
"""Where the files that come with the package are: in an installed package, in a clone."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of parquet files in the data folder."""

    files: tuple[str, ...]
    """Names in the data folder."""
    column: str | None = None
    """Only rows with `value` in this column; null takes all."""
    value: str | None = None


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """What the true structures themselves reach, on all rows of the file."""

    smact_passed: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark. A change of anything that moves a number raises `version`; old reports keep theirs."""

    name: str
    """What commands and reports call it."""
    version: int
    """Goes up with every change that moves a number."""
    task: Literal["prediction", "de_novo"]
    """`prediction`: crystals of given compositions; `de_novo`: crystals of any."""
    title: str
    """In a few words, for people."""
    rows: Rows
    """The targets; for de novo generation, the reference for novelty and distributions."""
    rows_at_hand: int
    """Rows of the data files that are its targets."""
    rows_published: int
    """Rows that its authors published."""
    train: Rows | None = None
    """Library of the baselines, and what counts as a seen prototype."""
    max_sites: int = 0
    """Largest number of atoms in the stored cell of a target; 0 takes all."""
    prompt: Level = "formula_units"
    """Prompt level by default; a report says which one it used."""
    samples_per_target: int = 20
    """Draws of each target, or of all for `de_novo`, unless told otherwise."""
    tops: tuple[int, ...] = (1, 5, 20)
    """k of match_rate@k."""
    metre_tops: tuple[int, ...] = (1, 20)
    """k of METRe: each target meets the first k samples of all targets of its formula."""
    standard: Tolerances
    """Of the matcher whose rates have no suffix."""
    strict: Tolerances
    """Of the matcher whose rates end in _strict."""
    validity_samples: int = 1
    """Samples of each target whose validity is checked by the slow reference checks, in the order drawn."""
    metrics: tuple[str, ...]
    """Families of metrics, higher is better unless said otherwise; docs/explanation/eval.md defines them."""
    ceiling: Ceiling | None = None
    """The highest rate that any model can reach with what is given."""
    sources: tuple[str, ...]
    """Where data and definitions come from."""
    pitfalls: tuple[str, ...]
    """What a reader of its numbers has to know."""
    changes: tuple[str, ...]
    """What each version changed."""

    def __post_init__(self) -> None:
        if self.version < 1 or len(self.changes) != self.version:
            raise ConfigError(f"{self.name}: version {self.version} needs as many entries in `changes`")
        if self.task == "prediction" and max(self.tops) > self.samples_per_target:
            raise ConfigError(f"{self.name}: tops {self.tops} go beyond {self.samples_per_target} samples a target")


def benchmark_folder(given: Path | None = None) -> Path:
    """The folder of benchmark files: the one given, or that of the package; InputError where there is none."""
    for folder in [given] if given is not None else PLACES:
        if folder.is_dir():
            return folder
    raise InputError(
        f"no folder of benchmark files at {given or PLACES[-1].name}; give --benchmarks DIR with the files of "
        "eval/benchmarks of the repository, or the path of one file instead of a name"
    )


def load_benchmark(name: str, folder: Path | None = None) -> Benchmark:
    """A benchmark by name or by the path of its YAML file; an unknown name is an InputError that lists the others."""
    path = Path(name)
    if path.suffix not in {".yaml", ".yml"}:
        path = benchmark_folder(folder) / f"{name}.yaml"
        if not path.exists():
            known = sorted(file.stem for file in path.parent.glob("*.yaml"))
            raise InputError(f"unknown benchmark {name!r}; choose from {', '.join(known)}, or give a .yaml file")
    found = load_recipe(Benchmark, path)
    if found.name != path.stem:
        raise InputError(f"{path}: the benchmark calls itself {found.name!r}; name and file must agree")
    return found


def data_folder(given: Path | None) -> Path:
    """The folder of data files: --data, or the environment variable CRYSTALLM_DATA."""
    text = os.environ.get(DATA_VARIABLE)
    folder = given or (Path(text) if text else None)
    if folder is None:
        raise InputError(f"where are the data files? give --data DIR, or set {DATA_VARIABLE}")
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give --data DIR with the parquet files of the benchmark")
    return folder


def has_data_folder(given: Path | None) -> bool:
    """Whether a folder of data files is named, by --data or by the environment."""
    return given is not None or bool(os.environ.get(DATA_VARIABLE))


def files_of(rows: Rows, data: Path) -> list[Path]:
    """Paths of the files of some rows; InputError naming those that are missing."""
    paths = [data / name for name in rows.files]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise InputError(f"{data} lacks {', '.join(missing)}; get the data files, or give another --data DIR")
    return paths


def draw_targets(
    benchmark: Benchmark, data: Path, *, number: int | None, seed: int, only: Collection[str] | None = None
) -> Selection:
    """Targets of a benchmark: `number` drawn at random without replacement, None takes all; only those of some ids."""
    paths = files_of(benchmark.rows, data)
    columns = ["id", "cif", *([benchmark.rows.column] if benchmark.rows.column else [])]
    rows = [row for path in paths for row in read_parquet(path, columns)]
    if only is not None:
        rows = [row for row in rows if str(row.get("id")) in only]
        if not rows:
            return Selection([], Counter())
    config = SelectConfig(
        number=number or len(rows),
        seed=seed,
        max_sites=benchmark.max_sites,
        split_column=benchmark.rows.column or "",
        split=benchmark.rows.value or "",
    )
    return select_targets(rows, config)


def rows_digest(rows: Rows, data: Path) -> dict[str, str]:
    """SHA-256 of each file of some rows, by name."""
    return {path.name: sha256(path) for path in files_of(rows, data)}


def table(benchmarks: list[Benchmark]) -> str:
    """Benchmarks for people."""
    lines = []
    for item in benchmarks:
        part = "" if item.rows_at_hand == item.rows_published else f" of {item.rows_published:,} published"
        lines.append(f"{item.name} (version {item.version}): {item.title}")
        lines.append(f"    {item.rows_at_hand:,} rows{part}, in {', '.join(item.rows.files)}")
        if item.task == "prediction":
            lines.append(f"    given: {item.prompt}; {item.samples_per_target} samples a target, k = {item.tops}")
        lines += [f"    beware: {text}" for text in item.pitfalls]
    return "\n".join(lines)


def list_benchmarks(*, benchmarks: Path | None = None) -> None:
    """List the benchmarks: rows, what is given, pitfalls.

    Args:
        benchmarks: Folder of benchmark files (default: ours).
    """
    folder = benchmark_folder(benchmarks)
    names = sorted(file.stem for file in folder.glob("*.yaml"))
    if not names:
        raise InputError(f"{folder} holds no .yaml file; give --benchmarks DIR with the files of eval/benchmarks")
    print(table([load_benchmark(name, folder) for name in names]))


main = Command(list_benchmarks, "crystallm eval list")
