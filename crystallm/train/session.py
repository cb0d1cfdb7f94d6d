"""One run of training: model, texts and run directory put together from a recipe."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystallm.errors import CheckpointError, ConfigError, InputError
from crystallm.train.config import TrainConfig
from crystallm.whole_file import or_room

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from crystallm.model.checkpoint import Checkpoint
    from crystallm.train.corpus import Corpus
    from crystallm.train.evaluated import EvaluationLoss, Role
    from crystallm.train.probe import Probe
    from crystallm.train.run import RunFolder
    from crystallm.train.schedule import Position

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
    from crystallm.train.memory import keep_freed_memory
    from crystallm.train.packing import settle
    from crystallm.train.run import RunFolder
    from crystallm.train.tracking import require_tracker

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

    from crystallm.model.architecture import count_parameters
    from crystallm.provenance import provenance
    from crystallm.train.corpus import load_corpus
    from crystallm.train.loop import Trainer
    from crystallm.train.memory import or_advice
    from crystallm.train.page import explained
    from crystallm.train.shards import files_of
    from crystallm.train.stream import TextStream

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
    from crystallm.train.sharding import is_sharded

    if not config.probe:
        return None
    if is_sharded(accelerator):
        raise ConfigError("probe draws with whole weights on one process: set it to 0 with FSDP, or use DDP")
    from crystallm.train.probe import Probe  # and with it much of evaluation

    return Probe(config, val, tokenizer, run) if accelerator.is_main_process else None


def nameless(config: TrainConfig) -> TrainConfig:
    """Return the recipe as a record may show it: without the folders above the checkpoint it starts from."""
    if config.start_from is None:
        return config
    return replace(config, start_from=Path(config.start_from).resolve().name)


def make_accelerator(config: TrainConfig) -> Accelerator:
    """Return the accelerator of a run, on the CPU where there is nothing better."""
    import torch
    from accelerate import Accelerator

    from crystallm.train.sharding import set_up_sharding

    # Without being told, Accelerate takes processes started together on CPUs for runs of their own.
    accelerator = Accelerator(
        mixed_precision="bf16" if config.precision == "bf16" else "no", cpu=not torch.accelerator.is_available()
    )
    set_up_sharding(accelerator, config)
    return accelerator


def write_models(
    config: TrainConfig,
    run: RunFolder,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    origin: dict[str, Any],
    measured: dict[str, Any],
    *,
    role: Role,
    templates: Path | None = None,
    seen: Path | None = None,
) -> None:
    """Export a model as the best or a last one of a run; a LoRA adapter beside the model it is merged into."""
    import torch

    from crystallm.model.checkpoint import save_checkpoint
    from crystallm.train.adapter import merged, save_adapter
    from crystallm.train.report import draw_loss, model_card

    save_checkpoint(
        {"best": run.best, "final": run.final, "final_ema": run.final_ema}[role],
        merged(model),
        tokenizer,
        layout_name=config.layout,
        descriptions=config.descriptions,
        provenance=origin,
        card=model_card(config, measured),
        dtype=torch.bfloat16 if config.weights == "bf16" else torch.float32,
        templates=templates,
        seen=seen,
    )
    if config.lora_rank and role == "best" and config.start_from is not None:
        save_adapter(run.path / "adapter", model, base=folder_of(config.start_from), seen=seen)
    if role != "best" or config.patience is None:  # runs that watch for their end evaluate often; the figure can wait
        draw_loss(run.lines(), run.path / "loss.png")


def templates_of(config: TrainConfig, texts: Sequence[Path], run: RunFolder) -> Path | None:
    """Return the library of known crystals that goes with the exported models, written where it is missing: those of
    the training texts, as far as they were made by `crystallm data prepare`, and of the checkpoint the run starts from.
    None where none is wanted or can be."""
    from crystallm.crystal.layout import Layout, get_layout
    from crystallm.data.templates.writing import names_crystals, write_library
    from crystallm.model.checkpoint import TEMPLATES_FILE

    if not config.templates or config.streaming or not isinstance(get_layout(config.layout), Layout):
        return None
    library = run.path / TEMPLATES_FILE
    if not library.is_file():
        before = [] if config.start_from is None else [folder_of(config.start_from) / TEMPLATES_FILE]
        known = [*filter(names_crystals, texts), *(file for file in before if file.is_file())]
        if not known:
            return None
        write_library(known, library, layout=config.layout, replace=True)
    return library


def list_of_seen(config: TrainConfig, texts: Sequence[Path], run: RunFolder) -> Path | None:
    """Return the list of crystals that the exported models have seen, written where it is missing: those of the texts
    learned, and those of the checkpoint the run starts from. None where one of them does not name its crystals."""
    from crystallm.data.seen import SEEN_FILE, write_seen

    file = run.path / SEEN_FILE
    start = None if config.start_from is None else folder_of(config.start_from)
    return file if file.is_file() or write_seen(texts, file, start=start) else None


def warn_of_seen(start: Path, validation: Sequence[Path]) -> None:
    """Say how many validation crystals the checkpoint that a run starts from has seen, where both name theirs."""
    from crystallm.data.seen import Seen, seen_in

    before, own = Seen.read(start), seen_in(validation)
    if before is None or own is None:
        return
    known = sum((name, formula) in before.crystals for name, formula in own.crystals)
    if known:
        logger.warning(
            "%d of %d validation crystals were seen by %s: validation loss and probe do not measure prediction",
            known,
            len(own),
            start.name,
        )


def folder_of(start_from: str) -> Path:
    """Return the checkpoint folder that a recipe's `start_from` names: an edition that ships, or any folder.

    `default` is what version 0.1 called the benchmark edition.
    """
    from crystallm.model.editions import EDITIONS, Edition, edition_folder

    named: dict[str, Edition] = {edition: edition for edition in EDITIONS} | {"default": "benchmark"}
    return edition_folder(named[start_from]) if start_from in named else Path(start_from)


def starting_model(config: TrainConfig, tokenizer: PreTrainedTokenizerFast, *, on_cpu: bool) -> PreTrainedModel:
    """Return the model a run begins with: random, or the weights of `start_from`; frozen or adapted as asked.

    Raises CheckpointError if there is no such checkpoint, or if its layout, vocabulary or architecture is another.
    """
    from crystallm.model.architecture import build_model
    from crystallm.train.adapter import add_adapter
    from crystallm.train.optimizers import freeze
    from crystallm.train.packing import IMPLEMENTATIONS, attention_of

    attention = IMPLEMENTATIONS[attention_of(config, on_cpu=on_cpu)]
    if config.start_from is None:
        model = build_model(
            config.model,
            vocab_size=len(tokenizer),
            bos=tokenizer.bos_token_id,
            eos=tokenizer.eos_token_id,
            pad=tokenizer.pad_token_id,
            attention=attention,
        )
    else:
        model = take_model(config, tokenizer, attention=attention)
    freeze(model, frozen_layers=config.frozen_layers, layers=config.model.layers)
    return add_adapter(model, rank=config.lora_rank, alpha=config.lora_alpha) if config.lora_rank else model


def take_model(config: TrainConfig, tokenizer: PreTrainedTokenizerFast, *, attention: str) -> PreTrainedModel:
    """Return the model of `start_from`, with the recipe's dropout and attention."""
    from transformers import AutoModelForCausalLM

    from crystallm.model.architecture import shape_of, with_dropout
    from crystallm.model.checkpoint import load_checkpoint

    assert config.start_from is not None
    checkpoint = load_checkpoint(folder_of(config.start_from))
    wanted = config.model
    if wanted.model_type == "llama":
        wanted = replace(wanted, kv_heads=wanted.kv_heads or wanted.heads)
    theirs = replace(shape_of(checkpoint.model.config), dropout=config.model.dropout)
    if checkpoint.layout_name != config.layout or theirs != wanted:
        raise CheckpointError(
            f"start_from={config.start_from}: its layout or architecture is not the recipe's; "
            f"give the recipe the `layout` and `model` of the checkpoint, see config.json in {checkpoint.folder.name}"
        )
    require_vocabulary(checkpoint, tokenizer)
    shape = with_dropout(checkpoint.model.config, config.model.dropout)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(shape, attn_implementation=attention)
    model.load_state_dict(checkpoint.model.state_dict())
    return model


def require_vocabulary(checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerFast) -> None:
    """Raise CheckpointError unless the checkpoint and the texts to be learned have one vocabulary."""
    if checkpoint.tokenizer.get_vocab() != tokenizer.get_vocab():
        raise CheckpointError(
            f"the vocabulary of {checkpoint.folder} is not that of layout {checkpoint.layout_name!r}; "
            "it was made by another version, start from another checkpoint"
        )


def load_tokenizer(layout_name: str, folder: Path | None) -> PreTrainedTokenizerFast:
    """Load the tokenizer in `folder`, or build the one that belongs to the layout."""
    if folder is None:
        from crystallm.crystal.layout import get_layout
        from crystallm.tokenizer import build_tokenizer

        return build_tokenizer(get_layout(layout_name))
    from transformers import AutoTokenizer

    if not (folder / "tokenizer.json").is_file():
        raise InputError(f"there is no {folder / 'tokenizer.json'}; give a tokenizer folder or leave out --tokenizer")
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)
