"""What a decoding step on a CPU does between its matrix products, compiled: norms, rotations, attention, gates.

Each of these is a handful of small operations of torch, which take longer to call than to run, and attention of rows
of different lengths has to copy their keys and values together first. Here each is one loop over the tokens that reads
things where they lie. A token's result depends on its own row alone, to the last bit.

Numbers are float32, or bfloat16 as its bits in uint16, by the precision of the products.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import FunctionType
from typing import Any
from zlib import crc32

import numpy as np
from llvmlite import ir
from numba import njit, types

from crystallm.base.compiling import IN_ANY_ORDER, compiled_in_any_order, compiled_into_callers
from crystallm.sample.decoding import vectors
from crystallm.sample.decoding.vectors import WORD, in_machine_code

inlined: Callable[..., Any] = njit(fastmath=IN_ANY_ORDER, error_model="numpy", inline="always")

BLOCK = 16
"""Slots whose keys lie side by side, so that a vector holds one number of each: the capacity is a multiple of it."""

AT_ONCE = 8
"""Values are added up over so many slots at once; a block is a multiple of it."""

LINE = 32
"""Numbers of bfloat16 in a line of the processor's cache (64 bytes)."""


@in_machine_code
def wide(context: Any, number: Any) -> Any:
    """The float32 of a number: it may be the bits of a bfloat16, the upper half of those of the float32."""

    def widen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(builder.shl(builder.zext(values[0], WORD), ir.Constant(WORD, 16)), ir.FloatType())

    if number == types.uint16:
        return types.float32(number), widen
    return types.float32(types.float32), lambda context, builder, signature, values: values[0]


@in_machine_code
def narrow(context: Any, number: Any, like: Any) -> Any:
    """A float32 as the numbers of the array `like` are: itself, or the bits of the nearest bfloat16, ties to even."""

    def round_off(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        bits = builder.bitcast(values[0], WORD)
        upper = builder.lshr(bits, ir.Constant(WORD, 16))
        half = builder.add(builder.and_(upper, ir.Constant(WORD, 1)), ir.Constant(WORD, 0x7FFF))
        return builder.trunc(builder.lshr(builder.add(bits, half), ir.Constant(WORD, 16)), ir.IntType(16))

    if like.dtype == types.uint16:
        return types.uint16(types.float32, like), round_off
    return types.float32(types.float32, like), lambda context, builder, signature, values: values[0]


@in_machine_code
def from_bits(context: Any, bits: Any) -> Any:
    """The float32 with these bits."""
    return types.float32(types.int32), lambda context, builder, signature, values: builder.bitcast(
        values[0], ir.FloatType()
    )


@in_machine_code
def fetch(context: Any, numbers: Any, place: Any) -> Any:
    """Let the processor begin to load what lies at a place of an array laid end to end; nothing else happens."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, values[0])
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        prefetch = builder.module.declare_intrinsic(
            "llvm.prefetch.p0", fnty=ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        )
        reading, locality, data = (ir.Constant(flag, value) for value in (0, 2, 1))
        address = builder.bitcast(builder.gep(array.data, [values[1]]), byte)
        builder.call(prefetch, [address, reading, locality, data])
        return context.get_dummy_value()

    return types.void(numbers, types.intp), generate


NEVER = np.float32(-1e30)
"""A score with weight zero."""

ONE, HALF, LOWEST, HIGHEST = np.float32(1), np.float32(0.5), np.float32(-126), np.float32(127)
LOG2_E = np.float32(1.4426950408889634)
# Powers of ln 2 over factorials: the series of 2**r to r**6, within 2e-7 of it for |r| <= 1/2.
C1, C2, C3 = np.float32(0.6931471805599453), np.float32(0.2402265069591007), np.float32(0.05550410866482158)
C4, C5, C6 = np.float32(0.009618129107628477), np.float32(0.001333355814642844), np.float32(0.0001540353039338161)


@inlined
def exp(x: Any) -> Any:
    """e**x in float32, in vectors: the standard library's is called for one number at a time."""
    y = x * LOG2_E
    y = LOWEST if y < LOWEST else y  # asked so that NaN stays NaN
    y = HIGHEST if y > HIGHEST else y
    whole = np.floor(y + HALF)
    r = y - whole
    power = ONE + r * (C1 + r * (C2 + r * (C3 + r * (C4 + r * (C5 + r * C6)))))
    return power * from_bits((np.int32(whole) + np.int32(127)) << np.int32(23))


@compiled_in_any_order
def add(h: Any, change: Any) -> None:
    """h += change, both (N, W)."""
    for n in range(h.shape[0]):
        for i in range(h.shape[1]):
            h[n, i] += wide(change[n, i])


@compiled_in_any_order
def rms_norm(h: Any, weight: Any, eps: Any, out: Any) -> None:
    """Root mean square norm (Zhang and Sennrich 2019) of h (N, W)."""
    width = h.shape[1]
    for n in range(h.shape[0]):
        total = np.float32(0)
        for i in range(width):
            total += h[n, i] * h[n, i]
        factor = ONE / np.sqrt(total / np.float32(width) + eps)
        for i in range(width):
            out[n, i] = narrow(h[n, i] * factor * weight[i], out)


@compiled_in_any_order
def layer_norm(h: Any, weight: Any, bias: Any, eps: Any, out: Any) -> None:
    """Layer norm (Ba et al. 2016) of h (N, W)."""
    width = h.shape[1]
    for n in range(h.shape[0]):
        mean = np.float32(0)
        for i in range(width):
            mean += h[n, i]
        mean /= np.float32(width)
        total = np.float32(0)
        for i in range(width):
            total += (h[n, i] - mean) * (h[n, i] - mean)
        factor = ONE / np.sqrt(total / np.float32(width) + eps)
        for i in range(width):
            out[n, i] = narrow((h[n, i] - mean) * factor * weight[i] + bias[i], out)


@compiled_in_any_order
def gate(gate_up: Any, out: Any) -> None:
    """silu(gate) * up, where gate_up is (N, 2 W) and out (N, W)."""
    width = out.shape[1]
    for n in range(out.shape[0]):
        for i in range(width):
            x = wide(gate_up[n, i])
            out[n, i] = narrow(x / (ONE + exp(-x)) * wide(gate_up[n, width + i]), out)


turn: Any = None
copy: Any = None
keep: Any = None
compare: Any = None
weigh: Any = None
collect: Any = None
score_block: Any = None
add_values: Any = None
"""Parts of attention, which `attention` puts under these names for each function that it makes for a shape: numba keeps
what it has compiled only if it finds other compiled functions under global names."""


@lru_cache
def attention(heads: int, kv_heads: int, width: int, rotated: bool) -> Callable[..., None]:
    """Attention compiled for H heads of width D that share G keys and values.

    With the shape known, loops over the numbers of a head become whole vectors. The parts are functions of their own
    because the compiler makes less of them in one; it puts them into it when they are optimised.
    """
    half, shared, n_kept = width // 2, heads // kv_heads, kv_heads * width
    scale = np.float32(width**-0.5)
    together = 2 if shared % 2 == 0 else 1
    names: dict[str, Any] = {
        **globals(),
        "score_block": vectors.score_block(together, width, BLOCK),
        "add_values": vectors.add_values(together, width, BLOCK, AT_ONCE),
    }

    def with_names(function: Callable[..., None]) -> FunctionType:
        return FunctionType(function.__code__, names, function.__name__, None, function.__closure__)

    def part(function: Callable[..., None]) -> None:
        names[function.__name__.removesuffix("_")] = compiled_into_callers(with_names(function))

    @part
    def turn_(numbers: Any, angles: Any, factor: Any, out: Any) -> None:
        """Rotary positions (Su et al. 2021): numbers of one token's heads (X, D), turned by the angles whose cosines
        and sines are (D,)."""
        for head in range(numbers.shape[0]):
            for i in range(half):
                a, b = wide(numbers[head, i]), wide(numbers[head, half + i])
                out[head, i] = (a * angles[i] - b * angles[half + i]) * factor
                out[head, half + i] = (b * angles[i] + a * angles[half + i]) * factor

    @part
    def copy_(numbers: Any, factor: Any, out: Any) -> None:
        """The same without rotation."""
        for head in range(numbers.shape[0]):
            for i in range(width):
                out[head, i] = wide(numbers[head, i]) * factor

    @part
    def keep_(key: Any, value: Any, place: Any, block: Any, out: Any) -> None:
        """Key and value of a token (G, D), at its place in a block of keys and among the values."""
        for head in range(kv_heads):
            for i in range(width):
                block[head, i, place] = narrow(key[head, i], block)
                out[head, i] = narrow(wide(value[head, i]), out)

    @part
    def compare_(query: Any, keys: Any, seen: Any, scores: Any) -> None:
        """Scores of the slots in all blocks that hold any of those seen."""
        for number in range((seen + BLOCK - 1) // BLOCK):
            for kept in range(kv_heads):
                for head in range(kept * shared, (kept + 1) * shared, together):
                    score_block(query, head, keys[number, kept], scores, number)

    @part
    def weigh_(scores: Any, seen: Any, shares: Any) -> None:
        """Weights of the slots seen, to be multiplied by the shares of the heads; the rest of the block gets none."""
        n_blocks = (seen + BLOCK - 1) // BLOCK
        in_last = seen - (n_blocks - 1) * BLOCK
        for head in range(heads):
            score = scores[head, n_blocks - 1]
            for s in range(BLOCK):
                score[s] = score[s] if s < in_last else NEVER
        for head in range(heads):
            # By blocks: loops of a known length are whole vectors, a loop over all slots mostly ends before it is one.
            highest = NEVER
            for number in range(n_blocks):
                score = scores[head, number]
                for s in range(BLOCK):
                    highest = max(highest, score[s])
            total = np.float32(0)
            for number in range(n_blocks):
                score = scores[head, number]
                for s in range(BLOCK):
                    weight = exp(score[s] - highest)
                    score[s] = weight
                    total += weight
            shares[head] = ONE / total

    @part
    def collect_(scores: Any, values: Any, seen: Any, out: Any) -> None:
        """The sum of the values of the slots seen by their weights, (H, D)."""
        out[:] = 0
        for first in range(0, seen, AT_ONCE):
            for kept in range(kv_heads):
                for head in range(kept * shared, (kept + 1) * shared, together):
                    add_values(scores, head, values, kept, first, out)

    def attend(
        qkv: Any,
        angles: Any,
        rows: Any,
        slots: Any,
        keys: Any,
        values: Any,
        out: Any,
        room: Any,
        shares: Any,
        scores: Any,
    ) -> None:
        """Keep keys and values of the tokens of a step, and let each token attend to its row up to itself.

        qkv: queries of all heads, keys, values, (N, H + 2 G, D). angles: cosines and sines for each slot, (S, D).
        rows, slots: of the tokens, (N,). keys (B, S / BLOCK, G, D, BLOCK), values (B, S, G, D): what is kept. out:
        (N, H, D). room (2, H, D), shares (H,), scores (H, S / BLOCK, BLOCK): to work in.
        """
        for n in range(len(rows)):
            row, slot = rows[n], slots[n]
            key, value = qkv[n, heads : heads + kv_heads], qkv[n, heads + kv_heads :]
            if rotated:
                turn(key, angles[slot], ONE, room[0])
            else:
                copy(key, ONE, room[0])
            keep(room[0], value, slot % BLOCK, keys[row, slot // BLOCK], values[row, slot])
        for n in range(len(rows)):
            row, slot = rows[n], slots[n]
            if rotated:
                turn(qkv[n, :heads], angles[slot], scale, room[0])
            else:
                copy(qkv[n, :heads], scale, room[0])
            for ahead in range(0, (slot + 1) * n_kept, LINE):
                fetch(values[row], ahead)
            compare(room[0], keys[row], slot + 1, scores)
            weigh(scores, slot + 1, shares)
            if n + 1 < len(rows):
                for ahead in range(0, (slots[n + 1] + 1) * n_kept, LINE):
                    fetch(keys[rows[n + 1]], ahead)
            collect(scores, values[row], slot + 1, room[1])
            for head in range(heads):
                for i in range(width):
                    out[n, head, i] = narrow(room[1, head, i] * shares[head], out)

    made = with_names(attend)
    # Under a name of its own for each state of the other file, which numba does not look at when it loads what it kept.
    made.__qualname__ += f"_{crc32(Path(vectors.__file__).read_bytes()):08x}"
    return compiled_in_any_order(made)
