"""Published checkpoints as checkpoints of ours: CrystaLLM's `ckpt.pt` (nanoGPT) and CrystaLLM-pi's GPT-2 folders.

Only tensors and plain values are ever read from a pickle: a file that holds anything else is refused.
"""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystallm.base.command_line import Command
from crystallm.base.errors import CheckpointError, InputError
from crystallm.base.whole_file import cannot_write
from crystallm.tokenizer.published_texts import CRYSTALLM, CRYSTALLM_PI, PublishedLayout

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import GPT2LMHeadModel

COMPILED = "_orig_mod."
"""What torch.compile puts in front of the names of weights."""

TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
"""Matrices that nanoGPT keeps as (out, in) and `transformers` as (in, out)."""

BUFFERS = (".attn.bias", ".attn.masked_bias")
"""Causal masks that older versions store beside the weights."""

DAMAGE = (
    *(OSError, RuntimeError, EOFError, ValueError, LookupError),
    *(TypeError, AttributeError, AssertionError, struct.error),
)
"""What torch.load raises for files that are none of its own or have wrong bytes in them, pickle's own error aside."""

SHAPE = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")

EXTRA_TOKENS = ("<prop>", "P6_sg")
"""What CrystaLLM-pi's larger vocabularies add behind the tokens of its texts; not imported."""


@dataclass(frozen=True, eq=False)
class Published:
    """A published model: its weights under the names and shapes of GPT2LMHeadModel, and the layout of its texts."""

    layout: PublishedLayout
    layers: int
    heads: int
    hidden: int
    context: int
    weights: dict[str, Tensor]
    file: Path
    """The file that the weights came from."""


def read_published(path: Path) -> Published:
    """Read a `ckpt.pt`, a folder that holds one, or a folder of `transformers`. CheckpointError for anything else."""
    if not path.exists():
        raise CheckpointError(f"there is no {path}; give CrystaLLM's ckpt.pt or a folder of CrystaLLM-pi")
    if path.is_dir() and (path / "ckpt.pt").is_file():
        path = path / "ckpt.pt"
    return _read_folder(path) if path.is_dir() else _read_nanogpt(path)


def build(published: Published) -> GPT2LMHeadModel:
    """The model, in float32 and evaluation mode; biases are zero where the published model has none.

    Raises CheckpointError if the weights do not fit.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = (published.layers, published.heads, published.hidden, published.context)
    if min(sizes) < 1 or published.hidden % published.heads:
        raise CheckpointError(
            f"{published.file} states an impossible shape: {published.layers} layers, {published.heads} heads, width "
            f"{published.hidden}, context {published.context}; copy it again"
        )
    vocabulary = {token: number for number, token in enumerate(published.layout.vocabulary())}
    config = GPT2Config(
        vocab_size=len(vocabulary),
        n_positions=published.context,
        n_embd=published.hidden,
        n_layer=published.layers,
        n_head=published.heads,
        n_inner=4 * published.hidden,
        activation_function="gelu_new",  # both projects use the approximation by a hyperbolic tangent
        layer_norm_epsilon=1e-5,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=vocabulary[published.layout.begin],
        eos_token_id=None if published.layout.end is None else vocabulary[published.layout.end],
        pad_token_id=vocabulary[published.layout.pad],
        tie_word_embeddings=True,
    )
    model = GPT2LMHeadModel(config)
    wanted = {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}
    weights = dict(published.weights)
    head = weights.pop("lm_head.weight", None)
    embedding = weights.get("transformer.wte.weight", head)
    if embedding is None:
        raise CheckpointError(f"{published.file} holds no token embedding (transformer.wte.weight); copy it again")
    if head is not None and not torch.equal(head, embedding):
        raise CheckpointError(
            f"{published.file} has an output of its own beside the token embedding, which models of this kind share"
        )
    weights["transformer.wte.weight"] = embedding[: len(vocabulary)]
    if not any(name.endswith(".bias") for name in weights):
        weights |= {name: torch.zeros_like(value) for name, value in wanted.items() if name.endswith(".bias")}
    wrong = sorted(weights.keys() ^ wanted.keys())
    wrong += [name for name in wanted if name in weights and weights[name].shape != wanted[name].shape]
    if wrong:
        raise CheckpointError(
            f"{published.file} is not an unconditional model of this kind: {wrong[0]} is missing, unknown or of "
            "another shape; models conditioned on properties or diffraction cannot be imported"
        )
    if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
        raise CheckpointError(f"{published.file} holds weights that are not finite; copy it again")
    weights["lm_head.weight"] = weights["transformer.wte.weight"]
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    model.generation_config.eos_token_id = config.eos_token_id
    return model.eval()


def _read_nanogpt(path: Path) -> Published:
    content = _load_safely(path)
    if not isinstance(content, Mapping) or not {"model", "model_args"} <= content.keys():
        raise CheckpointError(
            f"{path} is not a checkpoint of CrystaLLM: no `model` and `model_args` in it; give its ckpt.pt"
        )
    arguments, state = content["model_args"], content["model"]
    if not isinstance(arguments, Mapping) or not isinstance(state, Mapping) or not _tensors(state):
        raise CheckpointError(f"{path} is not a checkpoint of CrystaLLM: `model` holds no named weights")
    missing = [name for name in SHAPE if not isinstance(arguments.get(name), int)]
    if missing:
        raise CheckpointError(f"{path} does not say its {missing[0]} in `model_args`; give CrystaLLM's ckpt.pt")
    layers, heads, hidden, context, size = (int(arguments[name]) for name in SHAPE)
    if size != len(CRYSTALLM.vocabulary()):
        raise CheckpointError(
            f"{path} has a vocabulary of {size} tokens; CrystaLLM's models have {len(CRYSTALLM.vocabulary())}, and "
            "only their texts can be written"
        )
    weights = {
        name.removeprefix(COMPILED): value
        for name, value in state.items()
        if not name.removeprefix(COMPILED).endswith(BUFFERS)
    }
    weights = {name: value.t() if name.endswith(TRANSPOSED) else value for name, value in weights.items()}
    return Published(CRYSTALLM, layers, heads, hidden, context, weights, path)


def _tensors(state: Mapping[Any, Any]) -> bool:
    import torch

    return bool(state) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    )


def _load_safely(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} cannot be read safely: it is no checkpoint, or holds code or objects beside tensors and plain "
            "values, which are never run here; give CrystaLLM's ckpt.pt as published"
        ) from error
    except DAMAGE as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} is no checkpoint, or a damaged one ({reason}); copy it again") from error


def _read_folder(folder: Path) -> Published:
    config = _read_object(folder / "config.json")
    kind = config.get("architectures")
    if config.get("model_type") != "gpt2" or kind not in (None, [], ["GPT2LMHeadModel"]):
        raise CheckpointError(
            f"{folder} is a model of kind {kind or config.get('model_type')}; only unconditional ones "
            "(GPT2LMHeadModel) can be imported"
        )
    changed = {"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "scale_attn_weights": True}
    changed |= {"scale_attn_by_inverse_layer_idx": False, "tie_word_embeddings": True}
    for name, usual in changed.items():
        if config.get(name, usual) != usual:
            raise CheckpointError(f"{folder / 'config.json'}: {name} is {config[name]!r}, supported is {usual!r}")
    sizes = {name: config.get(name) for name in ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size")}
    missing = [name for name, value in sizes.items() if not isinstance(value, int)]
    if missing or config.get("n_inner") not in (None, 4 * (sizes["n_embd"] or 0)):
        raise CheckpointError(f"{folder / 'config.json'} does not give the usual {(*missing, 'n_inner')[0]} of GPT-2")
    layers, heads, hidden, context, size = (int(value) for value in sizes.values() if value is not None)
    weights = {
        name.removeprefix(COMPILED): value
        for name, value in _folder_weights(folder).items()
        if not name.endswith(BUFFERS)
    }
    return Published(_layout_of(folder, size), layers, heads, hidden, context, weights, folder)


def _read_object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{file.parent} is no model: no ckpt.pt and no {file.name} in it; give CrystaLLM's ckpt.pt or a folder of "
            "CrystaLLM-pi"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {file}: {error}; copy it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"cannot read {file}: not a JSON object; copy it again")
    return content


def _layout_of(folder: Path, size: int) -> PublishedLayout:
    """The layout with the vocabulary of a folder; its own `vocabulary.json` must agree where it is there."""
    plain, bracketed = CRYSTALLM.vocabulary(), CRYSTALLM_PI.vocabulary()
    known = {len(plain): (CRYSTALLM, plain)}
    known |= {
        len(bracketed) + extra: (CRYSTALLM_PI, [*bracketed, *EXTRA_TOKENS[:extra]])
        for extra in range(len(EXTRA_TOKENS) + 1)
    }
    if size not in known:
        raise CheckpointError(
            f"{folder} has a vocabulary of {size} tokens; CrystaLLM has {len(plain)}, CrystaLLM-pi {len(bracketed)} to "
            f"{len(bracketed) + len(EXTRA_TOKENS)}, and only their texts can be written"
        )
    layout, tokens = known[size]
    if (folder / "vocabulary.json").is_file():
        stated = _read_object(folder / "vocabulary.json")
        ours = {token: number for number, token in enumerate(tokens)}
        other = next((token for token, number in stated.items() if ours.get(token) != number), None)
        if other is not None:
            raise CheckpointError(f"{folder / 'vocabulary.json'} has another vocabulary: {other!r} is {stated[other]}")
    return layout


def _folder_weights(folder: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if (folder / "model.safetensors").is_file():
        try:
            return dict(load_file(folder / "model.safetensors"))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"cannot read {folder / 'model.safetensors'}: {error}; copy it again") from error
    if (folder / "pytorch_model.bin").is_file():
        state = _load_safely(folder / "pytorch_model.bin")
        if isinstance(state, Mapping) and _tensors(state):
            return dict(state)
        raise CheckpointError(f"{folder / 'pytorch_model.bin'} holds no named weights; copy it again")
    raise CheckpointError(f"{folder} holds no weights: no model.safetensors and no pytorch_model.bin; copy it again")


def import_checkpoint(path: Path, out: Path) -> Published:
    """Write a checkpoint folder of ours from a published model; returns what was read.

    Raises InputError if there is something at `out`, CheckpointError if `path` is not such a model.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already and not empty; choose another folder")
    published = read_published(path)
    model = build(published)
    from crystallm.base.provenance import output_folder, provenance
    from crystallm.model.checkpoint import save_checkpoint
    from crystallm.tokenizer import build_tokenizer

    tokenizer = build_tokenizer(published.layout)
    tokenizer.model_max_length = published.context
    output_folder(out.resolve().parent)
    origin = provenance(inputs=[_weights_file(published.file)])
    about: dict[str, Any] = {"layout_name": published.layout.name, "descriptions": "canonical", "provenance": origin}
    try:
        save_checkpoint(out, model, tokenizer, **about, card=card(published))
    except OSError as error:
        raise cannot_write(out, error) from error
    return published


def _weights_file(file: Path) -> Path:
    return next((file / name for name in ("model.safetensors", "pytorch_model.bin") if (file / name).is_file()), file)


def card(published: Published) -> str:
    """The README.md of an imported checkpoint."""
    project = "CrystaLLM-pi" if published.layout.bracketed else "CrystaLLM"
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [crystallm, crystal-structure, materials-science]
---

# An imported {project} model

The weights of `{published.file.name}`, published by the {project} project, in the folder layout of this one. They are
theirs: see their repository for the licence, the training data and how to cite them. GPT-2 blocks, {published.layers}
layers, width {published.hidden}, {published.heads} heads, context {published.context}, text layout
`{published.layout.name}`. Use it through `crystallm sample FORMULA --model FOLDER`.
"""


def import_model(path: Path, out: Path) -> None:
    """Read a model published by CrystaLLM (ckpt.pt, or the folder that holds it) or by CrystaLLM-pi (a folder of the
    unconditional kind), and write a checkpoint folder that samples and trains like any other here.

    Args:
        path: `ckpt.pt`, or a folder.
        out: Checkpoint folder to write, new or empty.
    """
    model = import_checkpoint(path, out)
    print(f"imported {path.name}: layout {model.layout.name}, {model.layers} layers, width {model.hidden}")
    print(f"use it: crystallm sample TiO2 --model {out}")
    print("train it further with a recipe that says")
    print(f"  layout: {model.layout.name}")
    print(f"  start_from: {out}")
    print(
        f"  model: {{model_type: gpt2, layers: {model.layers}, hidden: {model.hidden}, heads: {model.heads}, "
        f"ffn: {4 * model.hidden}, context: {model.context}}}"
    )


import_command = Command(import_model, "crystallm model import")
