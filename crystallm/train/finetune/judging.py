"""What a model can do before and after fine-tuning: losses, samples of the held-out crystals, matches, validity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from crystallm.base.provenance import output_folder, sha256
from crystallm.crystal.cell import Rejection
from crystallm.crystal.checks.validity import Checks
from crystallm.crystal.matching.tolerances import STANDARD, STRICT
from crystallm.eval.prediction.comparisons import compare, questions
from crystallm.eval.prediction.metrics import score
from crystallm.eval.prediction.scoring import ScoreConfig
from crystallm.eval.rate import Rate
from crystallm.eval.seen import State, judge_targets
from crystallm.eval.sets.samples import SampleSet, read_samples
from crystallm.eval.sets.targets import Target
from crystallm.eval.validity import ValidityConfig, ValidityCounts, check_all
from crystallm.model.checkpoint import load_checkpoint
from crystallm.sample.config import SampleConfig
from crystallm.sample.generator import Generator
from crystallm.sample.output.records import RECORDS, RecordFile, read_records, record_of
from crystallm.train.accelerator import make_accelerator
from crystallm.train.config import TrainConfig
from crystallm.train.finetune.config import FinetuneConfig
from crystallm.train.held_out import prompts_of
from crystallm.train.optim.losses import evaluation_loss
from crystallm.train.starting_model import folder_of
from crystallm.train.texts.corpus import load_corpus

PARTS = ("val", "heldout", "general")


def losses(config: TrainConfig, model: str, data: Path) -> dict[str, dict[str, float]]:
    """The loss of a checkpoint on validation, held-out and general texts, in nats a token and a crystal."""
    accelerator = make_accelerator(config)
    on_cpu = accelerator.device.type == "cpu"
    checkpoint = load_checkpoint(folder_of(model), attention="eager" if on_cpu else "sdpa")
    network: torch.nn.Module = accelerator.prepare_model(checkpoint.model, evaluation_mode=True)
    found = {}
    for part in PARTS:
        corpus = load_corpus(data / f"{part}.parquet", checkpoint.tokenizer, max_tokens=config.longest_text)
        loss = evaluation_loss(network, corpus, accelerator, config, checkpoint.tokenizer.pad_token_id)
        found[part] = asdict(loss) | {"texts": len(corpus)}
    return found


def draw_samples(config: FinetuneConfig, model: str, targets: Sequence[Target], out: Path, *, title: str) -> SampleSet:
    """Draws of a checkpoint for every target, kept in a file as they are made; those already there are not repeated."""
    folder = folder_of(model)
    file = output_folder(out) / RECORDS
    settings = SampleConfig(
        n=config.draws,
        temperature=config.temperature,
        seed=config.seed,
        batch_size=config.batch_size,
        contact=config.contact,
        guide=config.guide,
        bond_tries=config.bond_tries,
        repeat=1.0,
    )
    prompts = prompts_of(targets, config.prompt)
    done = {(record["target_id"], record["sample"]) for record in read_records(file)}
    missing = len(prompts) * config.draws - len(done)
    if missing:
        generator = Generator.from_pretrained(folder)
        label = f"{folder.name}@{sha256(folder / 'model.safetensors')[:12]}"
        draws = generator.attempts(prompts, settings, skip=lambda name, number: (name, number) in done)
        with RecordFile(file) as records, tqdm(total=missing, desc=title, unit="crystal", leave=False) as bar:
            for attempt in draws:
                records.append(record_of(attempt, settings, label))
                bar.update()
    return read_samples(file, targets)


def judge(config: FinetuneConfig, targets: Sequence[Target], samples: SampleSet, out: Path) -> dict[str, Any]:
    """Match rates of the samples and, where asked for, the validity of the first one of each target."""
    settings = ScoreConfig()
    outcomes = compare(
        targets,
        samples,
        questions(targets, samples, foreign=0),
        standard=STANDARD,
        strict=STRICT,
        workers=settings.processes,
        time_limit_s=settings.time_limit,
        log=out / "comparisons.jsonl",
    )
    result = score(targets, samples, outcomes, tops=sorted({1, config.draws}), metre_tops=(), stol=STANDARD.stol)
    firsts = [found[0].cif for target in targets if (found := samples.by_target.get(target.id))]
    return {
        "metrics": dict(result.metrics),
        "curve": dict(result.curve),
        "matching_draws": result.samples,
        "not_matched": dict(result.reasons.most_common()),
        "first_match": {row.id: row.first_match for row in result.per_target},
        "undecided": {row.id: list(row.undecided) for row in result.per_target if row.undecided},
        "validity": validity(firsts, title="validity of samples") if config.validity else None,
    }


def validity(cifs: Sequence[str | Rejection], *, title: str) -> Rate:
    """How many crystals pass all reference checks."""
    counts = ValidityCounts()

    def add(_: int, checks: Checks) -> None:
        counts.add(checks)

    check_all(cifs, ValidityConfig(), on_result=add, title=title)
    return counts.rates()["valid"]


def seen_before(start: Path, targets: Sequence[Target]) -> dict[str, int]:
    """How many held-out crystals the checkpoint in a folder has seen, and of how many that could not be decided."""
    settings = ScoreConfig()
    verdicts = judge_targets(
        targets, start, tolerances=STANDARD, workers=settings.processes, time_limit_s=settings.time_limit
    )
    states = [verdict.state for verdict in verdicts.values()]
    return {
        "targets": states.count(State.SEEN),
        "of": len(targets),
        "undecided": states.count(State.UNDECIDED),
    }


def gained_and_lost(before: Mapping[str, Any], after: Mapping[str, Any], *, top: int) -> dict[str, int]:
    """How many targets only the later samples match within the first `top`, and how many only the earlier ones.

    Args:
        before: What `judge` found: `first_match` and `undecided` by target; older reports do not have the latter.
        after: The same of other samples of the same targets.
        top: Samples of a target that count.

    Returns:
        `gained`, `lost` and `undecided`: targets on which one side has no verdict, which are in neither.

    Example:
        >>> before, after = {"first_match": {"a": None, "b": 1}}, {"first_match": {"a": 2, "b": None}}
        >>> gained_and_lost(before, after | {"undecided": {"b": [2]}}, top=2)
        {'gained': 1, 'lost': 0, 'undecided': 1}
    """
    pairs = [(_hit(before, name, top), _hit(after, name, top)) for name in before["first_match"]]
    return {
        "gained": pairs.count((False, True)),
        "lost": pairs.count((True, False)),
        "undecided": sum(None in pair for pair in pairs),
    }


def _hit(found: Mapping[str, Any], name: str, top: int) -> bool | None:
    """Whether a target is matched within the first `top` samples; None where a comparison of them gave no verdict."""
    first = found["first_match"][name]
    if first is not None and first <= top:
        return True
    return None if any(number <= top for number in found.get("undecided", {}).get(name, ())) else False
