"""Which model made samples: an edition that ships, a checkpoint folder, or nobody knows."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crystallm.base.errors import CheckpointError
from crystallm.base.provenance import sha256
from crystallm.eval.prediction.results import MadeBy
from crystallm.eval.sets.inputs import read_records
from crystallm.model.checkpoint import read_about
from crystallm.model.editions import EDITIONS, Edition, edition_folder, edition_with_weights

PROVENANCE = "provenance.json"
"""What `crystallm sample` writes beside its draws; `settings.model` is the label of the model."""

LABEL = re.compile(r"(.*)@([0-9a-f]{12,64})")
"""How a record of a draw names its model: folder, and the first digits of the hash of its weights."""


@dataclass(frozen=True)
class Maker:
    """The model that made samples."""

    name: str
    """Such as `benchmark edition`; the name of its folder; what the samples say, where that is all we have."""
    folder: Path | None = None
    """Its checkpoint; None where it is not known or not at hand."""
    edition: Edition | None = None
    why: str = ""
    """Why the folder is not known."""

    @property
    def made_by(self) -> MadeBy:
        """The model as a report holds it, without the folders above it."""
        return MadeBy(name=self.name, edition=self.edition, unknown=self.why)


UNKNOWN = Maker("unknown", why="the samples do not say which model made them")


def maker_in(folder: Path) -> Maker:
    """The model in a checkpoint folder; a copy of an edition is that edition. CheckpointError where there is none."""
    read_about(folder)
    edition = edition_with_weights(sha256(folder / "model.safetensors"))
    return Maker(f"{edition} edition" if edition else folder.resolve().name, folder, edition)


def maker_called(name: str) -> Maker:
    """The model that a user names: an edition, or a checkpoint folder.

    Args:
        name: `full`, `benchmark`, or the path of a folder.

    Returns:
        The model.

    Raises:
        CheckpointError: there is no such folder, or it is not ours.

    Example:
        >>> maker_called("benchmark").name
        'benchmark edition'
    """
    for edition in EDITIONS:
        if name == edition:
            return Maker(f"{edition} edition", edition_folder(edition), edition)
    try:
        return maker_in(Path(name))
    except CheckpointError as error:
        raise CheckpointError(f"{error}; or name an edition: {', '.join(EDITIONS)}") from error


def maker_of_samples(paths: Sequence[Path]) -> Maker:
    """The model that made samples, by what their records or the provenance.json beside them say.

    Args:
        paths: files or folders of samples; several are seeds of one model.

    Returns:
        The edition whose weights they name; else a model without a folder, with the reason.
    """
    labels = {label for path in paths for label in _labels(path)}
    if not labels:
        return UNKNOWN
    if len(labels) > 1:
        return Maker("unknown", why=f"the samples name {len(labels)} models: {', '.join(sorted(labels)[:3])}")
    (label,) = labels
    found = LABEL.fullmatch(label)
    edition = edition_with_weights(found[2]) if found else None
    if edition is None:
        return Maker(label, why=f"they were made by {label}, which is no edition; give its folder with --made-by DIR")
    folder = edition_folder(edition)
    library = next((stated for path in paths if (stated := _settings(path).get("templates"))), None)
    if library is not None and not sha256(folder / "templates.parquet").startswith(str(library)):
        return Maker(label, why=f"{label} had another library of known crystals than the {edition} edition has")
    return Maker(f"{edition} edition", folder, edition)


def _labels(path: Path) -> set[str]:
    """What samples say of their model."""
    if path.is_file() and path.suffix.lower() in {".jsonl", ".parquet"}:
        found = {record.fields.get("model") for record in read_records(path)}
        if stated := {label for label in found if isinstance(label, str)}:
            return stated
    label = _settings(path).get("model")
    return {label} if isinstance(label, str) else set()


def _settings(path: Path) -> dict[str, Any]:
    """The settings of the run that made samples; empty where they are not known."""
    file = (path if path.is_dir() else path.parent) / PROVENANCE
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return settings if isinstance(settings, dict) else {}
