"""The compiled loops of a decoding step against torch."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numba import njit
from torch.nn import functional

from crystallm.sample.decoding.compiled import kernels
from crystallm.sample.decoding.compiled.compiled_decoder import numbers

DTYPES = [torch.float32, torch.bfloat16]


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@njit
def exponentials(x: Any, out: Any) -> None:
    for i in range(len(x)):
        out[i] = kernels.exp(x[i])


def test_exp() -> None:
    x = np.concatenate([np.linspace(-87, 88, 20001), [0.0, -1e-8]]).astype(np.float32)
    out = np.empty_like(x)
    exponentials(x, out)
    np.testing.assert_allclose(out, np.exp(x.astype(np.float64)), rtol=1e-5)
    out = np.empty(4, np.float32)
    exponentials(np.array([-1e30, -200, 1e30, math.nan], np.float32), out)
    assert out[0] < 1e-37
    assert out[1] < 1e-37
    assert out[2] > 1e38
    assert np.isnan(out[3])


def test_bfloat16_is_rounded_as_torch_rounds() -> None:
    """Ties go to the even neighbour, and what has no neighbour stays what it is."""
    x = torch.cat([random(5000) * 1e3, torch.tensor([1.00390625, 1.01171875, 0.0, -0.0, math.inf, -math.inf])])
    out = torch.empty(len(x), dtype=torch.bfloat16)
    ones = np.ones(1, np.float32)
    h = x[:, None].numpy().copy()

    @njit
    def store(h: Any, out: Any) -> None:
        for n in range(len(h)):
            out[n] = kernels.narrow(h[n, 0] * ones[0], out)

    store(h, numbers(out))
    assert torch.equal(out, x.bfloat16())


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms(dtype: torch.dtype) -> None:
    h, weight, bias = random(5, 48), random(48, seed=1), random(48, seed=2)
    out = torch.empty((5, 48), dtype=dtype)
    close = {"atol": 1e-6, "rtol": 1e-5} if dtype is torch.float32 else {"atol": 1e-6, "rtol": 2**-7}
    kernels.rms_norm(h.numpy(), weight.numpy(), np.float32(1e-6), numbers(out))
    torch.testing.assert_close(out.float(), functional.rms_norm(h, (48,), weight, 1e-6), **close)
    kernels.layer_norm(h.numpy(), weight.numpy(), bias.numpy(), np.float32(1e-5), numbers(out))
    torch.testing.assert_close(out.float(), functional.layer_norm(h, (48,), weight, bias, 1e-5), **close)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gate_and_sum(dtype: torch.dtype) -> None:
    gate_up, h = random(3, 38, dtype=dtype) * 5, random(3, 38)
    out = torch.empty((3, 19), dtype=dtype)
    kernels.gate(numbers(gate_up), numbers(out))
    gate, up = gate_up.float().chunk(2, dim=-1)
    torch.testing.assert_close(out.float(), functional.silu(gate) * up, atol=1e-6, rtol=2**-7)
    expected = h + gate_up.float()
    kernels.add(h.numpy(), numbers(gate_up))
    assert torch.equal(h, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "kv_heads", "width"), [(4, 2, 32), (3, 3, 10)])
@pytest.mark.parametrize("length", [1, 8, 15, 16, 17, 40])
def test_attention(dtype: torch.dtype, heads: int, kv_heads: int, width: int, length: int) -> None:
    """One token after the other of a row, without rotation, against that of torch."""
    qkv = random(length, heads + 2 * kv_heads, width, dtype=dtype)
    blocks = 3
    keys = torch.full((1, blocks, kv_heads, width, kernels.BLOCK), 3.0, dtype=dtype)  # of an earlier text
    values = torch.full((1, blocks * kernels.BLOCK, kv_heads, width), 3.0, dtype=dtype)
    out = torch.empty((length, heads, width), dtype=dtype)
    attend = kernels.attention(heads, kv_heads, width, False)
    room = (np.empty((2, heads, width), np.float32), np.empty(heads, np.float32))
    scores = np.empty((heads, blocks, kernels.BLOCK), np.float32)
    for n in range(length):
        where = (np.zeros((1, 0), np.float32), np.zeros(1, np.int64), np.array([n]))
        arrays = (numbers(tensor) for tensor in (keys, values, out[n : n + 1]))
        attend(numbers(qkv[n : n + 1]), *where, *arrays, *room, scores)
    query, key, value = qkv.float().transpose(0, 1).split([heads, kv_heads, kv_heads])
    expected = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    close = {"atol": 1e-5, "rtol": 1e-5} if dtype is torch.float32 else {"atol": 1e-3, "rtol": 2**-7}
    torch.testing.assert_close(out.float(), expected.transpose(0, 1), **close)


def bits_of_attention(dtype: type) -> str:
    """The last bits of attention over many rows, and of what it works in; run in a process of its own."""
    rng = np.random.default_rng(0)

    def numbers_of(*shape: int) -> Any:
        made = rng.normal(size=shape).astype(np.float32)
        return made if dtype is np.float32 else (made.view(np.uint32) >> 16).astype(dtype)

    rows, slots = np.arange(40) % 32, rng.integers(0, 64, size=40)
    angles = rng.normal(size=(64, 32)).astype(np.float32)
    work = np.zeros((2, 8, 32), np.float32), np.zeros(8, np.float32), np.zeros((8, 4, 16), np.float32)
    out = numbers_of(40, 8, 32)
    kept = numbers_of(32, 4, 4, 32, 16), numbers_of(32, 64, 4, 32)
    kernels.attention(8, 4, 32, True)(numbers_of(40, 16, 32), angles, rows, slots, *kept, out, *work)
    return " ".join(one.tobytes().hex() for one in (out, *work, *kept))


def test_a_run_that_compiles_has_the_same_last_bits_as_those_after_it(tmp_path: Path) -> None:
    """And attention is kept for them: its parts are compiled into it, so that there is only one of each."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    script = (
        f"import numpy, runpy; bits = runpy.run_path({__file__!r})['bits_of_attention'];"
        "print(bits(numpy.float32), bits(numpy.uint16))"
    )
    first, second = (subprocess.check_output([sys.executable, "-c", script], env=environment) for _ in range(2))
    assert len(list(tmp_path.rglob("*.attend-*.nbc"))) == 2
    assert first == second


def test_attention_is_compiled_from_one_file() -> None:
    """numba keeps what it compiled until that file changes, and looks at no other: parts elsewhere would stay old."""
    attend = kernels.attention(4, 2, 32, True).py_func  # type: ignore[attr-defined]
    used = [getattr(kernels, name) for name in attend.__code__.co_names if hasattr(kernels, name)]
    parts = [getattr(one, "py_func", one) for one in used if callable(one)]
    assert {"turn", "keep", "weigh", "narrow", "score_block", "add_values"} <= {part.__name__ for part in parts}
    assert {part.__module__ for part in parts} == {kernels.__name__}
    assert {type(cell.cell_contents) for cell in attend.__closure__} <= {int, bool, np.float32}
