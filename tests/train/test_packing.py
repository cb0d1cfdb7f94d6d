"""Packed rows: no crystal sees another, and what a model learns from a text does not depend on how it is laid out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from crystallm.base.errors import ConfigError
from crystallm.model.architecture import ModelConfig, build_model
from crystallm.train.config import TrainConfig
from crystallm.train.optim.losses import logits, summed_cross_entropy
from crystallm.train.texts.batches import IGNORED, Ints, pad, share
from crystallm.train.texts.packing import attention_of, pack, plan_packed, settle

RNG = np.random.default_rng(0)
TEXTS = [RNG.integers(1, 20, size=length) for length in (7, 12, 3, 9)]
SHAPES = {
    "llama": ModelConfig(layers=2, hidden=32, heads=4, kv_heads=2, ffn=48, context=16),
    "gpt2": ModelConfig(model_type="gpt2", layers=2, hidden=32, heads=4, ffn=48, context=16),
}


def build(kind: str, attention: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return build_model(SHAPES[kind], vocab_size=20, bos=1, eos=2, pad=0, attention=attention)


def tensors(arrays: tuple[Ints, ...]) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in arrays]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_loss_and_gradients_are_those_of_buckets(kind: str, attention: str) -> None:
    """In float32, with padding in both; the row is longer than the context of either model."""
    model = build(kind, attention)
    losses, gradients = [], []
    packed = tensors(pack(TEXTS, budget=40, pad_id=0))
    bucket = tensors(pad(TEXTS, wide=16, budget=80, longest=16, pad_id=0))
    for ids_BT, labels_BT, *positions in (packed, bucket):
        model.zero_grad()
        loss = summed_cross_entropy(logits(model, ids_BT, *positions), labels_BT)
        loss.backward()
        losses.append(loss.detach())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-6, atol=0)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_text_never_changes_the_logits_of_another(kind: str) -> None:
    model = build(kind, "sdpa").eval()
    ids_BT, _, positions_BT = tensors(pack(TEXTS, budget=40, pad_id=0))
    starts = np.cumsum([0, *map(len, TEXTS)])
    before = logits(model, ids_BT, positions_BT)[0]
    for i, text in enumerate(TEXTS):
        mine = slice(int(starts[i]), int(starts[i]) + len(text))
        changed = ids_BT.clone()
        changed[0, mine] = changed[0, mine] % 19 + 1
        after = logits(model, changed, positions_BT)[0]
        others = torch.ones(ids_BT.shape[1], dtype=torch.bool)
        others[mine] = False
        assert torch.equal(before[others], after[others])
        assert not torch.isclose(before[mine], after[mine]).all(-1).any()


def test_a_row_by_hand() -> None:
    ids, labels, positions = pack([np.array([1, 5, 2]), np.array([1, 2])], budget=7, pad_id=0)
    assert ids.tolist() == [[1, 5, 2, 1, 2, 0, 0]]
    assert labels.tolist() == [[IGNORED, 5, 2, IGNORED, 2, IGNORED, IGNORED]]
    assert positions.tolist() == [[0, 1, 2, 0, 1, 0, 0]]
    assert pack([np.ones(130, dtype=np.int64)], budget=129, pad_id=0)[0].shape == (1, 256), "drawn longer than planned"


def test_rows_hold_every_text_once_within_the_budget() -> None:
    lengths = RNG.integers(10, 200, size=3000)
    steps = plan_packed(lengths, seed=3, epoch=1, batch_tokens=8000, accumulate=4)
    rows = [row for step in steps for row in step]
    sizes = np.array([lengths[row].sum() for row in rows])
    assert sorted(np.concatenate(rows)) == list(range(3000))
    assert sizes.max() <= 2000
    assert sizes[:-1].mean() > 0.95 * 2000, "little is padding"
    halves = [[lengths[share(row, process=i, processes=2)].sum() for i in (0, 1)] for row in rows]
    assert max(abs(first - second) for first, second in halves) < 200, "two processes share a row to within a text"
    again = plan_packed(lengths, seed=3, epoch=1, batch_tokens=8000, accumulate=4)
    assert [row.tolist() for step in again for row in step] == [row.tolist() for row in rows]


CONFIG = TrainConfig(max_steps=1, model=ModelConfig(context=64))


def test_a_cpu_takes_buckets_and_a_gpu_packs() -> None:
    assert settle(CONFIG, on_cpu=True).packing == "buckets"
    assert settle(CONFIG, on_cpu=False).packing == "packed"
    assert attention_of(settle(CONFIG, on_cpu=False), on_cpu=False) in ("flash", "flex")
    assert settle(replace(CONFIG, attention="sdpa"), on_cpu=False).packing == "buckets"
    assert attention_of(replace(CONFIG, packing="packed"), on_cpu=True) == "sdpa"


def test_a_packed_run_learns(arguments: Any, train_here: Any, metrics: Any, tmp_path: Path) -> None:
    """The whole command, in few rows of 256 tokens; resumed, it stays packed."""
    fields = {"packing": "packed", "model__dropout": 0, "eval_every": 1000}
    assert train_here(arguments(tmp_path / "run", **fields, max_steps=16)) == 0
    assert train_here(arguments(tmp_path / "run", "--resume", **fields)) == 0
    losses = [loss for _, loss, _ in metrics(tmp_path / "run", "train")]
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])
    assert train_here(arguments(tmp_path / "run", "--resume", **fields | {"packing": "buckets"})) == 2


@pytest.mark.parametrize(
    ("changes", "on_cpu", "said"),
    [
        ({"attention": "flash"}, True, "needs a GPU"),
        ({"attention": "flex"}, True, "no backward pass"),
        ({"attention": "flex", "model": replace(CONFIG.model, model_type="gpt2")}, False, "gpt2 has none"),
        ({"attention": "flex", "model": replace(CONFIG.model, dropout=0.1)}, False, "model.dropout=0.1"),
    ],
)
def test_an_attention_that_cannot(changes: dict[str, object], on_cpu: bool, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settle(replace(CONFIG, **changes), on_cpu=on_cpu)
