"""Fine-tuning in one call: prepare, split, train, sample what was held out before and after, report."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from crystallm.base.config import load_recipe, to_mapping, write_recipe
from crystallm.base.errors import ConfigError, InputError
from crystallm.base.folder_lock import is_empty, only_writer
from crystallm.base.provenance import output_folder, provenance, write_json, write_text
from crystallm.data.sources.sources import open_source
from crystallm.eval.prediction.scoring import plain
from crystallm.model.architecture import shape_of
from crystallm.model.checkpoint import Checkpoint, load_checkpoint
from crystallm.train.config import TrainConfig
from crystallm.train.export import nameless
from crystallm.train.finetune.config import FinetuneConfig, settled, train_config
from crystallm.train.finetune.data import Material, prepare_material
from crystallm.train.finetune.judging import draw_samples, gained_and_lost, judge, losses, seen_before, validity
from crystallm.train.finetune.report import add_to_card, draw_curves, markdown
from crystallm.train.held_out import targets_of
from crystallm.train.optim.adapter import require_peft
from crystallm.train.session import train
from crystallm.train.starting_model import folder_of, load_tokenizer, require_vocabulary
from crystallm.train.texts.batches import draw_replay, plan_epoch
from crystallm.train.texts.corpus import Corpus, load_corpus

logger = logging.getLogger(__name__)

RECIPE = "finetune.yaml"


@dataclass(frozen=True)
class Plan:
    """What the data decided: the recipe with nothing left open, and the training recipe that follows from it."""

    config: FinetuneConfig
    training: TrainConfig
    layout: str


def finetune(
    config: FinetuneConfig, sources: Sequence[str], out: Path, *, resume: bool = False, before: Path | None = None
) -> dict[str, Any]:
    """Fine-tune by `config` on the crystals of `sources`, writing the folder `out`; returns the report.

    before: folder with draws for the same held-out crystals from the same model, which need not be made again. With
    `resume` what an earlier run finished is kept. Raises InputError, ConfigError or CheckpointError.
    """
    checkpoint = load_checkpoint(folder_of(config.model))
    require_vocabulary(checkpoint, load_tokenizer(checkpoint.layout_name, None))
    for source in sources:
        open_source(source)  # a slip of the pen must not leave a folder behind
    open_folder(config, out, resume=resume)
    with only_writer(out, remedy="choose another --out"):
        return _finetune(config, sources, out, checkpoint, before=before)


def _finetune(
    config: FinetuneConfig, sources: Sequence[str], out: Path, checkpoint: Checkpoint, *, before: Path | None
) -> dict[str, Any]:
    shape, layout = shape_of(checkpoint.model.config), checkpoint.layout_name
    if (out / "report.json").is_file():  # written last
        logger.info("%s is finished; nothing to do", out)
        done: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
        return done
    logger.info("1. preparing the crystals")
    material = prepare_material(config, sources, out, layout=layout, context=shape.context)
    plan = make_plan(config, material, shape=shape, layout=layout, tokenizer=checkpoint.tokenizer)
    tell(material, plan)
    targets = targets_of(material.rows["heldout"], layout)
    logger.info(
        "2. the model before: losses, and %d draws for each of %d held-out crystals", config.draws, len(targets)
    )
    if before is not None and before.is_dir() and not (out / "before").exists():
        shutil.copytree(before, out / "before")
    earlier = measure(plan, config.model, material, targets, out / "before")
    logger.info("3. training, at most %g epochs", plan.training.epochs)
    run = out / "run"
    trained = train(plan.training, material.folder, run, resume=(run / "recipe.yaml").is_file())
    logger.info("4. the best model: losses and draws")
    later = measure(plan, str(trained.run.best), material, targets, out / "after")
    report = make_report(plan, sources, material, earlier, later, trained.run.lines())
    report["seen_before"] = seen_before(folder_of(config.model), targets)
    if config.draws and config.validity:
        report["truth_valid"] = plain(validity([target.cif for target in targets], title="validity of the truth"))
    draw_curves(report, out / "curves.png")
    add_to_card(trained.run.best, report)
    write_text(out / "report.md", markdown(report))
    write_json(out / "report.json", report)
    return report


def open_folder(config: FinetuneConfig, out: Path, *, resume: bool) -> None:
    """Take possession of `out`, or check that it holds a run of the same recipe."""
    recipe = out / RECIPE
    if not resume:
        if out.exists() and (not out.is_dir() or not is_empty(out)):
            raise InputError(f"{out} is not empty; add --resume to continue that run, or choose another --out")
        output_folder(out)
        write_recipe(config, recipe)
        return
    if not recipe.is_file():
        raise InputError(f"there is no fine-tuning to resume in {out}; start it without --resume")
    before, now = to_mapping(load_recipe(FinetuneConfig, recipe)), to_mapping(config)
    changed = [f"{name} was {before[name]!r}, now {now[name]!r}" for name in now if now[name] != before[name]]
    if changed:
        raise ConfigError(
            f"the run in {out} was started with another recipe ({'; '.join(changed)}); resume it with {recipe}, "
            "or choose another --out"
        )


def make_plan(config: FinetuneConfig, material: Material, *, shape: Any, layout: str, tokenizer: Any) -> Plan:
    """Settle the recipe by the texts at hand."""
    whole = settled(config, crystals=len(material.rows["train"]))
    if whole.lora_rank:
        require_peft()  # now, not after minutes of sampling
    corpora = {
        name: load_corpus(material.folder / f"{name}.parquet", tokenizer, max_tokens=shape.context)
        for name in ("train", "val", "heldout", "general", "replay")
    }
    longest = max(int(corpus.lengths.max()) for corpus in corpora.values())
    longest = min(-(-longest // 8) * 8, shape.context)  # a multiple of the step in which passes grow
    own = corpora["train"]
    settings = {"shape": shape, "layout": layout, "train_tokens": len(own.ids), "longest": longest}
    first = train_config(whole, **settings)
    steps = steps_in_epoch(first, own, corpora["replay"])
    return Plan(whole, train_config(whole, epoch_steps=steps, **settings), layout)


def steps_in_epoch(config: TrainConfig, own: Corpus, replay: Corpus) -> int:
    """Steps of the first epoch, replayed texts included."""
    drawn = draw_replay(len(own), len(replay), share=config.replay_share, seed=config.seed, epoch=0)
    lengths = [*own.lengths, *replay.lengths[drawn]]
    return len(
        plan_epoch(
            np.asarray(lengths),
            seed=config.seed,
            epoch=0,
            batch_tokens=config.batch_tokens,
            accumulate=config.accumulate,
        )
    )


def tell(material: Material, plan: Plan) -> None:
    """Say what is trained on and how."""
    logger.info("crystals: %s", ", ".join(f"{part} {len(rows)}" for part, rows in material.rows.items()))
    known, formulas = material.known["all"]
    everything = "; all of them, so the model may know these crystals already" if known == formulas else ""
    logger.info("formulas that the general training corpus holds: %d of %d%s", known, formulas, everything)
    names = ("learning_rate", "frozen_layers", "layer_decay", "lora_rank", "replay_share", "augmented_share")
    chosen = ", ".join(f"{name} {getattr(plan.config, name):g}" for name in names)
    logger.info("strategy: %s, %d tokens a step", chosen, plan.training.batch_tokens)


def measure(plan: Plan, model: str, material: Material, targets: Sequence[Any], out: Path) -> dict[str, Any]:
    """Losses of a model, and what its samples of the held-out crystals are worth."""
    found: dict[str, Any] = {"losses": losses(plan.training, model, material.folder)}
    if plan.config.draws:
        samples = draw_samples(plan.config, model, targets, out, title=f"drawing {out.name}")
        found |= judge(plan.config, targets, samples, out)
    return found


def make_report(
    plan: Plan,
    sources: Sequence[str],
    material: Material,
    before: dict[str, Any],
    after: dict[str, Any],
    lines: list[dict[str, Any]],
) -> dict[str, Any]:
    """Everything as plain values."""
    evaluations = [line for line in lines if line["kind"] == "eval"]
    best = min(evaluations, key=lambda line: line["loss"])
    report: dict[str, Any] = {
        "sources": [Path(source).name for source in sources],
        "crystals": {part: len(rows) for part, rows in material.rows.items()},
        "preparation": material.prepared,
        "formulas_in_general_training": {
            part: {"known": known, "formulas": formulas} for part, (known, formulas) in material.known.items()
        },
        "recipe": to_mapping(nameless_recipe(plan.config)),
        "training": to_mapping(nameless(plan.training)),
        "steps": lines[-1]["step"],
        "best_step": best["step"],
        "epochs": max((line["epoch"] for line in lines if "epoch" in line), default=0.0),
        "seconds": lines[-1]["seconds"],
        "curve": [{"step": line["step"], "kind": line["kind"], "loss": line["loss"]} for line in lines],
        "before": plain({**before, "curve": _points(before)}),
        "after": plain({**after, "curve": _points(after)}),
        "provenance": provenance(
            nameless_recipe(plan.config), inputs=[material.folder, folder_of(plan.config.model) / "model.safetensors"]
        ),
    }
    if plan.config.draws:
        tops = sorted({1, plan.config.draws})
        report["changes"] = {f"@{top}": gained_and_lost(before, after, top=top) for top in tops}
    return report


def nameless_recipe(config: FinetuneConfig) -> FinetuneConfig:
    """The recipe as a report may show it: without the folders above its files."""
    return replace(
        config,
        model=Path(config.model).resolve().name,
        replay=None if config.replay is None else Path(config.replay.resolve().name),
        exclude_matching=tuple(Path(file.name) for file in config.exclude_matching),
    )


def _points(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"samples": number} | rate.to_json() for number, rate in found.get("curve", {}).items()]
