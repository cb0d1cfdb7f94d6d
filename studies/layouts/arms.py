"""One arm after the other: trained with the same operations, and measured on the same crystals."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from crystallm.base.config import to_mapping
from crystallm.base.errors import ConfigError, InputError
from crystallm.base.provenance import output_folder, provenance, write_json, write_text
from crystallm.eval.prediction.scoring import plain
from crystallm.eval.rate import Rate
from crystallm.eval.sets.targets import Target, read_targets
from crystallm.model.architecture import count_parameters
from crystallm.model.checkpoint import load_checkpoint
from crystallm.sample.generator import Generator
from crystallm.sample.output.records import FINISHED, RECORDS, read_records
from crystallm.train.config import TrainConfig
from crystallm.train.finetune.config import FinetuneConfig
from crystallm.train.finetune.judging import draw_samples, gained_and_lost, judge, validity
from crystallm.train.held_out import prompts_of
from crystallm.train.monitor.compute import flop_per_step, steps_for
from crystallm.train.session import train
from crystallm.train.starting_model import load_tokenizer
from crystallm.train.texts.corpus import load_corpus
from studies.bench.sampling_ways import Drawn, ours
from studies.layouts.bits import CrystalBits, crystal_bits, mean_of, summary
from studies.layouts.config import LayoutsConfig
from studies.layouts.report import draw_figure, markdown

logger = logging.getLogger(__name__)

SETTINGS, RESULT, BITS = "settings.json", "result.json", "bits.json"

PER_TARGET = ("first_match", "undecided")
"""What a result holds of every target, which is too much for the report."""


def chosen_targets(texts: Path, config: LayoutsConfig) -> list[Target]:
    """Targets drawn from those of the folder, the same for all arms."""
    targets = read_targets(texts / "targets.parquet")
    if len(targets) < config.targets:
        raise InputError(f"{texts} holds {len(targets)} targets, {config.targets} are wanted; lower --set targets")
    return random.Random(config.seed).sample(targets, config.targets)


def run_arm(
    name: str, recipe: TrainConfig, config: LayoutsConfig, texts: Path, targets: Sequence[Target], out: Path
) -> dict[str, Any]:
    """Train and measure one arm, or read what was measured."""
    folder = output_folder(out / name)
    if (folder / RESULT).is_file():
        return read_result(folder)
    data = texts / recipe.layout
    if not (data / "train.parquet").is_file():
        raise InputError(f"{texts} holds no texts of layout {recipe.layout!r}; make them with studies.layouts.texts")
    planned, budget = with_budget(recipe, config, data)
    run = folder / "run"
    trained = train(planned, data, run, resume=(run / "recipe.yaml").is_file())
    model = trained.run.final
    logger.info("bits of the validation crystals")
    bits = crystal_bits(model, data / "val.parquet")
    write_json(folder / BITS, {crystal: asdict(found) for crystal, found in bits.items()})
    measured = measure(config, model, targets, folder)
    last = trained.run.lines()[-1]
    result = plain(
        {
            "arm": name,
            "recipe": to_mapping(planned),
            "parameters": count_parameters(load_checkpoint(model).model),
            "vocabulary": len(load_tokenizer(recipe.layout, None)),
            "budget": budget,
            "steps": last["step"],
            "tokens_seen": last["tokens"],
            # The first token of a text is given and not counted.
            "epochs": last["tokens"] / (budget["train_crystals"] * (budget["tokens_a_crystal"] - 1)),
            "seconds": last["seconds"],
            "bits": summary(bits),
            "not_walked": sum(found.free is None for found in bits.values()),
            **measured,
        }
    )
    write_json(folder / RESULT, result)
    return read_result(folder)


def with_budget(recipe: TrainConfig, config: LayoutsConfig, data: Path) -> tuple[TrainConfig, dict[str, float]]:
    """The recipe with the steps that the operations buy for its texts, and the sums behind it."""
    tokenizer = load_tokenizer(recipe.layout, None)
    corpus = load_corpus(data / "train.parquet", tokenizer, max_tokens=recipe.longest_text)
    steps = steps_for(1e12 * config.teraflop, recipe, corpus.lengths, vocabulary=len(tokenizer))
    cost = flop_per_step(recipe, corpus.lengths, vocabulary=len(tokenizer))
    about = {
        "teraflop": steps * cost / 1e12,
        "tokens_a_crystal": float(corpus.lengths.mean()),
        "train_crystals": len(corpus),
        "left_out": corpus.left_out,
    }
    return replace(recipe, max_steps=steps, epochs=None, max_minutes=None), about


def measure(config: LayoutsConfig, model: Path, targets: Sequence[Target], folder: Path) -> dict[str, Any]:
    """Speed, draws, matches and validity of a model."""
    # The part of the recipe of fine-tuning that says how a model is measured.
    settings = FinetuneConfig(
        draws=config.draws,
        temperature=config.temperature,
        contact=config.contact,
        bond_tries=0,
        guide=0.0,  # layouts are compared by what their models alone draw
        seed=config.seed,
        batch_size=config.batch_size,
    )
    logger.info("%d draws for each of %d targets", config.draws, len(targets))
    samples = draw_samples(settings, str(model), targets, folder / "samples", title=folder.name)
    states = [record["status"] == FINISHED for record in read_records(folder / "samples" / RECORDS)]
    logger.info("matches and validity")
    found = judge(settings, targets, samples, folder / "samples")
    return {
        "speed": speed(config, model, targets),
        "finished": Rate(sum(states), len(states)),
        **found,
    }


def speed(config: LayoutsConfig, model: Path, targets: Sequence[Target]) -> dict[str, Any]:
    """Crystals a second of the sampler, once tables and kernels are there."""
    generator = Generator.from_pretrained(model)
    prompts = prompts_of(targets, "formula_units")[: config.timed]
    drawn = Drawn(config.temperature, config.seed, config.contact)
    timings = [ours(generator, prompts, rows=config.batch_size, drawn=drawn) for _ in range(2)]
    return timings[-1].to_json()


def differences(arm: Path, reference: Path, *, draws: int) -> dict[str, Any]:
    """Bits of an arm less those of the reference, crystal by crystal, and targets that only one of them matches."""
    own, other = (read_bits(folder) for folder in (arm, reference))
    both = [name for name, found in own.items() if found.free is not None and other[name].free is not None]
    found = {"whole": mean_of([own[name].whole - other[name].whole for name in own])}
    if both:
        found["free"] = mean_of([free_of(own[name]) - free_of(other[name]) for name in both])
    before, after = read_result(reference), read_result(arm)
    changes = {f"@{top}": gained_and_lost(before, after, top=top) for top in sorted({1, draws})}
    return {**found, "gained_and_lost": changes}


def read_result(arm: Path) -> dict[str, Any]:
    """What was measured of an arm that is done."""
    found: dict[str, Any] = json.loads((arm / RESULT).read_text(encoding="utf-8"))
    return found


def free_of(bits: CrystalBits) -> float:
    """Bits of all free choices of a text that the automaton writes."""
    assert bits.free is not None
    return sum(bits.free.values())


def read_bits(arm: Path) -> dict[str, CrystalBits]:
    """The bits of every validation crystal of an arm that is done."""
    rows = json.loads((arm / BITS).read_text(encoding="utf-8"))
    return {name: CrystalBits(**row) for name, row in rows.items()}


def compare(arms: Sequence[tuple[str, TrainConfig]], config: LayoutsConfig, texts: Path, out: Path) -> dict[str, Any]:
    """Run all arms and write OUT/layouts.json, layouts.md and layouts.png after each."""
    kept = out / SETTINGS
    if kept.is_file() and json.loads(kept.read_text(encoding="utf-8")) != to_mapping(config):
        raise ConfigError(f"{out} was begun with other settings, see {kept}; repeat them, or choose another OUT")
    write_json(kept, to_mapping(config))
    targets = chosen_targets(texts, config)
    truth = plain(validity([target.cif for target in targets], title="validity of the truth"))
    rows: list[dict[str, Any]] = []
    report: dict[str, Any] = {}
    for number, (name, recipe) in enumerate(arms, start=1):
        logger.info("== %d of %d: %s", number, len(arms), name)
        rows.append(run_arm(name, recipe, config, texts, targets, out))
        if (out / config.reference / RESULT).is_file():
            for row in rows:
                row["against_reference"] = differences(out / row["arm"], out / config.reference, draws=config.draws)
        inputs = [texts / "texts.json", texts / "targets.parquet"]
        report = {
            "settings": to_mapping(config),
            "targets": len(targets),
            "validation_crystals": pq.read_metadata(texts / recipe.layout / "val.parquet").num_rows,
            "truth_valid": truth,
            "arms": [{key: value for key, value in row.items() if key not in PER_TARGET} for row in rows],
            "provenance": provenance(config, inputs=inputs),
        }
        write_json(out / "layouts.json", report)
        write_text(out / "layouts.md", markdown(report))
        draw_figure(report, out / "layouts.png")
    return report
