"""`crystallm model push` and `pull`: checkpoints to and from the Hugging Face hub, or a local folder."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from crystallm.base.command_line import Command, Option
from crystallm.base.errors import ConfigError, InputError
from crystallm.base.provenance import output_folder
from crystallm.base.whole_file import cannot_write
from crystallm.model.checkpoint import ABOUT_FILE, load_checkpoint, read_about

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

CARD = "README.md"


def is_hub_name(place: str) -> bool:
    """Whether a place is `owner/name` on the hub: spelled so, and no folder here begins like it."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", place) is not None and not Path(place).parent.exists()


def push(
    checkpoint: Path,
    destination: str,
    *,
    licence: Annotated[str | None, Option("--license")] = None,
    reports: Annotated[tuple[Path, ...], Option("--report", metavar="FILE")] = (),
    private: bool = False,
) -> str:
    """Share a checkpoint: copy it with a complete model card to the Hugging Face hub or into a new local folder.

    Nothing is left half written.

    Args:
        checkpoint: Folder such as RUN/best.
        destination: `owner/name` on the hub, or a new folder (`./folder`).
        licence: Of the weights, as the hub knows it, such as cc-by-4.0; by default the one that the card names.
        reports: `report.json` of `crystallm eval`, whose metrics go into the card.
        private: On the hub: visible to you only.

    Returns:
        The place.

    Raises:
        CheckpointError, ConfigError, InputError: it is no checkpoint, has no licence, or the place cannot be used.
    """
    load_checkpoint(checkpoint)  # what cannot be loaded is not handed on
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "checkpoint"
        shutil.copytree(checkpoint, folder)
        write_card(folder, name=name_of(destination), licence=licence, reports=reports)
        if is_hub_name(destination):
            return _upload(folder, destination, private=private)
        place_folder(folder, Path(destination))
    return destination


def pull(source: str, out: Path) -> Path:
    """Fetch a checkpoint from the Hugging Face hub or a local folder; it is checked before it appears.

    Args:
        source: `owner/name` on the hub, or a folder (`./folder`).
        out: New folder.

    Returns:
        That folder.

    Raises:
        CheckpointError, InputError: it is no checkpoint of this project, or a place cannot be used.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "checkpoint"
        if is_hub_name(source):
            _download(source, folder)
        else:
            read_about(Path(source))
            shutil.copytree(source, folder)
        load_checkpoint(folder)
        place_folder(folder, out)
    return out


def name_of(destination: str) -> str:
    """The name of the model at a place."""
    return Path(destination).name


def place_folder(folder: Path, destination: Path) -> None:
    """Copy a folder to a place that is new or empty, whole or not at all."""
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise InputError(f"{destination} is not empty; choose a new folder")
    output_folder(destination.parent)
    partial = destination.with_name(f"{destination.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        shutil.copytree(folder, partial)
        if destination.exists():
            destination.rmdir()
        partial.rename(destination)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise cannot_write(destination, error) from error


def write_card(folder: Path, *, name: str, licence: str | None, reports: Sequence[Path]) -> None:
    """Complete the front matter of a checkpoint's card: licence, tags, what it was trained from, measured metrics."""
    from huggingface_hub import ModelCard

    about = json.loads((folder / ABOUT_FILE).read_text(encoding="utf-8"))
    path = folder / CARD
    try:
        card = ModelCard(path.read_text(encoding="utf-8") if path.exists() else f"# {name}\n")
    except ValueError as error:
        raise InputError(f"the front matter of the model card {path.name} cannot be read: {error}; mend it") from error
    data: Any = card.data
    data.license = licence or data.license
    if data.license is None:
        raise ConfigError(
            "the model card names no licence; say which one with --license, such as cc-by-4.0 (what the general corpus "
            "asks for), mit, or other"
        )
    data.library_name = "transformers"
    data.pipeline_tag = "text-generation"
    data.tags = sorted({*(data.tags or []), "crystallm", "crystal-structure", "materials-science"})
    results = [*evaluation_results(about), *(result for file in reports for result in report_results(file))]
    if results:
        data.model_name, data.eval_results = name, results
    card.save(path)


def evaluation_results(about: Mapping[str, Any]) -> Iterator[EvalResult]:
    """The metrics that training and fine-tuning wrote into `crystallm.json`."""
    training = about["provenance"].get("training", {})
    for key, title in (("loss_per_token", "nats a token"), ("loss_per_crystal", "nats a crystal")):
        if key in training:
            yield _result("validation texts of training", key, training[key], f"validation loss, {title}")
    found = about.get("evaluation")
    if found is not None:
        for key, value in found["metrics"].items():
            yield from _rate(found["dataset"], key, value)


def report_results(file: Path) -> Iterator[EvalResult]:
    """The metrics of a report of `crystallm eval run` or `score`."""
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        benchmark, metrics = report["benchmark"], report["metrics"]
        dataset = f"{benchmark['name']} (version {benchmark['version']})"
        if (seen := report.get("seen", {})).get("targets") and seen["shown"]:
            dataset += ", targets seen in training: not a prediction"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is no report of `crystallm eval` ({error}); give its report.json") from error
    for key, value in metrics.items():
        yield from _rate(dataset, key, value)


def _rate(dataset: str, key: str, value: Any) -> Iterator[EvalResult]:
    """A rate keeps its denominator in the name of the metric: a share never travels alone."""
    if isinstance(value, Mapping):
        if value["share"] is not None:
            yield _result(dataset, key, value["share"], f"{key}, {value['passed']} of {value['attempted']}")
    elif value is not None:
        yield _result(dataset, key, value, key)


def _result(dataset: str, key: str, value: float, title: str) -> EvalResult:
    from huggingface_hub import EvalResult

    slug = re.sub(r"[^a-z0-9]+", "-", dataset.lower()).strip("-")
    return EvalResult(
        task_type="text-generation",
        task_name="crystal structure prediction",
        dataset_type=slug,
        dataset_name=dataset,
        metric_type=key,
        metric_name=title,
        metric_value=round(value, 6),
    )


def _upload(folder: Path, name: str, *, private: bool) -> str:
    from huggingface_hub import HfApi

    with _hub_errors(name):
        api = HfApi()
        place = api.create_repo(name, repo_type="model", private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="A crystallm checkpoint")
    return str(place)


def _download(name: str, folder: Path) -> None:
    from huggingface_hub import snapshot_download

    with _hub_errors(name):
        snapshot_download(name, local_dir=folder)
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the hub's own notes about the download


@contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError

    network: type[Any] = HfHubHTTPError.__mro__[1]  # the error class of the HTTP library that the hub's client uses
    try:
        yield
    except (OSError, ValueError, network) as error:  # no network, no such model, no right to it
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"the hub did not accept {name}: {reason}; check the name, the network and `hf auth login`, or give a "
            f"local folder (./{name})"
        ) from error


push_command = Command(push, "crystallm model push", result="shared: {}")
pull_command = Command(pull, "crystallm model pull", result="fetched; use it: crystallm sample TiO2 --model {}")
