"""`crystallm eval denovo`: validity, uniqueness, novelty and stability of anyone's free samples."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pymatgen.io.cif import CifWriter

from crystallm.base.command_line import Command, Option
from crystallm.base.errors import ConfigError
from crystallm.base.folder_lock import only_writer
from crystallm.base.provenance import output_folder, provenance, write_json, write_text
from crystallm.crystal.checks.paths import CHECKS_PATHS
from crystallm.crystal.matching.matchers import MATCHERS
from crystallm.crystal.switch import told
from crystallm.energy.potentials.protocol import identity, require
from crystallm.energy.relaxation.relaxation import RelaxationSettings
from crystallm.eval.denovo.evaluation import DenovoConfig, DenovoScore, score_denovo
from crystallm.eval.denovo.named_reference import Reference
from crystallm.eval.denovo.report import choose_pictures, draw_figures, markdown, page
from crystallm.eval.denovo.stability import StabilityConfig
from crystallm.eval.sets.inputs import Record, read_records


def judge(
    samples: Path,
    config: DenovoConfig,
    relaxation: RelaxationSettings,
    *,
    reference: Annotated[tuple[Path, ...], Option(metavar="PARQUET")],
    out: Path,
    number: Annotated[int | None, Option("-n")] = None,
    energy: bool = False,
    energy_cache: Annotated[Path | None, Option(metavar="FILE")] = None,
    relax_time_limit: float = StabilityConfig.time_limit,
    reference_window: float = StabilityConfig.reference_window,
) -> None:
    """Judge free samples, every one in every denominator; write OUT/denovo.json, .md, .html and figures.

    Args:
        samples: Folder or zip of CIFs, .jsonl with `cif`, .parquet with `cif`.
        reference: Real crystals, column `cif`.
        out: Folder to write; a killed run with the same folder goes on.
        number: Take the first samples only.
        energy: Relax and place above a hull; needs `pip install crystallm[energy]`.
        energy_cache: JSONL of known energies, appended to (default: OUT/energies.jsonl).
        relax_time_limit: Seconds for one relaxation.
        reference_window: Most that relaxing a reference may gain, eV per atom; 0 takes references as given.
    """
    if number is not None and number < 1:
        raise ConfigError(f"-n must be >= 1, got {number}")
    if not config.split:
        config = replace(config, split_column="")
    config = replace(config, workers=config.workers or os.cpu_count() or 1)
    if energy:
        require(relaxation.potential)  # before an hour's work, not after it
        stability = StabilityConfig(
            relaxation=relaxation,
            time_limit=relax_time_limit,
            reference_window=reference_window,
            workers=config.workers,
        )
        config = replace(config, stability=stability)
    records = read_records(samples, trust_atoms=config.trust_atoms, max_file_mb=config.max_file_mb)[:number]
    named = Reference(
        reference,
        split_column=config.split_column,
        split=config.split,
        workers=config.workers,
        time_limit_s=config.time_limit,
    )
    out = output_folder(out)
    with only_writer(out, remedy="choose another --out"):
        score = score_denovo(records, named, config, folder=out, energies=energy_cache)
        _write(score, records, named, config, out, inputs=[samples, *reference])


main = Command(judge, "crystallm eval denovo")


def _write(
    score: DenovoScore,
    samples: list[Record],
    reference: Reference,
    config: DenovoConfig,
    out: Path,
    *,
    inputs: Sequence[Path],
) -> None:
    rows = choose_pictures(score, samples, reference)
    figures = draw_figures(score, rows, out)
    record = provenance(config, inputs=inputs)
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
    names = [path.name for path in inputs[1:]]
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
