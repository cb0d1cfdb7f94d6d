"""A checkpoint is read back as it was written, by us and by plain transformers; anything else is refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from crystallm.base.errors import CheckpointError
from crystallm.model.architecture import ModelConfig, build_model
from crystallm.model.checkpoint import default_folder, load_checkpoint, read_about, save_checkpoint
from crystallm.tokenizer import build_tokenizer
from crystallm.tokenizer.layout import get_layout

SALT = """data_
_chemical_formula_sum
Na
Cl
_cell_formula_units_Z_primitive 1
_space_group_IT_number 225
_cell_length_a 5.6402
loop_atom_site
Na a
Cl b
#END"""


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer(get_layout("wyckoff"))


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    torch.manual_seed(0)
    tokens = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    shape = ModelConfig(layers=1, hidden=16, heads=2, kv_heads=1, ffn=24, context=64)
    return build_model(shape, vocab_size=len(tokenizer), **tokens).eval()


Save = Callable[..., Path]


@pytest.fixture
def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Save:
    def run(name: str = "model", *, dtype: torch.dtype | None = None, note: str = "first") -> Path:
        about = {"layout_name": "wyckoff", "descriptions": "augmented", "provenance": {"note": note}}
        save_checkpoint(tmp_path / name, model, tokenizer, card="# A card\n", dtype=dtype, **about)
        return tmp_path / name

    return run


def test_round_trip(save: Save, model: PreTrainedModel) -> None:
    checkpoint = load_checkpoint(save())
    assert (checkpoint.layout_name, checkpoint.descriptions) == ("wyckoff", "augmented")
    assert checkpoint.provenance == {"note": "first"}
    assert not checkpoint.model.training
    ids_BT = torch.tensor([checkpoint.tokenizer(SALT)["input_ids"]])
    assert checkpoint.tokenizer.decode(ids_BT[0]) == SALT
    with torch.no_grad():
        torch.testing.assert_close(checkpoint.model(ids_BT).logits, model(ids_BT).logits)


def test_plain_transformers_loads_it(save: Save, model: PreTrainedModel) -> None:
    folder = save()
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids_BT = torch.tensor([tokenizer(SALT)["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(plain(ids_BT).logits, model(ids_BT).logits)
    out_BT = plain.generate(ids_BT[:, :3], max_new_tokens=4, do_sample=False)
    assert out_BT.shape[1] <= 7


def test_files(save: Save) -> None:
    assert {path.name for path in save().iterdir()} >= {
        *("config.json", "model.safetensors", "generation_config.json"),
        *("tokenizer.json", "tokenizer_config.json", "crystallm.json", "README.md"),
    }


def test_bf16_halves_the_file_and_keeps_the_training_model(save: Save, model: PreTrainedModel) -> None:
    full, half = save("full"), save("half", dtype=torch.bfloat16)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (full, half)]
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.05)
    assert model.dtype == torch.float32
    stored = load_file(half / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    loaded = load_checkpoint(half).model
    assert loaded.dtype == torch.float32
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor.bfloat16().float(), rtol=0, atol=0)


def test_saving_replaces_the_folder(save: Save, tmp_path: Path) -> None:
    folder = save()
    (folder / "stale").write_text("")
    save(note="second")
    assert read_about(folder)["provenance"] == {"note": "second"}
    assert not (folder / "stale").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_full_edition_is_what_no_path_means() -> None:
    assert load_checkpoint().folder == default_folder() == default_folder("full")
    assert load_checkpoint().layout_name == "wyckoff"


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no checkpoint folder .*nowhere; give a folder written by"):
        load_checkpoint(tmp_path / "nowhere")


def test_folder_of_another_project(model: PreTrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"is not a checkpoint of this project: no crystallm\.json"):
        load_checkpoint(tmp_path)


def test_run_directory_instead_of_its_model(save: Save, tmp_path: Path) -> None:
    save("best")
    with pytest.raises(CheckpointError, match="such as RUN/best"):
        load_checkpoint(tmp_path)


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])


def lose_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def mend_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 32}))


def take_tokenizer_away(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def cut_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text()[:500])


def add_a_token(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["Xx"])
    tokenizer.save_pretrained(folder)


def cut_about(folder: Path) -> None:
    (folder / "crystallm.json").write_text('{"format": 1, "layout')


def empty_about(folder: Path) -> None:
    (folder / "crystallm.json").write_text("{}")


def from_the_future(folder: Path) -> None:
    about = json.loads((folder / "crystallm.json").read_text())
    (folder / "crystallm.json").write_text(json.dumps(about | {"format": 99}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_weights, "is damaged: Error while deserializing header.*copy it again"),
        (lose_a_tensor, r"do not fit its config\.json: model\.layers\.0\.mlp\.up_proj\.weight"),
        (mend_config, r"do not fit its config\.json: model\.layers\.0\.mlp"),
        (take_tokenizer_away, "is damaged"),
        (cut_tokenizer, "is damaged"),
        (add_a_token, r"its model knows \d+ tokens, its tokenizer \d+; copy both from the same training run"),
        (cut_about, r"cannot read .*crystallm\.json"),
        (empty_about, r"crystallm\.json lacks its fields"),
        (from_the_future, r"written by a later version \(format 99\); update crystallm"),
    ],
)
def test_damage(damage: Callable[[Path], None], message: str, save: Save, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(save(), folder)
    damage(folder)
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        load_checkpoint(folder)
