"""Tiny untrained models: the constraint must hold whatever the model says."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from crystallm.crystal.description import Description, Site
from crystallm.model.architecture import ModelConfig, build_model
from crystallm.model.checkpoint import save_checkpoint
from crystallm.sample.generator import Generator
from crystallm.sample.grammar.wyckoff_grammar import WyckoffGrammar
from crystallm.tokenizer import build_tokenizer
from crystallm.tokenizer.layout import get_layout

SHAPES = {
    "llama": ModelConfig(model_type="llama", layers=2, hidden=32, heads=4, kv_heads=2, ffn=64, context=512),
    "gpt2": ModelConfig(model_type="gpt2", layers=2, hidden=32, heads=4, ffn=64, context=512),
}


def write_checkpoint(folder: Path, shape: ModelConfig, *, seed: int = 0) -> Path:
    tokenizer = build_tokenizer(get_layout())
    torch.manual_seed(seed)
    model = build_model(
        shape,
        vocab_size=len(tokenizer),
        bos=tokenizer.bos_token_id,
        eos=tokenizer.eos_token_id,
        pad=tokenizer.pad_token_id,
    )
    with torch.no_grad():  # sharper than at birth, so that scores of different tokens differ
        for parameter in model.parameters():
            parameter.mul_(4.0 if parameter.dim() > 1 else 1.0)
    save_checkpoint(folder, model, tokenizer, layout_name="wyckoff", descriptions="canonical", provenance={}, card="")
    return folder


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {name: write_checkpoint(root / name, shape) for name, shape in SHAPES.items()}


@pytest.fixture(scope="session")
def generators(checkpoints: dict[str, Path]) -> dict[str, Generator]:
    return {name: Generator.from_pretrained(path, device="cpu", precision="fp32") for name, path in checkpoints.items()}


@pytest.fixture(scope="session")
def generator(generators: dict[str, Generator]) -> Generator:
    return generators["llama"]


@pytest.fixture(scope="session")
def rutile() -> Description:
    sites = (Site("Ti", "a", ()), Site("O", "f", (0.3053,)))
    return Description((("Ti", 1), ("O", 2)), 2, 136, (4.5937, 4.5937, 2.9587, 90.0, 90.0, 90.0), sites)


@pytest.fixture(scope="session")
def anatase() -> Description:
    sites = (Site("Ti", "a", ()), Site("O", "e", (0.2081,)))
    return Description((("Ti", 1), ("O", 2)), 2, 141, (3.7842, 3.7842, 9.5146, 90.0, 90.0, 90.0), sites)


@pytest.fixture(scope="session")
def grammar() -> WyckoffGrammar:
    return WyckoffGrammar(get_layout())


@pytest.fixture
def cli(checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs `crystallm sample` with the tiny model; returns what it prints, stderr after stdout."""
    from crystallm.cli import main

    def run(*arguments: str, exit_code: int = 0, model: Path | None = None) -> str:
        try:
            # An untrained model puts atoms anywhere: with its radii respected most draws would be given up.
            contact = [] if "--contact" in arguments else ["--contact", "0"]
            # Relaxing what it draws would take most of the time; the tests that want it say so.
            energies = [] if {"--energies", "--edition"} & {*arguments} else ["--no-energies"]
            chosen = [] if "--edition" in arguments else ["--model", str(model or checkpoints["llama"])]
            code = main(["sample", *arguments, *contact, *energies, *chosen])
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        assert code == exit_code, printed.err
        return printed.out + printed.err

    return run
