"""Models have the shape the recipe says."""

import pytest
import torch

from crystallm.base.errors import ConfigError
from crystallm.model.architecture import ModelConfig, build_model, count_parameters

SHAPE = {"layers": 2, "hidden": 16, "heads": 4, "ffn": 24, "context": 32}


def build(**fields: object) -> torch.nn.Module:
    return build_model(ModelConfig(**SHAPE | fields), vocab_size=50, bos=2, eos=3, pad=0)


def test_llama_parameters() -> None:
    """By hand: embedding 50x16, shared with the output; a layer has four 16x16 matrices, three 16x24, two norms."""
    assert count_parameters(build()) == 50 * 16 + 2 * (4 * 16 * 16 + 3 * 16 * 24 + 2 * 16) + 16


def test_fewer_key_and_value_heads() -> None:
    """With one instead of four, keys and values are 16x4 matrices."""
    assert count_parameters(build()) - count_parameters(build(kv_heads=1)) == 2 * 2 * 16 * 12


def test_gpt2_parameters() -> None:
    layer = (16 * 48 + 48) + (16 * 16 + 16) + (16 * 24 + 24) + (24 * 16 + 16) + 2 * 2 * 16
    assert count_parameters(build(model_type="gpt2")) == 50 * 16 + 32 * 16 + 2 * layer + 2 * 16


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_a_token_does_not_see_the_next(model_type: str) -> None:
    model = build(model_type=model_type).eval()
    one, two = torch.tensor([[2, 7, 8, 9]]), torch.tensor([[2, 7, 8, 30]])
    with torch.no_grad():
        logits_one, logits_two = model(one).logits, model(two).logits
    assert logits_one.shape == (1, 4, 50)
    torch.testing.assert_close(logits_one[:, :3], logits_two[:, :3])
    assert not torch.allclose(logits_one[:, 3], logits_two[:, 3])


def test_weights_follow_from_the_seed() -> None:
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        models.append(build().state_dict()["model.embed_tokens.weight"])
    assert torch.equal(models[0], models[1])
    assert not torch.equal(models[0], models[2])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": 0}, "model.layers must be at least 1, got 0"),
        ({"hidden": 18}, "model.hidden=18 must be a multiple of model.heads=4"),
        ({"hidden": 12}, "model.hidden / model.heads must be even, got 3"),
        ({"kv_heads": 3}, "model.kv_heads=3 must divide model.heads=4"),
        ({"model_type": "gpt2", "kv_heads": 2}, "model.kv_heads is for model_type llama"),
        ({"dropout": 1.0}, r"model.dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_shapes_that_cannot_be(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**SHAPE | fields)
