"""`crystallm eval prediction`: score samples against true structures, beside the untrained substitution baseline."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pymatgen.io.cif import CifWriter
from tqdm import tqdm

from crystallm.crystal.cell import Rejection
from crystallm.crystal.cif import write_cif
from crystallm.crystal.validity import Checks
from crystallm.errors import ConfigError
from crystallm.eval.inputs import read_parquet
from crystallm.eval.report import markdown
from crystallm.eval.score import PredictionScore, compare, score
from crystallm.eval.substitution import SubstitutionLibrary
from crystallm.eval.targets import Sample, SampleSet, Target, read_samples, read_targets
from crystallm.eval.validity import ValidityConfig, ValidityCounts, check_all
from crystallm.provenance import output_folder, provenance, sha256, write_json, write_text

TOPS = (1, 5, 20)


@dataclass(frozen=True, kw_only=True)
class PredictionConfig:
    """Settings of the structure-prediction score."""

    samples_per_target: int = 20
    """Samples scored for each target, in the order drawn; more are ignored."""
    validity_samples: int = 1
    """Samples of each target whose validity is checked (the slow reference checks), in the order drawn."""
    workers: int = 0
    """Processes; 0 takes one for each core."""
    time_limit: float = 30.0
    """Seconds for one comparison; beyond it the sample counts as no match."""
    validity_time_limit: float = 60.0
    """Seconds for the checks of one crystal; beyond it they fail."""
    train_split_column: str = "suggested_split"
    train_split: str = "train"
    """Rows of the --train files that the baseline may use."""

    def __post_init__(self) -> None:
        if self.samples_per_target < 1:
            raise ConfigError(f"samples_per_target must be >= 1, got {self.samples_per_target}")
        if self.time_limit <= 0 or self.validity_time_limit <= 0:
            raise ConfigError("time limits must be > 0 seconds")


def substitution_samples(
    targets: Sequence[Target], library: SubstitutionLibrary, *, most: int
) -> tuple[SampleSet, dict[str, list[str]]]:
    """Candidates of the baseline as samples, and the ids of the templates used for each target."""
    library.fit_volumes()
    by_target: dict[str, list[Sample]] = {}
    templates: dict[str, list[str]] = {}
    for target in tqdm(targets, desc="substituting", unit="target", disable=None):
        found = library.candidates(target.amounts, target.formula_units, most=most)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pymatgen warns about noble gases
            cifs = [str(CifWriter(candidate.cell.to_structure())) for candidate in found]
        by_target[target.id] = [Sample(number, cif) for number, cif in enumerate(cifs)]
        templates[target.id] = [candidate.template_id for candidate in found]
    return SampleSet(by_target), templates


def read_library(paths: Sequence[Path], config: PredictionConfig) -> SubstitutionLibrary:
    """The baseline's library from the training rows of parquet files; rows of files without the column all count."""
    rows = []
    for path in paths:
        for row in read_parquet(path, ["id", "reduced_formula", "cif", "n_sites", config.train_split_column]):
            if row.get(config.train_split_column, config.train_split) == config.train_split:
                rows.append((str(row["id"]), str(row["reduced_formula"]), row["cif"], row.get("n_sites")))
    if not rows:
        raise ConfigError(f"the --train files have no row with {config.train_split_column} == {config.train_split!r}")
    return SubstitutionLibrary(rows)


def validity(texts: Sequence[str | Rejection], config: PredictionConfig, *, title: str) -> ValidityCounts:
    """Reference checks of CIF texts."""
    counts = ValidityCounts()

    def add(_: int, checks: Checks) -> None:
        counts.add(checks)

    settings = ValidityConfig(workers=config.workers, time_limit=config.validity_time_limit)
    check_all(texts, settings, on_result=add, title=title)
    return counts


def through_text(target: Target) -> str | Rejection:
    """The true structure as our own CIF, with its symmetry stated: the best that a model of this text could write."""
    return target.description if isinstance(target.description, Rejection) else write_cif(target.description)


def main(argv: list[str]) -> None:
    """Score samples and write OUT/prediction.json, OUT/prediction.md and the single comparisons."""
    options = _options(argv)
    samples_path, train, out = options.pop("samples"), options.pop("train"), output_folder(options.pop("out"))
    targets_path = options.pop("targets")
    if samples_path is None and not train:
        raise ConfigError("nothing to score: give SAMPLES.jsonl, or --train PARQUET for the baseline alone")
    config = PredictionConfig(**options)
    targets = read_targets(targets_path)
    scores: dict[str, PredictionScore] = {}
    checked: dict[str, ValidityCounts] = {}
    notes: dict[str, Any] = {}

    def measure(name: str, samples: SampleSet, key: str) -> None:
        few = {t: list(attempts)[: config.samples_per_target] for t, attempts in samples.by_target.items()}
        samples = SampleSet(few, samples.ignored)
        workers = config.workers or os.cpu_count() or 1
        log = out / f"matches_{name}_{key}.jsonl"
        matches = compare(targets, samples, workers=workers, time_limit_s=config.time_limit, log=log, title=name)
        scores[name] = score(targets, samples, matches, tops=[t for t in TOPS if t <= config.samples_per_target])
        if config.validity_samples:
            texts = [s.cif for attempts in few.values() for s in attempts[: config.validity_samples]]
            checked[name] = validity(texts, config, title=f"validity of {name}")

    key = _key(sha256(targets_path))
    if samples_path is not None:
        samples = read_samples(samples_path, targets)
        notes["ignored_records"] = dict(samples.ignored)
        measure("samples", samples, _key(key, sha256(samples_path)))
    if train:
        library = read_library(train, config)
        notes["baseline_library"] = len(library)
        baseline, templates = substitution_samples(targets, library, most=config.samples_per_target)
        write_text(out / "substitution.jsonl", _lines(baseline, templates))
        measure("substitution", baseline, _key(key, sha256(out / "substitution.jsonl")))
    if config.validity_samples:
        checked["truth as given"] = validity([t.cif for t in targets], config, title="validity of the truth")
        checked["truth through the text"] = validity(
            [through_text(t) for t in targets], config, title="validity of the truth as text"
        )
    inputs = [targets_path, *([samples_path] if samples_path else []), *train]
    report = {
        "targets": len(targets),
        "prediction": {name: found.to_json() for name, found in scores.items()},
        "validity": {name: counts.to_json() for name, counts in checked.items()},
        **notes,
        "provenance": provenance(config, inputs=inputs),
    }
    write_json(out / "prediction.json", report)
    text = markdown(targets=len(targets), scores=scores, checked=checked, notes=notes, settings=asdict(config))
    write_text(out / "prediction.md", text)
    print(text)


def _options(argv: list[str]) -> dict[str, Any]:
    default = PredictionConfig()
    parser = argparse.ArgumentParser(prog="crystallm eval prediction", description=main.__doc__)
    parser.add_argument("targets", type=Path, help="parquet with id and cif (see `crystallm eval select`)")
    parser.add_argument("samples", type=Path, nargs="?", help="JSONL with target_id, sample, cif, log_probability")
    parser.add_argument("--train", type=Path, nargs="+", default=[], metavar="PARQUET", help="library of the baseline")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    parser.add_argument("--workers", type=int, default=default.workers, help="processes (default: one per core)")
    for name, text in {
        "samples_per_target": "samples scored for each target (%(default)s)",
        "validity_samples": "samples of each target that are checked for validity (%(default)s; 0: none)",
        "time_limit": "seconds for one comparison (%(default)s)",
        "validity_time_limit": "seconds for the checks of one crystal (%(default)s)",
        "train_split_column": "(%(default)s)",
        "train_split": "rows of --train with this value are used (%(default)s)",
    }.items():
        value = getattr(default, name)
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value, help=text)
    return vars(parser.parse_args(argv))


def _lines(samples: SampleSet, templates: Mapping[str, Sequence[str]]) -> str:
    rows = (
        {"target_id": name, "sample": sample.number, "template": templates[name][sample.number], "cif": sample.cif}
        for name, attempts in samples.by_target.items()
        for sample in attempts
    )
    return "".join(json.dumps(row) + "\n" for row in rows)


def _key(*parts: str) -> str:
    """Short name of what a log of comparisons belongs to; another input gets another log."""
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:12]
