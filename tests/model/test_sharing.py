"""A checkpoint handed on comes back the same, with a card the hub understands; the hub itself is played by a folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.errors import HfHubHTTPError

from crystallm import cli
from crystallm.data.seen import SEEN_FILE, Seen
from crystallm.model.architecture import ModelConfig, build_model
from crystallm.model.checkpoint import load_checkpoint, save_checkpoint
from crystallm.model.sharing import is_hub_name
from crystallm.tokenizer import build_tokenizer
from crystallm.tokenizer.layout import get_layout
from tests.full_disk import full_disk

CARD = """---
license: cc-by-4.0
tags: [crystallm]
---

# A card
"""

EVALUATION = {
    "dataset": "my_cifs (held out)",
    "metrics": {"match_rate@1": {"passed": 3, "attempted": 4, "share": 0.75}, "rmse@1": 0.05, "rmse@5": None},
}

Printed = pytest.CaptureFixture[str]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    tokenizer = build_tokenizer(get_layout())
    tokens = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    torch.manual_seed(0)
    model = build_model(
        ModelConfig(layers=1, hidden=16, heads=2, ffn=24, context=64), vocab_size=len(tokenizer), **tokens
    )
    origin = {"training": {"loss_per_token": 2.25, "loss_per_crystal": 150.0}}
    folder = tmp_path / "best"
    about: dict[str, Any] = {"layout_name": "wyckoff", "descriptions": "canonical", "provenance": origin}
    save_checkpoint(folder, model, tokenizer, card=CARD, **about)
    content = json.loads((folder / "crystallm.json").read_text())
    (folder / "crystallm.json").write_text(json.dumps(content | {"evaluation": EVALUATION}))
    return folder


def test_there_and_back(checkpoint: Path, tmp_path: Path, capsys: Printed) -> None:
    shared, fetched = tmp_path / "shared", tmp_path / "fetched"
    assert cli.main(["model", "push", str(checkpoint), str(shared)]) == 0
    assert cli.main(["model", "pull", str(shared), str(fetched)]) == 0
    assert str(fetched) in capsys.readouterr().out
    ours, theirs = (load_checkpoint(folder).model.state_dict() for folder in (checkpoint, fetched))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert (checkpoint / "README.md").read_text() == CARD  # the original stays as it was


def test_the_card_has_licence_and_metrics(checkpoint: Path, tmp_path: Path) -> None:
    report = {
        "benchmark": {"name": "mp_20", "version": 1},
        "metrics": {"match_rate@1": {"passed": 31, "attempted": 50, "share": 0.62}},
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    options = ["--license", "mit", "--report", str(tmp_path / "report.json")]
    assert cli.main(["model", "push", str(checkpoint), str(tmp_path / "shared"), *options]) == 0
    data: Any = ModelCard.load(tmp_path / "shared" / "README.md").data
    assert (data.license, data.library_name) == ("mit", "transformers")
    found = {(result.dataset_name, result.metric_name): result.metric_value for result in data.eval_results}
    assert found == {
        ("validation texts of training", "validation loss, nats a token"): 2.25,
        ("validation texts of training", "validation loss, nats a crystal"): 150.0,
        ("my_cifs (held out)", "match_rate@1, 3 of 4"): 0.75,
        ("my_cifs (held out)", "rmse@1"): 0.05,
        ("mp_20 (version 1)", "match_rate@1, 31 of 50"): 0.62,
    }


def test_rates_of_seen_targets_are_marked_in_the_card(checkpoint: Path, tmp_path: Path) -> None:
    report = {
        "benchmark": {"name": "mp_20", "version": 1},
        "metrics": {"match_rate@1": {"passed": 31, "attempted": 50, "share": 0.62}},
        "seen": {"targets": 3, "of": 50, "shown": True},
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    options = ["--license", "mit", "--report", str(tmp_path / "report.json")]
    assert cli.main(["model", "push", str(checkpoint), str(tmp_path / "shared"), *options]) == 0
    data: Any = ModelCard.load(tmp_path / "shared" / "README.md").data
    names = {result.dataset_name for result in data.eval_results}
    assert "mp_20 (version 1), targets seen in training: not a prediction" in names


def test_the_list_of_crystals_seen_travels(checkpoint: Path, tmp_path: Path) -> None:
    Seen(frozenset({("mp-1", "NaCl")})).write(checkpoint / SEEN_FILE)
    assert cli.main(["model", "push", str(checkpoint), str(tmp_path / "shared")]) == 0
    assert cli.main(["model", "pull", str(tmp_path / "shared"), str(tmp_path / "fetched")]) == 0
    seen = Seen.read(tmp_path / "fetched")
    assert seen is not None
    assert seen.has_id("mp-1")


def test_a_licence_is_asked_for(checkpoint: Path, tmp_path: Path, capsys: Printed) -> None:
    (checkpoint / "README.md").write_text("# A card\n")
    assert cli.main(["model", "push", str(checkpoint), str(tmp_path / "shared")]) == 2
    assert "say which one with --license" in capsys.readouterr().err
    assert not (tmp_path / "shared").exists()


def test_a_place_in_use(checkpoint: Path, tmp_path: Path, capsys: Printed) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.tex").write_text("years of work")
    for command in ("push", "pull"):
        assert cli.main(["model", command, str(checkpoint), str(tmp_path / "used")]) == 2
        assert "is not empty; choose a new folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("command", ["push", "pull"])
def test_what_is_no_checkpoint(command: str, tmp_path: Path, capsys: Printed) -> None:
    (tmp_path / "foreign").mkdir()
    assert cli.main(["model", command, str(tmp_path / "foreign"), str(tmp_path / "out")]) == 2
    assert "is not a checkpoint of this project" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_damaged_copy_is_not_left_behind(checkpoint: Path, tmp_path: Path, capsys: Printed) -> None:
    (checkpoint / "model.safetensors").write_bytes(b"cut short")
    assert cli.main(["model", "pull", str(checkpoint), str(tmp_path / "out")]) == 2
    assert "is damaged" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_names_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert is_hub_name("someone/salts")
    assert not any(is_hub_name(place) for place in ("./someone/salts", "folder/salts", "salts", "/tmp/salts"))


def test_the_hub(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    """What goes up and comes down, with a folder in place of the hub."""
    hub = tmp_path / "hub"

    class Api:
        def create_repo(self, name: str, *, repo_type: str, private: bool, exist_ok: bool) -> str:
            assert (repo_type, private, exist_ok) == ("model", True, True)
            return f"https://hub.example/{name}"

        def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
            shutil.copytree(folder_path, hub / repo_id)

    def snapshot_download(name: str, *, local_dir: Path) -> None:
        if not (hub / name).exists():
            raise FileNotFoundError("no such model")
        shutil.copytree(hub / name, local_dir)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert cli.main(["model", "push", str(checkpoint), "someone/salts", "--private"]) == 0
    assert "https://hub.example/someone/salts" in capsys.readouterr().out
    assert cli.main(["model", "pull", "someone/salts", "fetched"]) == 0
    assert load_checkpoint(tmp_path / "fetched").layout_name == "wyckoff"
    assert cli.main(["model", "pull", "someone/else", "other"]) == 2
    assert "the hub did not accept someone/else: no such model" in capsys.readouterr().err


def test_errors_of_the_hub_are_caught() -> None:
    """All of them, and those of the network, are an OSError or of the HTTP library's own class."""
    assert issubclass(HfHubHTTPError, OSError)
    assert HfHubHTTPError.__mro__[1].__name__ == "HTTPError"


@pytest.mark.parametrize("command", ["push", "pull"])
def test_a_full_disk_leaves_nothing_half_written(
    command: str, checkpoint: Path, tmp_path: Path, capsys: Printed
) -> None:
    out = tmp_path / "shared"
    with full_disk(1024):
        assert cli.main(["model", command, str(checkpoint), str(out)]) == 2
    said = capsys.readouterr().err
    assert "File too large" in said
    assert "ake room there" in said
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.glob("shared*"))
