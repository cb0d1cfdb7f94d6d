"""What `crystallm train` leaves behind, and how it answers mistakes."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from crystallm.base.config import load_recipe
from crystallm.base.folder_lock import only_writer
from crystallm.model.checkpoint import load_checkpoint
from crystallm.train.config import TrainConfig

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def finished(arguments: Any, train_here: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("command") / "run"
    assert train_here(arguments(out, max_steps=60, eval_every=20)) == 0
    return out


def test_it_learns(finished: Path, metrics: Any) -> None:
    """After the first word, a text that counts upwards has one continuation until it ends."""
    losses = [loss for _, loss, _ in metrics(finished, "eval")]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1.6 < metrics(finished, "train")[0][1]  # ln 16 = 2.8 before training


def test_run_directory(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {
        *("recipe.yaml", "provenance.json", "metrics.jsonl", "loss.png", "tensorboard"),
        *("checkpoints", "best", "final", "README.md"),
    }
    assert load_recipe(TrainConfig, finished / "recipe.yaml").max_steps == 60
    origin = json.loads((finished / "provenance.json").read_text())
    assert {"prepared/train.parquet", "train.parquet"} & origin["inputs"].keys()
    assert origin["config"]["seed"] == 0
    assert (finished / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((finished / "checkpoints").iterdir())) == 2


def test_exported_model_loads_with_plain_transformers(finished: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(finished / "final", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(finished / "final")
    ids_BT = torch.tensor([tokenizer("data_ w3 w4 w5")["input_ids"]])
    best = model(ids_BT).logits[0, -1].argmax()
    assert tokenizer.decode(best) == "w6"


def test_model_card_states_what_was_measured(finished: Path) -> None:
    checkpoint = load_checkpoint(finished / "best")
    measured = checkpoint.provenance["training"]
    assert measured["steps"] == 60
    assert measured["train_texts"] == 200
    assert f"{measured['loss_per_token']:.4f} nats a token" in (finished / "best" / "README.md").read_text()
    assert checkpoint.layout_name == "wyckoff"


def test_gpt2_trains(arguments: Any, train_here: Any, metrics: Any, tmp_path: Path) -> None:
    assert train_here(arguments(tmp_path / "run", model__model_type="gpt2", max_steps=2)) == 0
    assert [step for step, *_ in metrics(tmp_path / "run", "train")] == [1, 2]
    config = json.loads((tmp_path / "run" / "final" / "config.json").read_text())
    assert config["model_type"] == "gpt2"


def test_bf16_autocast_trains(arguments: Any, train_here: Any, metrics: Any, tmp_path: Path) -> None:
    assert train_here(arguments(tmp_path / "run", precision="bf16", max_steps=2)) == 0
    assert metrics(tmp_path / "run", "eval")[-1][1] < 3.0


@pytest.fixture
def rejected(train_here: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command, expect exit code 2, and return the message."""

    def run(arguments: list[str]) -> str:
        assert train_here(arguments) == 2
        return capsys.readouterr().err

    return run


def test_misspelt_field(arguments: Any, rejected: Any, tmp_path: Path) -> None:
    assert "unknown field 'learning_rat'" in rejected(arguments(tmp_path / "run", learning_rat=0.1))
    assert not (tmp_path / "run").exists()


def test_missing_recipe(arguments: Any, rejected: Any, tmp_path: Path) -> None:
    assert "cannot read the recipe train/defualt.yaml" in rejected(
        ["train/defualt.yaml", *arguments(tmp_path / "run")[1:]]
    )


def test_missing_data_folder(prepared: Path, rejected: Any, tmp_path: Path) -> None:
    recipe, out = str(prepared / "recipe.yaml"), tmp_path / "run"
    message = rejected([recipe, "--data", str(tmp_path / "nowhere"), "--out", str(out)])
    assert f"there is no {tmp_path / 'nowhere' / 'train.parquet'}" in message
    assert "crystallm data prepare" in message


def test_data_that_is_no_parquet(prepared: Path, rejected: Any, tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_text("id,text\n")
    recipe = str(prepared / "recipe.yaml")
    message = rejected([recipe, "--data", str(tmp_path), "--out", str(tmp_path / "run")])
    assert "train.parquet is not a prepared file" in message


def test_text_of_another_layout(prepared: Path, rejected: Any, tmp_path: Path) -> None:
    """The tiny language is not what the tokenizer of the wyckoff layout reads."""
    message = rejected([str(prepared / "recipe.yaml"), "--data", str(prepared), "--out", str(tmp_path / "run")])
    assert "prepare" in message
    assert "data_ w" in message


def test_all_texts_too_long(arguments: Any, rejected: Any, tmp_path: Path) -> None:
    message = rejected(arguments(tmp_path / "run", max_tokens=4))
    assert "holds no text of at most 4 tokens" in message


def test_folder_in_use_without_resume(arguments: Any, finished: Path, rejected: Any) -> None:
    message = rejected(arguments(finished))
    assert f"{finished} is not empty; add --resume" in message


def test_one_run_at_a_time_trains_in_a_folder(arguments: Any, finished: Path, rejected: Any, tmp_path: Path) -> None:
    """Neither to go on nor to begin while another process is at it; nothing of its run is touched."""
    before = (finished / "metrics.jsonl").read_bytes()
    with only_writer(finished):
        message = rejected(arguments(finished, "--resume", max_steps=60))
    assert f"another run (process {os.getpid()}, " in message
    assert f"is writing into {finished}; wait for its end, or choose another --out" in message
    assert (finished / "metrics.jsonl").read_bytes() == before
    (tmp_path / "new").mkdir()
    with only_writer(tmp_path / "new"):
        assert "is writing into" in rejected(arguments(tmp_path / "new"))


def test_resume_without_a_run(arguments: Any, rejected: Any, tmp_path: Path) -> None:
    assert "there is no run to resume" in rejected(arguments(tmp_path / "run", "--resume"))


def test_resume_with_another_recipe(arguments: Any, finished: Path, rejected: Any) -> None:
    message = rejected(arguments(finished, "--resume", max_steps=60, eval_every=20, learning_rate=0.5))
    assert "was started with other values of learning_rate;" in message


@pytest.mark.parametrize(
    ("file", "message"), [("position.json", "cannot resume from"), ("model.safetensors", "damaged")]
)
def test_damaged_checkpoint(
    file: str, message: str, arguments: Any, finished: Path, rejected: Any, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    last = max((out / "checkpoints").iterdir())
    (last / file).write_bytes((last / file).read_bytes()[:20])
    said = rejected(arguments(out, "--resume", max_steps=60, eval_every=20))
    assert message in said
    assert f"{last}" in said
    assert "delete it to use the one before" in said


def test_place_that_cannot_be_written(arguments: Any, rejected: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = rejected(arguments(tmp_path / "file" / "run"))
    assert f"cannot create the folder {tmp_path / 'file' / 'run'}: Not a directory; choose another place" in message


def test_missing_tokenizer(prepared: Path, rejected: Any, tmp_path: Path) -> None:
    options = ["--data", str(prepared), "--out", str(tmp_path / "run"), "--tokenizer", str(tmp_path)]
    message = rejected([str(prepared / "recipe.yaml"), *options])
    assert f"there is no {tmp_path / 'tokenizer.json'}" in message


def test_corpus_counts_what_is_left_out(prepared: Path, arguments: Any, train_here: Any, tmp_path: Path) -> None:
    """Texts have 5 to 32 tokens; those above 20 are left out of training and counted."""
    texts = pq.read_table(prepared / "train.parquet")["text"].to_pylist()
    assert train_here(arguments(tmp_path / "run", max_tokens=20, max_steps=1)) == 0
    measured = load_checkpoint(tmp_path / "run" / "final").provenance["training"]
    assert measured["train_left_out"] == sum(len(text.split()) > 20 for text in texts)
    assert measured["train_texts"] + measured["train_left_out"] == len(texts)


@pytest.fixture(scope="module")
def prepared_rutile(tmp_path_factory: pytest.TempPathFactory, rutile_text: str) -> Path:
    folder = tmp_path_factory.mktemp("rutile")
    for name in ("train", "val"):
        pq.write_table(pa.table({"text": [rutile_text] * 16}), folder / f"{name}.parquet")
    return folder


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")  # on one core
@pytest.mark.parametrize("workers", [0, 2])
def test_augmented_descriptions(
    workers: int, prepared_rutile: Path, train_here: Any, metrics: Any, tmp_path: Path
) -> None:
    """Drawn texts follow from seed, epoch and row: workers that draw them ahead change nothing."""
    fields = ["max_steps=3", "batch_tokens=512", "precision=fp32", "log_every=1", "model.dropout=0"]
    sets = [part for field in fields for part in ("--set", field)]

    def losses(name: str, *more: str) -> list[float]:
        options = ["--data", str(prepared_rutile), "--out", str(tmp_path / name), *sets, *more]
        assert train_here([str(REPOSITORY / "train" / "tiny.yaml"), *options]) == 0
        return [loss for _, loss, _ in metrics(tmp_path / name, "train")]

    drawn = losses("drawn", "--set", "descriptions=augmented", "--set", f"workers={workers}")
    if workers == 0:
        assert drawn[0] != losses("canonical")[0]
    else:
        assert drawn == losses("here", "--set", "descriptions=augmented")


def test_start_from_the_weights_of_another_run(
    finished: Path, arguments: Any, train_here: Any, metrics: Any, tmp_path: Path
) -> None:
    out = tmp_path / "more"
    assert train_here(arguments(out, start_from=str(finished / "final"), max_steps=1, learning_rate=1e-6)) == 0
    before, after = metrics(finished, "eval")[-1][1], metrics(out, "eval")[-1][1]
    assert after == pytest.approx(before, abs=0.02)  # the export is in bf16, one tiny step was made


def test_start_from_another_architecture_is_refused(
    finished: Path, arguments: Any, train_here: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "more"
    assert train_here(arguments(out, start_from=str(finished / "final"), model__hidden=64)) == 2
    assert "architecture is not the recipe's" in capsys.readouterr().err
