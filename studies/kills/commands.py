"""Commands that are killed, each tiny: what they are given, and what of their results must be the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from crystallm.data import PrepareConfig, prepare
from crystallm.train.state.run_folder import RunFolder

ROCK_SALTS = {
    **{("Li", "F"): 4.03, ("Na", "F"): 4.63, ("K", "F"): 5.34, ("Li", "Cl"): 5.14, ("Na", "Cl"): 5.64},
    **{("K", "Cl"): 6.29, ("Mg", "O"): 4.21, ("Ca", "O"): 4.81, ("Sr", "O"): 5.16, ("Ba", "O"): 5.54},
    **{("Mg", "S"): 5.20, ("Ca", "S"): 5.69},
}
"""Cation and anion -> lattice parameter in angstrom (Wyckoff, Crystal Structures, 1963)."""

CIF = """data_{cation}{anion}
_cell_length_a {a}
_cell_length_b {a}
_cell_length_c {a}
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'F m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
{cation}1 {cation} 0 0 0
{anion}1 {anion} 0.5 0.5 0.5
"""

RECIPE = {
    "model": {"layers": 1, "hidden": 32, "heads": 2, "ffn": 32, "context": 128, "dropout": 0.1},
    **{"max_steps": 60, "batch_tokens": 256, "accumulate": 2, "warmup_steps": 4, "learning_rate": 0.01},
    **{"precision": "fp32", "log_every": 1, "eval_every": 9, "save_every": 5, "templates": False},
}

PROMPTS = ("NaCl", "TiO2")


@dataclass(frozen=True)
class Command:
    """A command that may be killed and given again.

    arguments: of `crystallm`, for a folder to write. result: what is compared, by name, of a finished folder.
    """

    name: str
    arguments: Callable[[Path], list[str]]
    result: Callable[[Path], dict[str, Any]]


def write_inputs(folder: Path) -> None:
    """What the commands read: CIFs, a prepared folder, recipes, prompts and targets."""
    cifs = folder / "cifs"
    cifs.mkdir(parents=True)
    for (cation, anion), a in ROCK_SALTS.items():
        (cifs / f"{cation}{anion}.cif").write_text(CIF.format(cation=cation, anion=anion, a=a))
    for shift in (0.01, 0.02):  # duplicates, for the matcher
        for (cation, anion), a in ROCK_SALTS.items():
            text = CIF.format(cation=cation, anion=anion, a=round(a + shift, 3))
            (cifs / f"{cation}{anion}_{shift}.cif").write_text(text)
    prepare(
        PrepareConfig(sources=(str(cifs),), out=folder / "prepared", workers=1, deduplicate="off", val_fraction=0.25)
    )
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"formula": formula}) + "\n" for formula in PROMPTS))
    rows = [{"id": f"{c}{a}", "cif": CIF.format(cation=c, anion=a, a=b)} for (c, a), b in ROCK_SALTS.items()]
    pq.write_table(pa.Table.from_pylist(rows[:3]), folder / "targets.parquet")
    drawn = [{"target_id": row["id"], "sample": 0, "cif": row["cif"]} for row in rows[:3]]
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in drawn))
    write_model(folder / "model")


def write_model(folder: Path) -> None:
    """A checkpoint that knows nothing and costs little."""
    import torch

    from crystallm.model.architecture import ModelConfig, build_model
    from crystallm.model.checkpoint import save_checkpoint
    from crystallm.tokenizer import build_tokenizer
    from crystallm.tokenizer.layout import get_layout

    tokenizer = build_tokenizer(get_layout())
    torch.manual_seed(0)
    tokens = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    shape = ModelConfig(layers=2, hidden=16, heads=2, kv_heads=1, ffn=24, context=256)
    model = build_model(shape, vocab_size=len(tokenizer), **tokens)
    save_checkpoint(folder, model, tokenizer, layout_name="wyckoff", descriptions="canonical", provenance={}, card="")


def commands(inputs: Path) -> list[Command]:
    """The six of the issue: training, sampling in two precisions, preparing, evaluating and fine-tuning."""

    def resumed(out: Path, recipe: str) -> list[str]:
        return ["--resume"] if (out / recipe).is_file() else []

    def sample(precision: str) -> Callable[[Path], list[str]]:
        wanted = ["--prompts", str(inputs / "prompts.jsonl"), "-n", "4", "--batch-size", "2", "--precision", precision]
        wanted += ["--generated-only", "--no-energies", "--edition", "benchmark"]
        return lambda out: ["sample", *wanted, "--out", str(out)]

    train = ["train", str(inputs / "recipe.yaml"), "--data", str(inputs / "prepared")]
    evaluate = ["eval", "run", "validity", "--targets", str(inputs / "targets.parquet"), "-n", "2", "--no-prototypes"]
    evaluate += ["--data", str(inputs), "--workers", "1", "--model", str(inputs / "model"), "--prompt", "formula"]
    small = (
        "draws=2",
        "contact=0",
        "epochs=3",
        "learning_rate=0.01",
        "precision=fp32",
        "deduplicate=text",
        "save_minutes=0.01",
    )
    finetune = [
        "train",
        "finetune",
        str(inputs / "cifs"),
        "--model",
        str(inputs / "model"),
        *(part for one in small for part in ("--set", one)),
    ]
    return [
        Command("train", lambda out: [*train, "--out", str(out), *resumed(out, "recipe.yaml")], trained),
        Command("sample fp32", sample("fp32"), sampled),
        Command("sample bf16", sample("bf16"), sampled),
        Command(
            "data prepare",
            lambda out: ["data", "prepare", str(inputs / "cifs"), str(out), "--workers", "1", "--val-fraction", "0.2"],
            prepared,
        ),
        Command("eval run", lambda out: [*evaluate, "--out", str(out), "--", "--contact", "0"], evaluated),
        Command("finetune", lambda out: [*finetune, "--out", str(out), *resumed(out, "finetune.yaml")], finetuned),
    ]


def writers(inputs: Path) -> list[Command]:
    """Further commands that write files: what a disk that fills must not harm."""
    cifs, targets, samples = str(inputs / "cifs"), str(inputs / "targets.parquet"), str(inputs / "samples.jsonl")
    one = ["--workers", "1"]

    def report(*words: str) -> Callable[[Path], list[str]]:
        def arguments(out: Path) -> list[str]:
            out.mkdir(exist_ok=True)
            return ["eval", *words, *one, "--json", str(out / "report.json")]

        return arguments

    score = ["eval", "score", "validity", samples, "--targets", targets, "--data", str(inputs), *one]
    denovo = ["eval", "denovo", cifs, "--reference", targets, "--reference-rows", "2", *one]
    few = [str(inputs / "cifs" / f"{name}.cif") for name in ("NaCl", "MgO")]
    return [
        Command("data templates", lambda out: ["data", "templates", str(inputs / "prepared"), str(out)], listed),
        Command("eval validity", report("validity", cifs, "--fast"), listed),
        Command("eval readers", report("readers", cifs), listed),
        Command("eval roundtrip", report("roundtrip", targets), listed),
        Command("eval agreement", report("agreement", targets, "-n", "2", "--random-cells", "0"), listed),
        Command("eval select", lambda out: ["eval", "select", targets, "--split", "", "--out", str(out)], listed),
        Command("eval score", lambda out: [*score, "--no-prototypes", "--out", str(out)], listed),
        Command("eval denovo", lambda out: [*denovo, "--out", str(out)], listed),
        Command("relax", lambda out: ["relax", *few, "--out", str(out)], listed),
        Command(
            "model push", lambda out: ["model", "push", str(inputs / "model"), str(out), "--license", "mit"], listed
        ),
    ]


def listed(out: Path) -> dict[str, Any]:
    """The names of all files, and the content of tables and crystals: reports say when they were made."""
    same = {**digests(out, "*.parquet"), **digests(out, "*.cif")} if out.is_dir() else {"file": digest(out)}
    return {"files": sorted(str(path.relative_to(out)) for path in out.rglob("*")), **same}


def trained(out: Path) -> dict[str, Any]:
    """Every loss, and the weights of the models."""
    run = RunFolder(out)
    losses = [[line["kind"], line["step"], line["loss"]] for line in run.lines()]
    return {"losses": losses, **{name: digest(out / name / "model.safetensors") for name in ("best", "final")}}


def sampled(out: Path) -> dict[str, Any]:
    """Every draw by prompt and number, the ranking, and the files."""
    kept = ("target_id", "sample", "status", "text", "cif", "token_log_probabilities")
    draws = sorted(([record[name] for name in kept] for record in rows_of(out / "samples.jsonl")), key=str)
    ranking = sorted(rows_of(out / "crystals.jsonl"), key=lambda row: str(row["file"]))
    return {"draws": draws, "ranking": ranking, "files": digests(out, "*.cif")}


def prepared(out: Path) -> dict[str, Any]:
    """Every row, and what was refused."""
    tables = {path.stem: pq.read_table(path).to_pylist() for path in sorted(out.glob("*.parquet"))}
    return {**tables, "drops": (out / "drops.jsonl").read_text(), "leftovers": (out / "parts").exists()}


def evaluated(out: Path) -> dict[str, Any]:
    """The draws, and every metric made of them."""
    report = json.loads((out / "report.json").read_text())
    return sampled_draws(out / "seed0") | {"metrics": report["metrics"], "over_seeds": report["over_seeds"]}


def finetuned(out: Path) -> dict[str, Any]:
    """The losses and draws before and after, the curve of training, and the weights."""
    report = json.loads((out / "report.json").read_text())
    names = ("crystals", "steps", "best_step", "curve", "before", "after", "changes")
    weights = digest(out / "run" / "best" / "model.safetensors")
    return {**{name: report[name] for name in names}, "weights": weights}


def sampled_draws(out: Path) -> dict[str, Any]:
    """Every draw by prompt and number."""
    return {"draws": sorted([row["target_id"], row["sample"], row["text"]] for row in rows_of(out / "samples.jsonl"))}


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The records of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def digests(folder: Path, pattern: str) -> dict[str, str]:
    """SHA-256 of each file below a folder, by its path there."""
    return {str(path.relative_to(folder)): digest(path) for path in sorted(folder.rglob(pattern))}


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
