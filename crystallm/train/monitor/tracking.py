"""Weights & Biases and trackio, through Accelerate's trackers; only for those who ask for one and have it installed."""

from __future__ import annotations

import uuid
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from crystallm.base.config import to_mapping
from crystallm.base.errors import ConfigError
from crystallm.base.provenance import write_text
from crystallm.train.config import TrainConfig
from crystallm.train.state.run_folder import RunFolder

PROJECT = "crystallm"

TRACKERS = {"wandb": "WandBTracker", "trackio": "TrackioTracker"}
"""Package -> class of `accelerate.tracking`."""


def require_tracker(name: str | None) -> None:
    """Raise ConfigError where the tracker that was asked for is not installed."""
    if name is not None and find_spec(name) is None:
        raise ConfigError(
            f"track={name} needs the package {name}: pip install {name}, or leave track out; "
            "metrics.jsonl and TensorBoard are written in any case"
        )


def open_tracker(config: TrainConfig, run: RunFolder) -> Any:
    """Return the tracker a recipe asks for, started, or None; a resumed run goes on under the name it had."""
    if config.track is None:
        return None
    name = name_of(run)
    more = {"id": name, "dir": str(run.path)} if config.track == "wandb" else {}
    tracker = getattr(import_module("accelerate.tracking"), TRACKERS[config.track])(
        PROJECT, name=name, resume="allow", **more
    )
    tracker.start()
    tracker.store_init_configuration(to_mapping(config))
    return tracker


def name_of(run: RunFolder) -> str:
    """Return the name of a run in a tracker: that of its folder and a few characters of its own, kept in a file."""
    file = run.path / "tracker_name.txt"
    if not file.is_file():
        write_text(file, f"{run.path.resolve().name}-{uuid.uuid4().hex[:8]}\n")
    return file.read_text(encoding="utf-8").strip()
