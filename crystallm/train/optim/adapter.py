"""LoRA adapters: small trained matrices beside the fixed weights of a base model (peft), and their merge into it."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from crystallm.base.command_line import Command, Option
from crystallm.base.errors import CheckpointError, ConfigError, InputError
from crystallm.base.provenance import provenance, sha256, write_json
from crystallm.train.process import prepare_process

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BASE_FILE = "crystallm_base.json"
"""Beside peft's own files: which weights the adapter belongs to."""


def add_adapter(model: PreTrainedModel, *, rank: int, alpha: float) -> PreTrainedModel:
    """Return the model with fixed weights and new trainable matrices beside every linear layer but the last.

    ConfigError where peft is not installed.
    """
    peft = require_peft()
    settings = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules="all-linear",
        fan_in_fan_out=model.config.model_type == "gpt2",  # its layers store their matrices transposed
        task_type="CAUSAL_LM",
    )
    adapted: PreTrainedModel = peft.get_peft_model(model, settings)
    return adapted


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """Return a model with its adapter added into the weights, a copy; a model without adapter as it is."""
    if not hasattr(model, "merge_and_unload"):
        return model
    whole: PreTrainedModel = copy.deepcopy(model).merge_and_unload()
    return whole


def save_adapter(folder: Path, model: Any, *, base: Path, seen: Path | None = None) -> None:
    """Write the adapter of a model in peft's form, with the hash of the base it belongs to, and the list of crystals
    seen by the two together."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial, save_embedding_layers=False)
    weights = base / "model.safetensors"
    write_json(partial / BASE_FILE, {"base": base.resolve().name, "model.safetensors": sha256(weights)})
    if seen is not None:
        shutil.copyfile(seen, partial / seen.name)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def merge_adapter(adapter: Path, *, out: Path, base: Annotated[Path | None, Option("--model")] = None) -> Path:
    """Add a LoRA adapter into the weights of the model it was trained on, and write a checkpoint folder.

    Args:
        adapter: Folder `adapter` of a run with lora_rank.
        out: Checkpoint folder to write.
        base: Its base; by default the edition it belongs to.

    Returns:
        `out`.

    Raises:
        CheckpointError: the adapter was trained on another base, or is none.
    """
    prepare_process()
    import torch

    from crystallm.data.seen import SEEN_FILE
    from crystallm.model.checkpoint import TEMPLATES_FILE, default_folder, load_checkpoint, save_checkpoint
    from crystallm.model.editions import edition_with_weights

    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; choose a new folder for the merged model")
    peft = require_peft()
    belongs = _belongs_to(adapter)
    if base is None:
        base = default_folder(edition_with_weights(belongs["model.safetensors"]) or "benchmark")
    checkpoint = load_checkpoint(base)
    if belongs["model.safetensors"] != sha256(base / "model.safetensors"):
        raise CheckpointError(
            f"the adapter {adapter} was trained on another base than {base} (on one named {belongs['base']!r}, weights "
            f"{belongs['model.safetensors'][:12]}); give that one with --model"
        )
    whole = peft.PeftModel.from_pretrained(checkpoint.model, str(adapter)).merge_and_unload()
    save_checkpoint(
        out,
        whole,
        checkpoint.tokenizer,
        layout_name=checkpoint.layout_name,
        descriptions=checkpoint.descriptions,
        provenance=provenance({"adapter": adapter.resolve().name}, inputs=[adapter, base / "model.safetensors"]),
        card=f"# A crystallm checkpoint\n\nThe model {belongs['base']!r}, a LoRA adapter merged into its weights.\n",
        dtype=torch.bfloat16,
        templates=base / TEMPLATES_FILE if (base / TEMPLATES_FILE).is_file() else None,
        seen=adapter / SEEN_FILE if (adapter / SEEN_FILE).is_file() else None,
    )
    return out


def _belongs_to(adapter: Path) -> dict[str, str]:
    missing = [name for name in ("adapter_config.json", BASE_FILE) if not (adapter / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{adapter} is not an adapter of this project: no {', '.join(missing)}; "
            "give the folder `adapter` of a run with lora_rank"
        )
    try:
        belongs = json.loads((adapter / BASE_FILE).read_text(encoding="utf-8"))
        return {"base": str(belongs["base"]), "model.safetensors": str(belongs["model.safetensors"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"cannot read {adapter / BASE_FILE}: {error}; copy the adapter again") from error


def require_peft() -> Any:
    """Return the library of adapters; ConfigError where it is not installed."""
    try:
        import peft
    except ImportError as error:
        raise ConfigError("LoRA needs peft: pip install 'crystallm[finetune]', or leave lora_rank at 0") from error
    return peft


main = Command(merge_adapter, "crystallm train merge", result="merged model: {}")
