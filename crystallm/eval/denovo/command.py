"""`crystallm eval denovo`: validity, uniqueness, novelty and stability of anyone's free samples."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any, get_args

from pymatgen.io.cif import CifWriter

from crystallm.base.errors import ConfigError
from crystallm.base.folder_lock import only_writer
from crystallm.base.input_files import add_reading_options
from crystallm.base.provenance import output_folder, provenance, write_json, write_text
from crystallm.crystal.checks.paths import CHECKS_PATHS
from crystallm.crystal.matching.matchers import MATCHERS, MatcherName
from crystallm.crystal.switch import told
from crystallm.energy.potentials.protocol import POTENTIALS, identity, require
from crystallm.energy.relaxation.relaxation import RelaxationSettings
from crystallm.eval.denovo.evaluation import DenovoConfig, DenovoScore, score_denovo
from crystallm.eval.denovo.named_reference import Reference
from crystallm.eval.denovo.report import choose_pictures, draw_figures, markdown, page
from crystallm.eval.denovo.stability import StabilityConfig
from crystallm.eval.sets.inputs import Record, read_records


def main(argv: list[str]) -> None:
    """Judge free samples, every one in every denominator; write OUT/denovo.json, .md, .html and figures."""
    options = _parser().parse_args(argv)
    workers = options.workers or os.cpu_count() or 1
    config = DenovoConfig(
        workers=workers,
        time_limit=options.time_limit,
        reference_rows=options.reference_rows,
        seed=options.seed,
        matcher=options.matcher,
        trust_atoms=options.trust_atoms,
        max_file_mb=options.max_file_mb,
        split_column=options.split_column if options.split else "",
        split=options.split,
        stability=_stability(options, workers) if options.energy else None,
    )
    if config.stability is not None:
        require(config.stability.relaxation.potential)  # before an hour's work, not after it
    samples = read_records(options.samples, trust_atoms=config.trust_atoms, max_file_mb=config.max_file_mb)
    if options.number:
        samples = samples[: options.number]
    reference = Reference(
        options.reference,
        split_column=config.split_column,
        split=config.split,
        workers=workers,
        time_limit_s=config.time_limit,
    )
    out = output_folder(options.out)
    with only_writer(out, remedy="choose another --out"):
        _judge(samples, reference, config, out, options)


def _judge(
    samples: list[Record], reference: Reference, config: DenovoConfig, out: Path, options: argparse.Namespace
) -> None:
    score = score_denovo(samples, reference, config, folder=out, energies=options.energy_cache)
    rows = choose_pictures(score, samples, reference)
    figures = draw_figures(score, rows, out)
    record = provenance(config, inputs=[options.samples, *options.reference])
    record["judges"] = {"matcher": MATCHERS[config.matcher].to_json(), "checks": CHECKS_PATHS.reference.to_json()}
    settings: dict[str, Any] = {
        key: value for key, value in record["config"].items() if key not in ("stability", "max_file_mb") and value != ""
    }
    if config.stability is not None:
        settings |= {key: value for key, value in record["config"]["stability"].items() if key != "relaxation"}
        settings |= record["config"]["stability"]["relaxation"]
        settings["potential"] = identity(config.stability.relaxation.potential)
        write_text(out / "relaxed.jsonl", relaxed_lines(score))
    settings |= {question: told(judge) for question, judge in record["judges"].items()}
    names = [path.name for path in options.reference]
    write_json(
        out / "denovo.json",
        score.to_json() | {"reference": names, "figures": figures, "provenance": record},
    )
    text = markdown(score, reference=names, settings=settings, figures=figures)
    write_text(out / "denovo.md", text)
    # The crystals stand in the page in three dimensions; their flat picture is for the Markdown.
    write_text(out / "denovo.html", page(score, rows, [out / name for name in figures if name != "crystals.png"]))
    print(text)


def relaxed_lines(score: DenovoScore) -> str:
    """The relaxed crystals as JSONL that the other commands read: id, cif, energy_above_hull in eV per atom."""
    rows = [
        {
            "id": verdict.name,
            "cif": str(CifWriter(verdict.stability.relaxation.cell.to_structure())),
            "energy_above_hull": verdict.stability.above_hull,
        }
        for verdict in score.verdicts
        if verdict.stability is not None and verdict.stability.relaxation is not None
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def _stability(options: argparse.Namespace, workers: int) -> StabilityConfig:
    return StabilityConfig(
        relaxation=RelaxationSettings(
            potential=options.potential, max_force=options.max_force, max_steps=options.max_steps
        ),
        time_limit=options.relax_time_limit,
        reference_window=options.reference_window,
        workers=workers,
    )


def _parser() -> argparse.ArgumentParser:
    default, energy, relaxation = DenovoConfig(), StabilityConfig(), RelaxationSettings()
    parser = argparse.ArgumentParser(prog="crystallm eval denovo", description=main.__doc__)
    add = parser.add_argument
    add("samples", type=Path, help="folder or zip of CIFs, .jsonl with `cif`, .parquet with `cif`")
    add("--reference", type=Path, nargs="+", required=True, metavar="PARQUET", help="real crystals, column `cif`")
    add("--out", type=Path, required=True, help="folder to write; a killed run with the same folder goes on")
    add("-n", "--number", type=_positive, help="take the first samples only")
    add("--split", default=default.split, help="reference rows with this value in the split column (default: all)")
    add("--split-column", default="suggested_split", help="(%(default)s)")
    add("--reference-rows", type=int, default=default.reference_rows, help="drawn for distances (%(default)s)")
    add("--seed", type=int, default=default.seed, help="of that draw (%(default)s)")
    add("--matcher", choices=get_args(MatcherName), default=default.matcher, help="who compares (%(default)s)")
    add_reading_options(parser)
    add("--workers", type=int, default=0, help="processes (default: one per core)")
    add("--time-limit", type=float, default=default.time_limit, metavar="S", help="seconds per step (%(default)s)")
    add("--energy", action="store_true", help="relax and place above a hull; needs `pip install crystallm[energy]`")
    add("--potential", default=relaxation.potential, help=POTENTIALS)
    add("--energy-cache", type=Path, metavar="FILE", help="JSONL of known energies, appended to (OUT/energies.jsonl)")
    add("--max-force", type=float, default=relaxation.max_force, metavar="F", help="eV/angstrom (%(default)s)")
    add("--max-steps", type=int, default=relaxation.max_steps, help="of a relaxation (%(default)s)")
    add("--relax-time-limit", type=float, default=energy.time_limit, metavar="S", help="seconds (%(default)s)")
    add(
        "--reference-window",
        type=float,
        default=energy.reference_window,
        metavar="E",
        help="most that relaxing a reference may gain, eV per atom; 0 takes references as given (%(default)s)",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ConfigError(f"-n must be >= 1, got {number}")
    return number
