"""`crystallm eval score`: anyone's samples for a benchmark into a report, without torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import get_args

from crystallm.base.errors import ConfigError, InputError
from crystallm.base.folder_lock import only_writer
from crystallm.base.input_files import MAX_FILE_MB, add_reading_options
from crystallm.base.provenance import output_folder, provenance, sha256, write_json, write_text
from crystallm.crystal.matching.matchers import MatcherName
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
from crystallm.eval.sets.benchmark import Benchmark, data_folder, draw_targets, files_of, load_benchmark
from crystallm.eval.sets.samples import read_samples, samples_digest
from crystallm.eval.sets.targets import Target, read_targets

LEVELS = ("formula", "formula_units", "space_group")


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
    *,
    data: Path | None,
    out: Path,
    cache: Path,
    label: str,
    prompt: str,
    table: Path | None = None,
    maker: Maker | None = None,
    print_seen: bool = False,
) -> Report:
    """Score one set of samples, or several of the same model (seeds), and return the report.

    The report shows the first set in full, and every metric over all sets. data: folder of data files, None for
    $CRYSTALLM_DATA; not asked for where targets have a file of their own and prototypes are left out. maker: the model
    that made the samples; None: what they say of it. print_seen: show match rates even of targets it has seen.
    """
    targets = chosen.targets
    sets = [
        read_samples(path, targets, table=table, trust_atoms=config.trust_atoms, max_file_mb=config.max_file_mb)
        for path in paths
    ]
    asked = config.prototypes and benchmark.train is not None
    prototypes = seen_of(benchmark, targets, data_folder(data), cache, config) if asked else None
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
    if verdicts is not None and print_seen and any(verdict.seen for verdict in verdicts.values()):
        groups[SEEN_DIVISION] = {name: verdict.part for name, verdict in verdicts.items()}
    missed = frozenset[str]() if print_seen else few_seen(verdicts or {})
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
    rows = [chosen.file] if chosen.own and chosen.file else files_of(benchmark.rows, data_folder(data))
    made = provenance(config, inputs=[*rows, *([table] if table else [])])
    made["judges"] = judges(config)
    made["samples"] = {path.name: samples_digest(path) for path in paths}
    first = results[0]
    file = None if chosen.file is None else chosen.file.name
    report = Report(
        label=label,
        benchmark=benchmark,
        prompt=prompt,
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
    return mark_seen(report, maker, verdicts, shown=print_seen, missed=bool(missed))


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


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options shared with `crystallm eval run`."""
    default = ScoreConfig()
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of data files (default: $CRYSTALLM_DATA)")
    parser.add_argument("--benchmarks", type=Path, metavar="DIR", help="folder of benchmark files (default: ours)")
    parser.add_argument("--target-seed", type=int, default=0, metavar="S", help="of the draw of targets (%(default)s)")
    parser.add_argument("--prompt", choices=LEVELS, help="what was given (default: as the benchmark says)")
    parser.add_argument("--label", help="what the report calls the model")
    parser.add_argument(
        "--print-seen",
        action="store_true",
        help="print match rates, marked, even where the model has seen targets (default: they are withheld)",
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="for training prototypes (default: the --out folder)")
    parser.add_argument("--workers", type=int, default=default.workers, help="processes (default: one per core)")
    parser.add_argument("--matcher", choices=get_args(MatcherName), help="who compares crystals (compiled)")
    add_reading_options(parser)
    for name, text in {
        "time_limit": "seconds for one comparison (%(default)s)",
        "validity_time_limit": "seconds for the checks of one crystal (%(default)s)",
    }.items():
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=float, default=getattr(default, name), metavar="S", help=text)
    for name, text in {
        "validity": "make the reference checks (default: yes)",
        "prototypes": "tell seen from unseen prototypes (default: yes)",
        "metre": "METRe and cRMSE; long where many targets share a formula (default: yes)",
    }.items():
        parser.add_argument("--" + name, action=argparse.BooleanOptionalAction, default=True, help=text)


def score_config(options: argparse.Namespace) -> ScoreConfig:
    """Settings out of the options of `add_options`."""
    return ScoreConfig(
        workers=options.workers,
        time_limit=options.time_limit,
        validity_time_limit=options.validity_time_limit,
        validity=options.validity,
        prototypes=options.prototypes,
        metre=options.metre,
        matcher=options.matcher,
        trust_atoms=options.trust_atoms,
        max_file_mb=options.max_file_mb,
    )


def reading_options(options: argparse.Namespace) -> list[str]:
    """The options of `add_reading_options` as they were given, for the command below this one."""
    matcher = ["--matcher", options.matcher] if options.matcher else []
    return [*matcher, *(["--trust-atoms"] if options.trust_atoms else []), "--max-file-mb", f"{options.max_file_mb:g}"]


def score_free_samples(benchmark: Benchmark, samples: Path, data: Path, out: Path, more: Sequence[str]) -> None:
    """Score samples that answer no prompt: `crystallm eval denovo` with the benchmark's reference.

    The one seam between the two kinds of benchmark. more: further options of that command.
    """
    rows = benchmark.rows
    chosen = ["--split-column", rows.column, "--split", rows.value] if rows.column and rows.value else []
    reference = ["--reference", *map(str, files_of(rows, data))]
    command = [str(samples), *reference, *chosen, "--out", str(out), *more]
    import_module("crystallm.eval.denovo.command").main(command)


def name_of(samples: Path) -> str:
    """What a set of samples is called: its file, or the folder where the file is only called samples."""
    return samples.resolve().parent.name if samples.stem == "samples" and samples.suffix else samples.stem


def options_and_rest(argv: list[str]) -> tuple[list[str], list[str]]:
    """Options of a command, and what stands after `--` for the command below it."""
    place = argv.index("--") if "--" in argv else len(argv)
    return argv[:place], argv[place + 1 :]


def main(argv: list[str]) -> None:
    """Score samples for a benchmark and write OUT/report.json, OUT/report.md and figures.

    For free samples (de_novo), options after `--` are those of `crystallm eval denovo`.
    """
    arguments, more = options_and_rest(argv)
    parser = argparse.ArgumentParser(prog="crystallm eval score", description=main.__doc__)
    parser.add_argument("name", metavar="NAME", help="benchmark, see `crystallm eval list`, or a .yaml file")
    parser.add_argument(
        "samples",
        type=Path,
        nargs="+",
        metavar="SAMPLES",
        help="folder or zip of <target id>__<number>.cif, .jsonl, .parquet or .extxyz; several are seeds of one model",
    )
    parser.add_argument("--table", type=Path, metavar="CSV", help="columns file,target_id[,sample] for other names")
    parser.add_argument("--targets", default="all", metavar="N", help="all, a number to draw, or a file (%(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the report (default: scores/NAME_LABEL)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the report's JSON here")
    parser.add_argument(
        "--made-by",
        metavar="MODEL",
        help="which model made the samples: full, benchmark, or a checkpoint folder (default: what they say)",
    )
    parser.add_argument(
        "--compare-plain", type=int, default=0, metavar="N", help="also time N samples with the plain pymatgen loop"
    )
    add_options(parser)
    options = parser.parse_args(arguments)
    benchmark = load_benchmark(options.name, options.benchmarks)
    label = options.label or name_of(options.samples[0])
    out = options.out or Path("scores") / f"{benchmark.name}_{label}"
    if benchmark.task == "de_novo":
        more = [*reading_options(options), *more]
        score_free_samples(benchmark, options.samples[0], data_folder(options.data), out, more)
        return
    if more:
        raise ConfigError(f"what should {' '.join(more)} do? only benchmarks of free samples take options after --")
    if options.json and not options.json.resolve().parent.is_dir():
        raise ConfigError(f"cannot write {options.json}: its folder is missing; make it, or choose another place")
    maker = maker_called(options.made_by) if options.made_by else None
    chosen = choose_targets(benchmark, options.data, options.targets, options.target_seed)
    for path in options.samples:
        if not path.exists():
            raise InputError(f"{path} does not exist; give the samples to score")
    out, config = output_folder(out), score_config(options)
    with only_writer(out, remedy="choose another --out"):
        _score(benchmark, chosen, out, config, label=label, maker=maker, options=options)


def _score(
    benchmark: Benchmark,
    chosen: TargetSet,
    out: Path,
    config: ScoreConfig,
    *,
    label: str,
    maker: Maker | None,
    options: argparse.Namespace,
) -> None:
    report = score_files(
        benchmark,
        chosen,
        options.samples,
        config,
        data=options.data,
        out=out,
        cache=options.cache or out,
        label=label,
        prompt=options.prompt or benchmark.prompt,
        table=options.table,
        maker=maker,
        print_seen=options.print_seen,
    )
    if options.compare_plain:
        samples = read_samples(
            options.samples[0],
            chosen.targets,
            table=options.table,
            trust_atoms=config.trust_atoms,
            max_file_mb=config.max_file_mb,
        )
        plain_loop = compare_with_plain(benchmark, chosen.targets, samples, config, most=options.compare_plain)
        report = replace(report, plain_loop=plain_loop)
    print(write_report(report, out))
    if options.json:
        write_json(options.json, report.to_json())
    print(f"report: {out / 'report.json'}")
