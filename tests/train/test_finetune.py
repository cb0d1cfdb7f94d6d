"""Fine-tuning from a folder of CIFs to a report, with a tiny random model and a dozen rock salts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import ModelCard

from crystallm.base.config import load_recipe
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.data.seen import SEEN_FILE, Seen
from crystallm.data.templates import TemplateLibrary
from crystallm.model.architecture import ModelConfig, build_model
from crystallm.model.checkpoint import TEMPLATES_FILE, load_checkpoint, save_checkpoint
from crystallm.tokenizer import build_tokenizer
from crystallm.tokenizer.layout import get_layout
from crystallm.train.finetune.config import STRATEGIES, FinetuneConfig, settled, step_tokens, strategy_for
from crystallm.train.finetune.data import divide
from crystallm.train.finetune.judging import gained_and_lost
from crystallm.train.finetune.report import markdown, verdict

RECIPES = sorted((Path(__file__).parents[2] / "train" / "finetune").glob("*.yaml"))

ROCK_SALT = """data_{cation}{anion}
_cell_length_a {a}
_cell_length_b {a}
_cell_length_c {a}
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
{cation}1 {cation} 0 0 0 {occupancy}
{anion}1 {anion} 0.5 0.5 0.5 1
"""

CELLS = {
    **{("Li", "F"): 4.03, ("Na", "F"): 4.63, ("K", "F"): 5.34, ("Li", "Cl"): 5.14, ("Na", "Cl"): 5.64},
    **{("K", "Cl"): 6.29, ("Mg", "O"): 4.21, ("Ca", "O"): 4.81, ("Sr", "O"): 5.16, ("Ba", "O"): 5.54},
    **{("Mg", "S"): 5.20, ("Ca", "S"): 5.69},
}
"""Cation and anion -> lattice parameter in angstrom (Wyckoff, Crystal Structures, 1963)."""


def write_cifs(folder: Path, *, occupancy: str = "1", count: int = len(CELLS)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for (cation, anion), a in list(CELLS.items())[:count]:
        text = ROCK_SALT.format(cation=cation, anion=anion, a=a, occupancy=occupancy)
        (folder / f"{cation}{anion}_{occupancy}.cif").write_text(text)
    return folder


def write_model(folder: Path, *, seed: int = 0) -> Path:
    tokenizer = build_tokenizer(get_layout())
    torch.manual_seed(seed)
    tokens = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    shape = ModelConfig(layers=2, hidden=16, heads=2, kv_heads=1, ffn=24, context=256)
    model = build_model(shape, vocab_size=len(tokenizer), **tokens)
    save_checkpoint(folder, model, tokenizer, layout_name="wyckoff", descriptions="canonical", provenance={}, card="")
    return folder


Finetune = Callable[..., int]

SMALL = ("draws=2", "contact=0", "epochs=3", "learning_rate=0.01", "precision=fp32", "deduplicate=text")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_model(tmp_path_factory.mktemp("base") / "tiny")
    Seen(frozenset({("mp-22900", "RbI")})).write(folder / SEEN_FILE)
    return folder


@pytest.fixture(scope="session")
def finetune_here(base: Path, train_here: Callable[[list[str]], int]) -> Finetune:
    """Run `crystallm train finetune` from the tiny model; keywords change fields of the recipe."""

    def run(source: Path, out: Path, *options: str, model: Path = base, **fields: object) -> int:
        changes = [*SMALL, *(f"{name}={value}" for name, value in fields.items())]
        sets = [part for change in changes for part in ("--set", change)]
        return train_here(["finetune", str(source), "--out", str(out), "--model", str(model), *sets, *options])

    return run


@pytest.fixture(scope="session")
def salts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve rock salts and a disordered one."""
    folder = write_cifs(tmp_path_factory.mktemp("cifs") / "salts")
    return write_cifs(folder, occupancy="0.5", count=1)


@pytest.fixture(scope="session")
def finished(salts: Path, finetune_here: Finetune, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finetune") / "run"
    assert finetune_here(salts, out) == 0
    return out


@pytest.fixture
def report(finished: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((finished / "report.json").read_text())
    return loaded


def test_every_crystal_is_accounted_for(finished: Path, report: dict[str, Any]) -> None:
    assert report["crystals"] == {"train": 8, "val": 2, "heldout": 2}
    assert report["preparation"]["refused"] == {"disordered": 1}
    (line,) = (finished / "prepared" / "drops.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == "LiF_0.5.cif"


def test_the_loss_falls_and_the_best_model_is_kept(finished: Path, report: dict[str, Any]) -> None:
    losses = {line["step"]: line["loss"] for line in report["curve"] if line["kind"] == "eval"}
    assert report["best_step"] == min(losses, key=lambda step: losses[step])
    before, after = (report[time]["losses"]["val"]["per_token"] for time in ("before", "after"))
    assert before == pytest.approx(losses[0], abs=1e-4)
    assert after == pytest.approx(losses[report["best_step"]], abs=0.02)  # stored in bf16
    assert after < before - 0.1


def test_what_was_learned_can_be_followed(finished: Path, report: dict[str, Any]) -> None:
    """The rock salts of the training part are templates of the model that learned them, and no others are."""
    library = TemplateLibrary(finished / "run" / "best" / TEMPLATES_FILE)
    assert len(library) == report["crystals"]["train"]
    assert {template.description.space_group for template in library.find(parse_formula("RbI"))} == {225}


def test_what_was_seen_is_what_the_start_had_seen_and_what_was_learned(finished: Path, report: dict[str, Any]) -> None:
    """Neither what said when to stop nor what was held out."""
    seen = Seen.read(finished / "run" / "best")
    assert seen is not None
    learned = {
        (row["id"], row["reduced_formula"]) for row in pq.read_table(finished / "data/train.parquet").to_pylist()
    }
    assert len(learned) == 8
    assert seen.crystals == {("mp-22900", "RbI"), *learned}
    assert report["seen_before"] == {"targets": 0, "of": 2, "undecided": 0}
    assert "0 of the 2 held-out crystals were seen by `tiny`." in (finished / "report.md").read_text()


def test_held_out_crystals_that_the_start_knew_are_told(report: dict[str, Any]) -> None:
    text = markdown(report | {"seen_before": {"targets": 1, "of": 2, "undecided": 1}})
    told = (
        "**1 of the 2 held-out crystals were seen by `tiny`, of 1 it is not known: its match rates are seen in training"
    )
    assert told in text
    assert "## Held-out crystals, 2 draws each, seen in training: not a prediction" in text


def test_rates_have_denominators_and_forgetting_is_told(finished: Path, report: dict[str, Any]) -> None:
    for time in ("before", "after"):
        assert report[time]["metrics"]["match_rate@1"]["attempted"] == 2
        assert report[time]["validity"]["attempted"] == 2
        assert report[time]["losses"]["general"]["texts"] == 400
    assert report["formulas_in_general_training"]["all"]["formulas"] == 12
    page = (finished / "report.md").read_text()
    assert "Forgetting: the loss on general crystals went from" in page
    assert "Wilson intervals at 95 %" in page
    assert (finished / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_no_path_of_this_machine_in_what_travels(finished: Path, base: Path) -> None:
    for name in ("report.json", "report.md", "run/best/README.md", "run/best/crystallm.json"):
        assert str(base.parent) not in (finished / name).read_text()


def test_the_checkpoint_says_what_it_reached(finished: Path) -> None:
    folder = finished / "run" / "best"
    assert load_checkpoint(folder).provenance["training"]["train_texts"] == 8
    evaluation = json.loads((folder / "crystallm.json").read_text())["evaluation"]
    assert evaluation["metrics"]["match_rate@1"]["attempted"] == 2
    assert "Held-out crystals, 2 draws each" in ModelCard.load(folder / "README.md").text


def test_a_kill_before_the_report_repeats_no_draw_and_no_step(
    finished: Path, salts: Path, finetune_here: Finetune, report: dict[str, Any], tmp_path: Path
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    (out / "report.json").unlink()
    samples = out / "after" / "samples.jsonl"
    whole = samples.read_bytes()
    kept = whole[: whole.find(b"\n") + 1]
    samples.write_bytes(kept + whole[len(kept) : len(kept) + 80])  # killed while it wrote the second draw
    metrics = (out / "run" / "metrics.jsonl").read_bytes()
    assert finetune_here(salts, out, "--resume", validity=False) == 2  # another recipe
    assert finetune_here(salts, out, "--resume") == 0
    assert samples.read_bytes().startswith(kept)
    ids = [sorted(json.loads(line)["id"] for line in text.splitlines()) for text in (samples.read_bytes(), whole)]
    assert ids[0] == ids[1]
    assert (out / "run" / "metrics.jsonl").read_bytes() == metrics
    again = json.loads((out / "report.json").read_text())
    assert again["after"]["losses"] == report["after"]["losses"]
    assert finetune_here(salts, out, "--resume") == 0  # finished: nothing is made again


def test_interrupted_training_goes_on(
    finished: Path, salts: Path, finetune_here: Finetune, interrupted_at: Any, tmp_path: Path
) -> None:
    with interrupted_at(2):
        assert finetune_here(salts, tmp_path / "run", draws=0) == 130
    assert not (tmp_path / "run" / "report.json").exists()
    assert finetune_here(salts, tmp_path / "run", "--resume", draws=0) == 0
    curves = [json.loads((out / "report.json").read_text())["curve"] for out in (tmp_path / "run", finished)]
    assert curves[0] == curves[1]


def test_a_split_column_is_followed(finetune_here: Finetune, tmp_path: Path) -> None:
    cells = list(CELLS.items())[:3]
    cifs = [ROCK_SALT.format(cation=c, anion=x, a=a, occupancy=1) for (c, x), a in cells]
    pq.write_table(pa.table({"cif": cifs, "part": ["train", "val", "test"]}), tmp_path / "table.parquet")
    assert finetune_here(tmp_path / "table.parquet", tmp_path / "run", split_column="part", draws=0, epochs=1) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["crystals"] == {"train": 1, "val": 1, "heldout": 1}
    assert "metrics" not in report["after"]


Printed = pytest.CaptureFixture[str]


def test_one_cif(finetune_here: Finetune, tmp_path: Path, capsys: Printed) -> None:
    assert finetune_here(write_cifs(tmp_path / "one", count=1), tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert "1 crystals of 1 formulas are left of 1 read" in said
    assert "needs at least 3 formulas" in said


def test_only_disordered_cifs(finetune_here: Finetune, tmp_path: Path, capsys: Printed) -> None:
    assert finetune_here(write_cifs(tmp_path / "mixed", occupancy="0.5"), tmp_path / "run") == 2
    assert "nothing is left of 12 entries: disordered 12" in capsys.readouterr().err


def test_a_source_that_is_not_there(finetune_here: Finetune, tmp_path: Path, capsys: Printed) -> None:
    assert finetune_here(tmp_path / "no" / "such" / "folder", tmp_path / "run") == 2
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_out_in_use(finished: Path, salts: Path, finetune_here: Finetune, capsys: Printed) -> None:
    before = sorted(finished.rglob("*"))
    assert finetune_here(salts, finished) == 2
    assert "is not empty; add --resume" in capsys.readouterr().err
    assert sorted(finished.rglob("*")) == before


def test_resume_with_another_recipe(finished: Path, salts: Path, finetune_here: Finetune, capsys: Printed) -> None:
    assert finetune_here(salts, finished, "--resume", seed=1) == 2
    assert "seed was 0, now 1" in capsys.readouterr().err


def test_a_model_of_another_project(salts: Path, finetune_here: Finetune, tmp_path: Path, capsys: Printed) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text("{}")
    assert finetune_here(salts, tmp_path / "run", model=tmp_path / "foreign") == 2
    assert "is not a checkpoint of this project" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_model_with_another_vocabulary(
    base: Path, salts: Path, finetune_here: Finetune, tmp_path: Path, capsys: Printed
) -> None:
    other = shutil.copytree(base, tmp_path / "other")
    text = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(text.replace('"<reserved_3>"', '"<another>"'))
    assert finetune_here(salts, tmp_path / "run", model=other) == 2
    assert "is not that of layout 'wyckoff'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_out_of_memory_names_the_setting(
    salts: Path, finetune_here: Finetune, tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 2 TiB")

    monkeypatch.setattr("crystallm.train.loop.Trainer._step", too_large)
    assert finetune_here(salts, tmp_path / "run", draws=0) == 2
    assert "raise accumulate (now 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("loss", "draws", "said"),
    [
        (50.0, 60, "is written better than before: loss of held-out crystals 67.8 nats before, 50.0 after; draws"),
        (50.0, 40, "better by one measure and not by the other"),
        (70.0, 45, "not written better than before** (loss of held-out crystals 67.8 nats before, 70.0 after; "),
    ],
)
def test_the_report_says_whether_it_helped(loss: float, draws: int, said: str) -> None:
    def state(loss: float, draws: int) -> dict[str, Any]:
        return {"losses": {"heldout": {"per_crystal": loss}}, "matching_draws": {"passed": draws, "attempted": 100}}

    report = {"recipe": {"draws": 5, "model": "default"}, "before": state(67.8, 45), "after": state(loss, draws)}
    assert said in verdict(report)
    assert ("Keep the model `default`" in verdict(report)) == (loss > 67.8)


def test_formulas_are_never_on_two_sides() -> None:
    rows = [{"id": str(i), "reduced_formula": f"X{i // 3}"} for i in range(60)]
    parts = divide(rows, FinetuneConfig(val_share=0.2, heldout_share=0.1, most_val=3))
    formulas = {part: {row["reduced_formula"] for row in found} for part, found in parts.items()}
    assert {part: len(found) for part, found in formulas.items()} == {"train": 15, "val": 3, "heldout": 2}
    assert len(set().union(*formulas.values())) == 20
    again = divide(rows[::-1], FinetuneConfig(val_share=0.2, heldout_share=0.1, most_val=3))
    assert all({row["id"] for row in again[part]} == {row["id"] for row in parts[part]} for part in parts)


def test_the_size_decides_only_what_is_left_open() -> None:
    config = settled(FinetuneConfig(epochs=2), crystals=50)
    assert config.epochs == 2
    assert config.learning_rate == STRATEGIES[0][1].learning_rate
    assert [strategy_for(crystals) for crystals in (50, 500, 5000)] == [strategy for _, strategy in STRATEGIES]


@pytest.mark.parametrize(("tokens", "step"), [(0, 512), (2_000, 512), (16_000, 2048), (200_000, 8192), (10**7, 8192)])
def test_tokens_of_a_step(tokens: int, step: int) -> None:
    assert step_tokens(tokens) == step


def test_there_are_recipes() -> None:
    one_thing = {"augmented", "frozen", "full", "layerwise", "lora", "replay"}
    assert {path.stem for path in RECIPES} == {*one_thing, "replay_augmented"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_committed_recipe_leaves_no_strategy_open(path: Path) -> None:
    config = load_recipe(FinetuneConfig, path)
    names = ("frozen_layers", "layer_decay", "lora_rank", "replay_share", "augmented_share")
    assert all(getattr(config, name) is not None for name in names)


def test_a_target_without_a_verdict_is_neither_gained_nor_lost() -> None:
    """a gained, b lost; c, d and e have a comparison without verdict on one side or both; f stays as it was."""
    before = {
        "first_match": {"a": None, "b": 1, "c": 1, "d": None, "e": None, "f": 2},
        "undecided": {"d": [1], "e": [2]},
    }
    after = {
        "first_match": {"a": 2, "b": None, "c": None, "d": 1, "e": None, "f": 1},
        "undecided": {"c": [2], "e": [1]},
    }
    assert gained_and_lost(before, after, top=2) == {"gained": 1, "lost": 1, "undecided": 3}
    # Within the first draw only d and e were open; c is lost, f gained.
    assert gained_and_lost(before, after, top=1) == {"gained": 1, "lost": 2, "undecided": 2}
    older = {"first_match": {"a": None}}
    assert gained_and_lost(older, {"first_match": {"a": 1}}, top=1) == {"gained": 1, "lost": 0, "undecided": 0}
