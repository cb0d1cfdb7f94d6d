"""One run of training: model, texts and run directory put together from a recipe."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crystallm.base.errors import ConfigError
from crystallm.base.whole_file import or_room
from crystallm.train.accelerator import make_accelerator
from crystallm.train.config import TrainConfig
from crystallm.train.export import list_of_seen, nameless, templates_of, warn_of_seen, write_models
from crystallm.train.starting_model import folder_of, load_tokenizer, starting_model

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from crystallm.train.optim.evaluation_loss import EvaluationLoss, Role
    from crystallm.train.probe import Probe
    from crystallm.train.schedule import Position
    from crystallm.train.state.run_folder import RunFolder
    from crystallm.train.texts.corpus import Corpus

logger = logging.getLogger(__name__)


GO_ON = "start again with --resume, which goes on from the last whole checkpoint"


@dataclass(frozen=True)
class Trained:
    """What became of a run."""

    run: RunFolder
    last: EvaluationLoss
    best_loss: float
    """Lowest validation loss, nats a token."""
    main: bool
    """Whether this is the process that logs."""


def train(
    config: TrainConfig, data: Path, out: Path, *, resume: bool = False, tokenizer_folder: Path | None = None
) -> Trained:
    """Train by `config` on the prepared folder `data`, writing the run directory `out`."""
    from crystallm.train.monitor.tracking import require_tracker
    from crystallm.train.state.memory import keep_freed_memory
    from crystallm.train.state.run_folder import RunFolder
    from crystallm.train.texts.packing import settle

    require_tracker(config.track)
    run = RunFolder(out)
    keep_freed_memory()
    accelerator = make_accelerator(config)
    config = settle(config, on_cpu=accelerator.device.type == "cpu")
    if not accelerator.is_main_process:
        logging.disable(logging.INFO)
    with run.start(config, resume=resume) if accelerator.is_main_process else nullcontext():
        accelerator.wait_for_everyone()
        return _train(config, data, run, accelerator, resume=resume, tokenizer_folder=tokenizer_folder)


def _train(
    config: TrainConfig,
    data: Path,
    run: RunFolder,
    accelerator: Accelerator,
    *,
    resume: bool,
    tokenizer_folder: Path | None,
) -> Trained:
    from accelerate.utils import set_seed

    from crystallm.base.provenance import provenance
    from crystallm.model.architecture import count_parameters
    from crystallm.train.loop import Trainer
    from crystallm.train.monitor.run_readme import explained
    from crystallm.train.state.memory import or_advice
    from crystallm.train.texts.corpus import load_corpus
    from crystallm.train.texts.split_files import files_of
    from crystallm.train.texts.stream import TextStream

    tokenizer = load_tokenizer(config.layout, tokenizer_folder)
    augmented = config.descriptions == "augmented"
    limit = config.longest_text
    train_texts = data / "train.parquet"
    train_corpus = (
        TextStream(
            train_texts,
            tokenizer,
            max_tokens=limit,
            seed=config.seed,
            block_rows=config.stream_buffer,
            keep_texts=augmented,
        )
        if config.streaming
        else load_corpus(train_texts, tokenizer, max_tokens=limit, keep_texts=augmented)
    )
    val_corpus = load_corpus(data / "val.parquet", tokenizer, max_tokens=limit)
    files = [*files_of(train_texts), *files_of(data / "val.parquet")]
    replay_corpus = None
    if config.replay_share:
        files.append(data / "replay.parquet")
        replay_corpus = load_corpus(files[-1], tokenizer, max_tokens=limit, keep_texts=augmented)
    set_seed(config.seed)
    model = starting_model(config, tokenizer, on_cpu=accelerator.device.type == "cpu")
    facts = {
        "parameters": count_parameters(model),
        "parameters_trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "processes": accelerator.num_processes,
        "train_texts": len(train_corpus),
        "train_tokens": train_corpus.n_tokens,
        "train_left_out": train_corpus.left_out,
        "val_texts": len(val_corpus),
        "val_left_out": val_corpus.left_out,
    }
    logger.info("%s with %s parameters", config.model.model_type, f"{facts['parameters']:,}")
    origin = provenance(nameless(config), inputs=files)
    if accelerator.is_main_process:
        run.describe(config, origin)

    templates = templates_of(config, files_of(train_texts), run) if accelerator.is_main_process else None
    learned = [*files_of(train_texts), *([data / "replay.parquet"] if config.replay_share else [])]
    seen = list_of_seen(config, learned, run) if accelerator.is_main_process else None
    if accelerator.is_main_process and config.start_from is not None:
        warn_of_seen(folder_of(config.start_from), files_of(data / "val.parquet"))

    def export(model: PreTrainedModel, position: Position, loss: EvaluationLoss, role: Role) -> None:
        measured = facts | {
            "steps": position.step,
            "epochs": trainer.epochs,
            "tokens_seen": position.tokens,
            "hours": position.seconds / 3600,
            "loss_per_token": loss.per_token,
            "loss_per_crystal": loss.per_crystal,
            "averaged": trainer.average is not None and trainer.average.is_worn,
        }
        write_models(
            config,
            run,
            model,
            tokenizer,
            origin | {"training": measured},
            measured,
            role=role,
            templates=templates,
            seen=seen,
        )

    trainer = Trainer(
        config,
        accelerator,
        model,
        tokenizer,
        run,
        train=train_corpus,
        val=val_corpus,
        replay=replay_corpus,
        export=export,
        probe=probe_of(config, accelerator, val_corpus, tokenizer, run),
    )
    with or_advice(config), or_room(run.path, GO_ON), explained(run, origin, enabled=accelerator.is_main_process):
        loss = trainer.fit(resume=resume)
    if accelerator.num_processes > 1:
        accelerator.end_training()
    return Trained(run, loss, trainer.best_loss, accelerator.is_main_process)


def probe_of(
    config: TrainConfig, accelerator: Accelerator, val: Corpus, tokenizer: PreTrainedTokenizerFast, run: RunFolder
) -> Probe | None:
    """Return what draws crystals during training, on the main process of a run that asks for it.

    ConfigError where the weights are divided among processes.
    """
    from crystallm.train.optim.sharding import is_sharded

    if not config.probe:
        return None
    if is_sharded(accelerator):
        raise ConfigError("probe draws with whole weights on one process: set it to 0 with FSDP, or use DDP")
    from crystallm.train.probe import Probe  # and with it much of evaluation

    return Probe(config, val, tokenizer, run) if accelerator.is_main_process else None
