"""Models that a run hands on, with what travels in their folder: card, library, list of crystals seen."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystallm.train.config import TrainConfig
from crystallm.train.starting_model import folder_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from crystallm.train.optim.evaluation_loss import Role
    from crystallm.train.state.run_folder import RunFolder

logger = logging.getLogger(__name__)


def nameless(config: TrainConfig) -> TrainConfig:
    """Return the recipe as a record may show it: without the folders above the checkpoint it starts from."""
    if config.start_from is None:
        return config
    return replace(config, start_from=Path(config.start_from).resolve().name)


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
    from crystallm.train.monitor.report import draw_loss, model_card
    from crystallm.train.optim.adapter import merged, save_adapter

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
    from crystallm.data.templates.writing import names_crystals, write_library
    from crystallm.model.checkpoint import TEMPLATES_FILE
    from crystallm.tokenizer.layout import Layout, get_layout

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
