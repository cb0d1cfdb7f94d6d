"""`crystallm eval score`: anyone's samples for a benchmark into a report, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from crystallm.base.command_line import Command, Option
from crystallm.base.config import to_mapping
from crystallm.base.errors import ConfigError, InputError
from crystallm.base.folder_lock import only_writer
from crystallm.base.input_files import MAX_FILE_MB, Reading
from crystallm.base.provenance import check_place, output_folder, provenance, sha256, write_json, write_text
from crystallm.eval.benchmarking.report import SEEN_DIVISION, markdown
from crystallm.eval.pages.figures import write_figures
from crystallm.eval.prediction.plain_loop import compare_with_plain
from crystallm.eval.prediction.report_file import write_report_file
from crystallm.eval.prediction.results import Drawn, Report
from crystallm.eval.prediction.scoring import (
    ScoreConfig,
    comparisons_log,
    judges,
    over_seeds,
    score_prediction,
    seen_of,
)
from crystallm.eval.seen import Maker, few_seen, judge_targets, maker_called, maker_of_samples, mark_seen
from crystallm.eval.sets.benchmark import (
    Benchmark,
    Level,
    data_folder,
    draw_targets,
    files_of,
    has_data_folder,
    load_benchmark,
)
from crystallm.eval.sets.samples import read_samples, samples_digest
from crystallm.eval.sets.targets import Target, read_targets


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What scoring needs to know beside its settings."""

    data: Path | None = None
    """Folder of data files (default: $CRYSTALLM_DATA)."""
    benchmarks: Path | None = None
    """Folder of benchmark files (default: ours)."""
    target_seed: int = 0
    """Of the draw of targets."""
    prompt: Level | None = None
    """What was given (default: as the benchmark says)."""
    label: str | None = None
    """What the report calls the model."""
    print_seen: bool = False
    """Print match rates, marked, even where the model has seen targets (default: they are withheld)."""
    cache: Path | None = None
    """Folder for training prototypes (default: the --out folder)."""


@dataclass(frozen=True)
class TargetSet:
    """Targets and how they were chosen."""

    targets: Sequence[Target]
    number: int | None
    """None: all rows, or those of a file."""
    seed: int
    refused: dict[str, int]
    file: Path | None = None
    """The file that chose them, if one did."""

    @property
    def own(self) -> bool:
        """Whether the file holds the targets themselves, so that those of the benchmark are not needed."""
        return self.file is not None and self.file.suffix == ".parquet"


def choose_targets(benchmark: Benchmark, data: Path | None, wanted: str, seed: int) -> TargetSet:
    """Targets of a benchmark: `all`, a number to be drawn, or a file: parquet with id and cif, or ids, one a line.

    data: folder of data files, asked for where targets are not in a parquet file of their own.
    """
    path = Path(wanted)
    if path.suffix == ".parquet":
        return TargetSet(read_targets(path), None, seed, {}, path)
    data = data_folder(data)
    if wanted == "all" or wanted.isdecimal():
        number = None if wanted == "all" else int(wanted)
        if number == 0:
            raise ConfigError("--targets 0 leaves nothing to score; give a number of at least 1, or all")
        drawn = draw_targets(benchmark, data, number=number, seed=seed)
        return TargetSet(drawn.targets, number, seed, dict(drawn.refused))
    try:
        names = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--targets {wanted!r} is no number, not `all`, and no file of ids: {error}") from error
    drawn = draw_targets(benchmark, data, number=None, seed=seed, only=set(names))
    known = {target.id: target for target in drawn.targets}
    unknown = [name for name in names if name not in known]
    if unknown or not names or len(set(names)) < len(names):
        what = f"{unknown[0]!r} is no target of {benchmark.name}" if unknown else "it is empty or an id occurs twice"
        raise InputError(f"{path}: {what}; give ids of {', '.join(benchmark.rows.files)}, one a line, each once")
    return TargetSet([known[name] for name in names], None, seed, {}, path)


def score_files(
    benchmark: Benchmark,
    chosen: TargetSet,
    paths: Sequence[Path],
    config: ScoreConfig,
    asked: Asked,
    *,
    out: Path,
    label: str,
    table: Path | None = None,
    maker: Maker | None = None,
) -> Report:
    """Score one set of samples, or several of the same model (seeds), and return the report.

    The report shows the first set in full, and every metric over all sets. The folder of data files is not asked for
    where targets have a file of their own; prototypes are then compared only if it is given. maker: the model that made
    the samples; None: what they say of it.
    """
    targets = chosen.targets
    sets = [
        read_samples(path, targets, table=table, trust_atoms=config.trust_atoms, max_file_mb=config.max_file_mb)
        for path in paths
    ]
    prototypes = None
    if config.prototypes and benchmark.train is not None and (not chosen.own or has_data_folder(asked.data)):
        prototypes = seen_of(benchmark, targets, data_folder(asked.data), asked.cache or out, config)
    maker = maker or maker_of_samples(paths)
    verdicts = None
    if maker.folder is not None:
        verdicts = judge_targets(
            targets,
            maker.folder,
            tolerances=benchmark.standard,
            workers=config.processes,
            time_limit_s=config.time_limit,
        )
    groups = {"prototype": prototypes} if prototypes is not None else {}
    if verdicts is not None and asked.print_seen and any(verdict.seen for verdict in verdicts.values()):
        groups[SEEN_DIVISION] = {name: verdict.part for name, verdict in verdicts.items()}
    missed = frozenset[str]() if asked.print_seen else few_seen(verdicts or {})
    results = [
        score_prediction(
            benchmark,
            targets,
            samples,
            config,
            log=comparisons_log(
                out, benchmark, targets, samples_read(path, table, config), matcher=config.chosen_matcher
            ),
            groups=groups,
            missed=missed,
        )
        for path, samples in zip(paths, sets, strict=True)
    ]
    rows = [chosen.file] if chosen.own and chosen.file else files_of(benchmark.rows, data_folder(asked.data))
    made = provenance(config, inputs=[*rows, *([table] if table else [])])
    made["judges"] = judges(config)
    made["samples"] = {path.name: samples_digest(path) for path in paths}
    first = results[0]
    file = None if chosen.file is None else chosen.file.name
    report = Report(
        label=label,
        benchmark=benchmark,
        prompt=asked.prompt or benchmark.prompt,
        targets=len(targets),
        drawn=Drawn(number=chosen.number, seed=chosen.seed, file=file, refused=chosen.refused),
        metrics=first.metrics,
        ceilings=first.ceilings,
        parts=first.parts,
        curve=first.curve,
        samples=first.samples,
        space_groups=first.space_groups,
        validity=first.validity,
        over_seeds=over_seeds([result.metrics for result in results]) if len(results) > 1 else {},
        per_target=tuple(result.per_target for result in results),
        provenance=made,
    )
    return mark_seen(report, maker, verdicts, shown=asked.print_seen, missed=bool(missed))


def samples_read(path: Path, table: Path | None, config: ScoreConfig) -> str:
    """What the crystals of samples depend on: the files, and how they are read where that is not the default."""
    digest = samples_digest(path) + (f" {sha256(table)}" if table else "") + " trusting atoms" * config.trust_atoms
    return digest + f" up to {config.max_file_mb:g} MB" * (config.max_file_mb != MAX_FILE_MB)


def write_report(report: Report, out: Path) -> str:
    """Write OUT/report.json with its table of targets, OUT/report.md and the figures; returns the Markdown."""
    text = markdown(report)
    write_report_file(report, out)
    figures = write_figures(report, out)
    write_text(out / "report.md", text + "".join(f"\n![{name}]({name})" for name in figures) + "\n" * bool(figures))
    return text


def score_free_samples(
    benchmark: Benchmark, samples: Path, data: Path, out: Path, config: ScoreConfig, more: Sequence[str] = ()
) -> None:
    """Score samples that answer no prompt: `crystallm eval denovo` with the benchmark's reference.

    The one seam between the two kinds of benchmark. more: options of that command that the user has given.
    """
    from crystallm.eval.denovo.command import main as denovo

    rows = benchmark.rows
    split = {"split_column": rows.column, "split": rows.value} if rows.column and rows.value else {}
    reference = tuple(files_of(rows, data))
    reading = Reading(trust_atoms=config.trust_atoms, max_file_mb=config.max_file_mb)
    judge = () if config.matcher is None else ("--matcher", config.matcher)
    denovo((*judge, *more), samples=samples, reference=reference, out=out, **split, **to_mapping(reading))


def name_of(samples: Path) -> str:
    """What a set of samples is called: its file, or the folder where the file is only called samples."""
    return samples.resolve().parent.name if samples.stem == "samples" and samples.suffix else samples.stem


def score(
    name: str,
    samples: tuple[Path, ...],
    asked: Asked,
    config: ScoreConfig,
    *,
    table: Annotated[Path | None, Option(metavar="CSV")] = None,
    targets: Annotated[str, Option(metavar="N")] = "all",
    out: Path | None = None,
    json: Annotated[Path | None, Option(metavar="FILE")] = None,
    made_by: Annotated[str | None, Option(metavar="MODEL")] = None,
    compare_plain: int = 0,
    more: Sequence[str] = (),
) -> None:
    """Score samples for a benchmark and write OUT/report.json, OUT/report.md and figures.

    For free samples (de_novo), options after `--` are those of `crystallm eval denovo`.

    Args:
        name: Benchmark, see `crystallm eval list`, or a .yaml file.
        samples: Folder or zip of <target id>__<number>.cif, .jsonl, .parquet or .extxyz; several are seeds of one
            model.
        table: Columns file,target_id[,sample] for other names.
        targets: All, a number to draw, or a file.
        out: Folder of the report (default: scores/NAME_LABEL).
        json: Also write the report's JSON here.
        made_by: Which model made the samples: full, benchmark, or a checkpoint folder (default: what they say).
        compare_plain: Also time N samples with the plain pymatgen loop.
    """
    benchmark = load_benchmark(name, asked.benchmarks)
    label = asked.label or name_of(samples[0])
    out = out or Path("scores") / f"{benchmark.name}_{label}"
    if benchmark.task == "de_novo":
        score_free_samples(benchmark, samples[0], data_folder(asked.data), out, config, more)
        return
    if more:
        raise ConfigError(f"what should {' '.join(more)} do? only benchmarks of free samples take options after --")
    check_place(json)
    maker = maker_called(made_by) if made_by else None
    chosen = choose_targets(benchmark, asked.data, targets, asked.target_seed)
    for path in samples:
        if not path.exists():
            raise InputError(f"{path} does not exist; give the samples to score")
    out = output_folder(out)
    with only_writer(out, remedy="choose another --out"):
        report = score_files(benchmark, chosen, samples, config, asked, out=out, label=label, table=table, maker=maker)
        if compare_plain:
            first = read_samples(
                samples[0],
                chosen.targets,
                table=table,
                trust_atoms=config.trust_atoms,
                max_file_mb=config.max_file_mb,
            )
            plain_loop = compare_with_plain(benchmark, chosen.targets, first, config, most=compare_plain)
            report = replace(report, plain_loop=plain_loop)
        print(write_report(report, out))
        if json:
            write_json(json, report.to_json())
        print(f"report: {out / 'report.json'}")


main = Command(score, "crystallm eval score")
