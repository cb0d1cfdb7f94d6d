"""What a run begins with: a random model or a checkpoint, and the tokenizer that goes with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from crystallm.base.errors import CheckpointError, InputError
from crystallm.train.config import TrainConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from crystallm.model.checkpoint import Checkpoint


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
    from crystallm.train.optim.adapter import add_adapter
    from crystallm.train.optim.optimizers import freeze
    from crystallm.train.texts.packing import IMPLEMENTATIONS, attention_of

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
        from crystallm.tokenizer import build_tokenizer
        from crystallm.tokenizer.layout import get_layout

        return build_tokenizer(get_layout(layout_name))
    from transformers import AutoTokenizer

    if not (folder / "tokenizer.json").is_file():
        raise InputError(f"there is no {folder / 'tokenizer.json'}; give a tokenizer folder or leave out --tokenizer")
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)
