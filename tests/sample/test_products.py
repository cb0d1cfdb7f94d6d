"""Products with weights that are packed once."""

import pytest
import torch
from torch.nn import functional

from crystallm.sample.decoding import products
from crystallm.sample.decoding.products import Linear, product

DTYPES = [torch.float32, torch.bfloat16]


def numbers(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 3, 16, 33, 130])
def test_packed_or_not_it_is_the_product(dtype: torch.dtype, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    weight, bias, x = (numbers(*shape, seed=k).to(dtype) for k, shape in enumerate(((77, 48), (77,), (rows, 48))))
    expected = functional.linear(x.float(), weight.float(), bias.float())
    tolerance = (1e-6 if dtype is torch.float32 else 2**-8) * expected.abs().max()
    with torch.inference_mode():
        assert (product(weight, bias)(x).float() - expected).abs().max() < tolerance
        monkeypatch.setattr(products, "_can_pack", lambda dtype: False)
        plain = product(weight, bias)
        assert isinstance(plain, Linear)
        assert (plain(x).float() - expected).abs().max() < tolerance


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("outputs", "inputs"), [(1013, 256), (256, 688), (256, 1376)])
def test_a_row_does_not_hang_on_the_others(outputs: int, inputs: int, dtype: torch.dtype) -> None:
    multiply = product(numbers(outputs, inputs, seed=0).to(dtype))
    x = numbers(130, inputs, seed=1).to(dtype)
    with torch.inference_mode():
        alone = torch.cat([multiply(row[None].clone()) for row in x])
        for count in (2, 7, 16, 31, 32, 33, 64, 100, 130):
            assert torch.equal(multiply(x[:count].clone()), alone[:count]), count
            assert torch.equal(multiply(x[130 - count :]), alone[130 - count :]), count
