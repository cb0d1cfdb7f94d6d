"""Published checkpoints become ours: the same logits, the same tokens, and nothing that is not a checkpoint."""

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from crystallm import cli
from crystallm.base.errors import CheckpointError
from crystallm.model.checkpoint import load_checkpoint
from crystallm.model.import_published import read_published
from crystallm.tokenizer.published_texts import CRYSTALLM, CRYSTALLM_PI

LAYERS, HEADS, HIDDEN, CONTEXT = 2, 3, 24, 64

State = dict[str, Tensor]


def random_state(*, bias: bool, size: int = 371, seed: int = 0) -> State:
    """Weights of a nanoGPT of random numbers, matrices as (out, in)."""
    torch.manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (size, HIDDEN), "wpe.weight": (CONTEXT, HIDDEN)}
    for layer in range(LAYERS):
        for name, (n_out, n_in) in {
            "attn.c_attn": (3 * HIDDEN, HIDDEN),
            "attn.c_proj": (HIDDEN, HIDDEN),
            "mlp.c_fc": (4 * HIDDEN, HIDDEN),
            "mlp.c_proj": (HIDDEN, 4 * HIDDEN),
        }.items():
            shapes |= {f"h.{layer}.{name}.weight": (n_out, n_in)} | (
                {f"h.{layer}.{name}.bias": (n_out,)} if bias else {}
            )
        for name in ("ln_1", "ln_2"):
            shapes |= {f"h.{layer}.{name}.weight": (HIDDEN,)} | ({f"h.{layer}.{name}.bias": (HIDDEN,)} if bias else {})
    shapes |= {"ln_f.weight": (HIDDEN,)} | ({"ln_f.bias": (HIDDEN,)} if bias else {})
    state = {f"transformer.{name}": torch.randn(shape) * 0.3 for name, shape in shapes.items()}
    state["lm_head.weight"] = state["transformer.wte.weight"]
    return state


def original_logits(state: State, ids_T: Tensor) -> Tensor:
    """The forward pass of nanoGPT written out for one text: pre-norm blocks, causal attention, tanh-GELU MLP."""

    def norm(x: Tensor, name: str) -> Tensor:
        x = (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, unbiased=False, keepdim=True) + 1e-5)
        return x * state[f"{name}.weight"] + state.get(f"{name}.bias", torch.zeros(()))

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", torch.zeros(()))

    x = state["transformer.wte.weight"][ids_T] + state["transformer.wpe.weight"][: len(ids_T)]
    hidden = torch.ones(len(ids_T), len(ids_T)).triu(1).bool()
    for layer in range(LAYERS):
        name = f"transformer.h.{layer}"
        q, k, v = linear(norm(x, f"{name}.ln_1"), f"{name}.attn.c_attn").split(HIDDEN, dim=-1)
        width = HIDDEN // HEADS
        heads = []
        for head in range(HEADS):
            part = slice(head * width, (head + 1) * width)
            weights = (q[:, part] @ k[:, part].T / math.sqrt(width)).masked_fill(hidden, -math.inf).softmax(-1)
            heads.append(weights @ v[:, part])
        x = x + linear(torch.cat(heads, dim=-1), f"{name}.attn.c_proj")
        h = linear(norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc")
        h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
        x = x + linear(h, f"{name}.mlp.c_proj")
    return norm(x, "transformer.ln_f") @ state["lm_head.weight"].T


def arguments(**changes: Any) -> dict[str, Any]:
    shape = {"n_layer": LAYERS, "n_head": HEADS, "n_embd": HIDDEN, "block_size": CONTEXT, "vocab_size": 371}
    return shape | {"bias": False, "dropout": 0.1} | changes


def write_ckpt(path: Path, state: State, *, prefix: str = "", **changes: Any) -> Path:
    model = {prefix + name: value for name, value in state.items()}
    content = {"model": model, "model_args": arguments(**changes), "iter_num": 3, "best_val_loss": torch.tensor(0.2)}
    torch.save(content | {"config": {"dataset": "x", "learning_rate": 1e-3}, "optimizer": {"state": {}}}, path)
    return path


def write_folder(folder: Path, state: State, size: int, **changes: Any) -> Path:
    """As `transformers` writes a GPT-2: matrices as (in, out), no copy of the shared embedding."""
    folder.mkdir()
    matrices = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    weights = {n: v.T.contiguous() if n.endswith(matrices) else v for n, v in state.items() if n != "lm_head.weight"}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": size, "n_layer": LAYERS}
    config |= {"n_head": HEADS, "n_embd": HIDDEN, "n_positions": CONTEXT, "activation_function": "gelu_new"}
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


@pytest.mark.parametrize(("bias", "prefix"), [(False, "_orig_mod."), (True, "")])
def test_logits_are_those_of_the_original(bias: bool, prefix: str, tmp_path: Path) -> None:
    state = random_state(bias=bias)
    # Without flash attention the causal mask is stored as a buffer.
    masks = {"transformer.h.0.attn.bias": torch.ones(1, 1, CONTEXT, CONTEXT)} if not bias else {}
    path = write_ckpt(tmp_path / "ckpt.pt", state | masks, prefix=prefix, bias=bias)
    assert cli.main(["model", "import", str(path), str(tmp_path / "out")]) == 0
    checkpoint = load_checkpoint(tmp_path / "out")
    assert (checkpoint.layout_name, checkpoint.descriptions) == ("crystallm", "canonical")
    assert checkpoint.tokenizer.get_vocab() == {token: n for n, token in enumerate(CRYSTALLM.vocabulary())}
    assert checkpoint.model.config.max_position_embeddings == CONTEXT == checkpoint.tokenizer.model_max_length
    ids_T = torch.randint(371, (50,), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        logits = checkpoint.model(input_ids=ids_T[None]).logits[0]
    torch.testing.assert_close(logits, original_logits(state, ids_T), rtol=1e-4, atol=1e-4)
    assert list(checkpoint.provenance["inputs"]) == ["ckpt.pt"]


@pytest.mark.parametrize("extra", [0, 1, 2])
def test_folder_of_the_second_project(extra: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = random_state(bias=True, size=376 + extra)
    folder = write_folder(tmp_path / "pi", state, 376 + extra)
    tokens = [*CRYSTALLM_PI.vocabulary(), *("<prop>", "P6_sg")[:extra]]
    (folder / "vocabulary.json").write_text(json.dumps({token: n for n, token in enumerate(tokens)}))
    assert cli.main(["model", "import", str(folder), str(tmp_path / "out")]) == 0
    assert "layout: crystallm-pi" in capsys.readouterr().out
    checkpoint = load_checkpoint(tmp_path / "out")
    ids_T = torch.randint(376, (40,), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        logits = checkpoint.model(input_ids=ids_T[None]).logits[0]
    torch.testing.assert_close(logits, original_logits(state, ids_T)[:, :376], rtol=1e-4, atol=1e-4)


def test_a_folder_that_holds_the_file(tmp_path: Path) -> None:
    write_ckpt(tmp_path / "ckpt.pt", random_state(bias=False))
    assert read_published(tmp_path).context == CONTEXT


class Hostile:
    """Runs code when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.target,)


def code_in_a_pickle(folder: Path) -> Path:
    torch.save({"model": Hostile(folder / "touched"), "model_args": arguments()}, folder / "ckpt.pt")
    return folder / "ckpt.pt"


def another_pickle(folder: Path) -> Path:
    (folder / "ckpt.pt").write_bytes(pickle.dumps([1, 2, 3]))
    return folder / "ckpt.pt"


def no_pickle(folder: Path) -> Path:
    (folder / "ckpt.pt").write_text("a web page that says: not found")
    return folder / "ckpt.pt"


def empty(folder: Path) -> Path:
    (folder / "ckpt.pt").write_bytes(b"")
    return folder / "ckpt.pt"


def tensors_only(folder: Path) -> Path:
    torch.save(random_state(bias=False), folder / "ckpt.pt")
    return folder / "ckpt.pt"


def no_shape(folder: Path) -> Path:
    return write_ckpt(folder / "ckpt.pt", random_state(bias=False), n_layer="two")


def another_vocabulary(folder: Path) -> Path:
    return write_ckpt(folder / "ckpt.pt", random_state(bias=False, size=50304), vocab_size=50304)


def missing_weight(folder: Path) -> Path:
    state = random_state(bias=False)
    del state["transformer.h.1.mlp.c_fc.weight"]
    return write_ckpt(folder / "ckpt.pt", state)


def another_width(folder: Path) -> Path:
    return write_ckpt(folder / "ckpt.pt", random_state(bias=False), block_size=32)


def lost_bias(folder: Path) -> Path:
    state = random_state(bias=True)
    del state["transformer.ln_f.bias"]
    return write_ckpt(folder / "ckpt.pt", state, bias=True)


def odd_heads(folder: Path) -> Path:
    return write_ckpt(folder / "ckpt.pt", random_state(bias=False), n_head=5)


def not_finite(folder: Path) -> Path:
    state = random_state(bias=False)
    state["transformer.ln_f.weight"][3] = math.nan
    return write_ckpt(folder / "ckpt.pt", state)


def conditional(folder: Path) -> Path:
    return write_folder(folder / "pi", random_state(bias=True, size=377), 377, architectures=["PKVGPT"])


def conditional_in_disguise(folder: Path) -> Path:
    state = random_state(bias=True, size=377) | {"transformer.h.0.attn.prefix.weight": torch.ones(3)}
    return write_folder(folder / "pi", state, 377)


def another_activation(folder: Path) -> Path:
    return write_folder(folder / "pi", random_state(bias=True, size=376), 376, activation_function="relu")


def folder_of_another_vocabulary(folder: Path) -> Path:
    return write_folder(folder / "pi", random_state(bias=True, size=500), 500)


def folder_with_other_tokens(folder: Path) -> Path:
    write_folder(folder / "pi", random_state(bias=True, size=376), 376)
    tokens = {token: n for n, token in enumerate([*CRYSTALLM_PI.vocabulary()[1:], "Si"])}
    (folder / "pi" / "vocabulary.json").write_text(json.dumps(tokens))
    return folder / "pi"


def folder_of_something_else(folder: Path) -> Path:
    (folder / "pi").mkdir()
    return folder / "pi"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nowhere.pt", "there is no"),
        (code_in_a_pickle, "cannot be read safely"),
        (another_pickle, "is no checkpoint"),
        (no_pickle, "is no checkpoint"),
        (empty, "is no checkpoint"),
        (tensors_only, "no `model` and `model_args`"),
        (no_shape, "n_layer"),
        (another_vocabulary, "vocabulary of 50304 tokens"),
        (missing_weight, "transformer.h.1.mlp.c_fc.weight is missing"),
        (another_width, "transformer.wpe.weight is missing, unknown or of another shape"),
        (lost_bias, "transformer.ln_f.bias is missing"),
        (odd_heads, "5 heads, width 24"),
        (not_finite, "not finite"),
        (conditional, "PKVGPT"),
        (conditional_in_disguise, "transformer.h.0.attn.prefix.weight"),
        (another_activation, "activation_function is 'relu'"),
        (folder_of_another_vocabulary, "vocabulary of 500 tokens"),
        (folder_with_other_tokens, "another vocabulary"),
        (folder_of_something_else, "no ckpt.pt and no config.json"),
    ],
)
def test_what_is_no_checkpoint_is_refused(
    make: Callable[[Path], Path], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path)
    assert cli.main(["model", "import", str(path), str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "touched").exists()  # no code was run


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_ckpt(tmp_path / "ckpt.pt", random_state(bias=False))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("all of it")
    assert cli.main(["model", "import", str(path), str(tmp_path / "out")]) == 2
    assert "not empty" in capsys.readouterr().err
    assert (tmp_path / "out" / "thesis.tex").read_text() == "all of it"


def test_an_output_of_its_own_is_refused(tmp_path: Path) -> None:
    state = random_state(bias=False)
    state["lm_head.weight"] = state["lm_head.weight"] + 1
    path = write_ckpt(tmp_path / "ckpt.pt", state)
    from crystallm.model.import_published import build

    with pytest.raises(CheckpointError, match="output of its own"):
        build(read_published(path))
