"""A checkpoint is one folder that plain `transformers` loads, plus `crystallm.json` about the text it writes."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystallm.base.errors import CheckpointError, ConfigError
from crystallm.base.provenance import write_json, write_text
from crystallm.model.editions import Edition, edition_folder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

FORMAT = 1
"""Version of `crystallm.json`; a reader refuses a later one."""

ABOUT_FILE = "crystallm.json"

TEMPLATES_FILE = "templates.parquet"
"""The library of known crystals that draws may follow, where a checkpoint has one (`crystallm.data.templates`)."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded model with what is needed to use it."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerFast"
    layout_name: str
    descriptions: str
    """`canonical` or `augmented`: how the crystals it was trained on were described."""
    provenance: dict[str, Any]
    folder: Path
    stored: None = None
    """There is a model of `transformers`."""

    @property
    def vocabulary(self) -> list[str]:
        """Tokens in the order of their ids."""
        return list(self.tokenizer.convert_ids_to_tokens(range(len(self.tokenizer))))


class OpenCheckpoint:
    """A checkpoint folder whose model is loaded when it is asked for.

    stored: the model as it is read without `transformers`, which is fast; None where it cannot be read so.
    """

    def __init__(self, folder: Path) -> None:
        from crystallm.model.fast_loading import read_stored

        self.folder = folder
        self.layout_name: str = read_about(folder)["layout"]
        self.stored = read_stored(folder)

    @cached_property
    def loaded(self) -> Checkpoint:
        """The checkpoint with its model."""
        return load_checkpoint(self.folder)

    @property
    def model(self) -> "PreTrainedModel":
        """The model of `transformers`."""
        return self.loaded.model

    @property
    def tokenizer(self) -> "PreTrainedTokenizerFast":
        """The tokenizer of `transformers`."""
        return self.loaded.tokenizer

    @property
    def vocabulary(self) -> list[str]:
        """Tokens in the order of their ids."""
        return self.loaded.vocabulary if self.stored is None else self.stored.vocabulary


def open_checkpoint(path: Path | str | None = None, edition: Edition | None = None) -> OpenCheckpoint:
    """Open a checkpoint folder, or one of the editions that ship with the package.

    Args:
        path: the folder; None for an edition.
        edition: `full` (None) or `benchmark`, where no path is given.

    Returns:
        The checkpoint; its model is loaded when it is asked for.

    Raises:
        CheckpointError: the folder is not ours.
        ConfigError: an unknown edition, or an edition beside a path.

    Example:
        >>> open_checkpoint(edition="benchmark").layout_name
        'wyckoff'
    """
    return OpenCheckpoint(chosen_folder(path, edition))


def chosen_folder(path: Path | str | None, edition: Edition | None, *, otherwise: Edition = "full") -> Path:
    """The checkpoint folder that a user chose by path or by edition; ConfigError where both are given.

    Args:
        path: a checkpoint folder, None for an edition.
        edition: one of those that ship, None for `otherwise`.
        otherwise: the edition where nothing is chosen.

    Returns:
        The folder; whether it holds a checkpoint is not looked at.

    Raises:
        ConfigError: both are given, or the edition is unknown.

    Example:
        >>> chosen_folder(None, None, otherwise="benchmark").name
        'benchmark'
    """
    if path is not None and edition is not None:
        raise ConfigError(f"--model {path} and --edition {edition} both name a model; leave one of them out")
    return default_folder(edition or otherwise) if path is None else Path(path)


def default_folder(edition: Edition = "full") -> Path:
    """Return the folder of a model that ships with the package, see `crystallm.model.editions`."""
    return edition_folder(edition)


def save_checkpoint(
    folder: Path,
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerFast",
    *,
    layout_name: str,
    descriptions: str,
    provenance: Mapping[str, Any],
    card: str,
    dtype: "torch.dtype | None" = None,
    templates: Path | None = None,
    seen: Path | None = None,
) -> None:
    """Write a checkpoint folder, replacing one already there only when the new one is whole.

    `dtype` is the number format of the stored weights, None to keep the model's; `card` becomes README.md; `templates`
    is a library of known crystals to copy into it, `seen` the list of crystals seen, which keeps its name.
    """
    from transformers import AutoModelForCausalLM

    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if dtype is not None and dtype != model.dtype:
        weights = {name: value.detach().cpu() for name, value in model.state_dict().items()}
        copy = AutoModelForCausalLM.from_config(model.config, dtype=dtype)
        copy.load_state_dict(weights)
        model = copy
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    about = {
        "format": FORMAT,
        "layout": layout_name,
        "descriptions": descriptions,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "provenance": dict(provenance),
    }
    if templates is not None:
        about["elements"] = elements_of(templates)
    write_json(partial / ABOUT_FILE, about)
    write_text(partial / "README.md", card)
    if templates is not None:
        shutil.copyfile(templates, partial / TEMPLATES_FILE)
    if seen is not None:
        shutil.copyfile(seen, partial / seen.name)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def elements_of(templates: Path) -> list[str]:
    """Symbols of all elements in a library of known crystals, in order of atomic number."""
    import pyarrow.parquet as pq

    from crystallm.crystal.formulas.composition import symbol_of

    rows = pq.read_table(templates, columns=["elements"])["elements"].to_pylist()
    return [symbol_of(number) for number in sorted(set(b"".join(rows)))]


def load_checkpoint(
    path: Path | str | None = None,
    edition: Edition | None = None,
    *,
    dtype: "torch.dtype | None" = None,
    attention: str = "sdpa",
) -> Checkpoint:
    """Load the checkpoint folder `path`, or an edition that ships (None: `full`); CheckpointError if not ours.

    The model is returned in evaluation mode on the CPU. `dtype` converts the weights (None: float32).
    """
    folder = chosen_folder(path, edition)
    about = read_about(folder)
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    has_bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # of loading the weights, which takes no time
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype or torch.float32,
            attn_implementation=attention,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # they are in the report, and refused below
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"the checkpoint {folder} is damaged: {error}; copy it again") from error
    finally:
        if has_bar:
            logging.enable_progress_bar()
    wrong = sorted({*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])})
    if wrong:  # transformers would go on with random values in their place
        raise CheckpointError(f"the weights in {folder} do not fit its config.json: {wrong[0]}; copy it again")
    if model.config.vocab_size != len(tokenizer):
        raise CheckpointError(
            f"the checkpoint {folder} is inconsistent: its model knows {model.config.vocab_size} tokens, "
            f"its tokenizer {len(tokenizer)}; copy both from the same training run"
        )
    return Checkpoint(model.eval(), tokenizer, about["layout"], about["descriptions"], about["provenance"], folder)


def read_about(folder: Path) -> dict[str, Any]:
    """Return what `crystallm.json` of a checkpoint folder says, without loading the model."""
    if not folder.is_dir():
        raise CheckpointError(f"there is no checkpoint folder {folder}; give a folder written by `crystallm train`")
    missing = [name for name in ("config.json", "model.safetensors", ABOUT_FILE) if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder} is not a checkpoint of this project: no {', '.join(missing)}; "
            "give a folder written by `crystallm train`, such as RUN/best"
        )
    try:
        about = json.loads((folder / ABOUT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {folder / ABOUT_FILE}: {error}; copy the checkpoint again") from error
    if not isinstance(about, dict) or not {"format", "layout", "descriptions", "provenance"} <= about.keys():
        raise CheckpointError(f"{folder / ABOUT_FILE} lacks its fields; copy the checkpoint again")
    if not isinstance(about["format"], int) or about["format"] > FORMAT:
        raise CheckpointError(f"{folder} was written by a later version (format {about['format']}); update crystallm")
    return about
