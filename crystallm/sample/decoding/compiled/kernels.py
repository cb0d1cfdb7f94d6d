"""What a decoding step on a CPU does between its matrix products, compiled: norms, rotations, attention, gates.

Each of these is a handful of small operations of torch, which take longer to call than to run, and attention of rows
of different lengths has to copy their keys and values together first. Here each is one loop over the tokens that reads
things where they lie. A token's result depends on its own row alone, to the last bit.

Numbers are float32, or bfloat16 as its bits in uint16, by the precision of the products. docs/decoding.md explains the
layout of keys and values, what the two vector operations do, and how to measure a change.

All that `attention` is compiled from stands in this file: numba keeps what it has compiled until the file changes in
which the function stands, and looks at no other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

from crystallm.base.compiling import IN_ANY_ORDER, compiled_in_any_order, compiled_into_callers

chosen_by_type: Callable[..., Callable[..., Any]] = overload
inlined: Callable[..., Any] = njit(fastmath=IN_ANY_ORDER, error_model="numpy", inline="always")

BLOCK = 16
"""Slots whose keys lie side by side, so that a vector holds one number of each: the capacity is a multiple of it."""

AT_ONCE = 8
"""Values are added up over so many slots at once; a block is a multiple of it."""

NEVER = np.float32(-1e30)
"""A score with weight zero."""

ONE, HALF, LOWEST, HIGHEST = np.float32(1), np.float32(0.5), np.float32(-126), np.float32(127)
LOG2_E = np.float32(1.4426950408889634)
# Powers of ln 2 over factorials: the series of 2**r to r**6, within 2e-7 of it for |r| <= 1/2.
C1, C2, C3 = np.float32(0.6931471805599453), np.float32(0.2402265069591007), np.float32(0.05550410866482158)
C4, C5, C6 = np.float32(0.009618129107628477), np.float32(0.001333355814642844), np.float32(0.0001540353039338161)

HALF_A_WORD, BELOW_HALF = np.uint32(16), np.uint32(0x7FFF)
BIAS, MANTISSA = np.int32(127), np.int32(23)
"""Of float32: what the exponent is stored with, and the bits below it."""


def wide(number: Any) -> Any:
    """The float32 of a number: it may be the bits of a bfloat16, the upper half of those of the float32."""
    raise NotImplementedError("for compiled functions only")


@chosen_by_type(wide, inline="always")
def _wide(number: Any) -> Any:
    def widened(number: Any) -> Any:
        return np.uint32(np.uint32(number) << HALF_A_WORD).view(np.float32)

    def same(number: Any) -> Any:
        return number

    return widened if number == types.uint16 else same


def narrow(number: Any, like: Any) -> Any:
    """A float32 as the numbers of the array `like` are: itself, or the bits of the nearest bfloat16, ties to even."""
    raise NotImplementedError("for compiled functions only")


@chosen_by_type(narrow, inline="always")
def _narrow(number: Any, like: Any) -> Any:
    def rounded(number: Any, like: Any) -> Any:
        bits = np.float32(number).view(np.uint32)
        odd = (bits >> HALF_A_WORD) & np.uint32(1)
        return np.uint16(np.uint32(bits + BELOW_HALF + odd) >> HALF_A_WORD)

    def same(number: Any, like: Any) -> Any:
        return number

    return rounded if like.dtype == types.uint16 else same


@inlined
def exp(x: Any) -> Any:
    """e**x in float32, in vectors: the standard library's is called for one number at a time."""
    y = x * LOG2_E
    y = LOWEST if y < LOWEST else y  # asked so that NaN stays NaN
    y = HIGHEST if y > HIGHEST else y
    whole = np.floor(y + HALF)
    r = y - whole
    power = ONE + r * (C1 + r * (C2 + r * (C3 + r * (C4 + r * (C5 + r * C6)))))
    return power * np.int32((np.int32(whole) + BIAS) << MANTISSA).view(np.float32)


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


@compiled_into_callers
def turn(numbers: Any, angles: Any, factor: Any, width: Any, out: Any) -> None:
    """Rotary positions (Su et al. 2021): numbers of one token's heads (X, D), turned by the angles whose cosines and
    sines are (D,)."""
    half = width // 2
    for head in range(numbers.shape[0]):
        for i in range(half):
            a, b = wide(numbers[head, i]), wide(numbers[head, half + i])
            out[head, i] = (a * angles[i] - b * angles[half + i]) * factor
            out[head, half + i] = (b * angles[i] + a * angles[half + i]) * factor


@compiled_into_callers
def copy(numbers: Any, factor: Any, width: Any, out: Any) -> None:
    """The same without rotation."""
    for head in range(numbers.shape[0]):
        for i in range(width):
            out[head, i] = wide(numbers[head, i]) * factor


@compiled_into_callers
def keep(key: Any, value: Any, place: Any, width: Any, block: Any, out: Any) -> None:
    """Key and value of a token (G, D), at its place in a block of keys and among the values."""
    for head in range(value.shape[0]):
        for i in range(width):
            block[head, i, place] = narrow(key[head, i], block)
            out[head, i] = narrow(wide(value[head, i]), out)


@compiled_into_callers
def weigh(scores: Any, seen: Any, shares: Any) -> None:
    """Weights of the slots seen, to be multiplied by the shares of the heads; the rest of the block gets none."""
    n_blocks = (seen + BLOCK - 1) // BLOCK
    in_last = seen - (n_blocks - 1) * BLOCK
    heads = scores.shape[0]
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


@lru_cache
def attention(heads: int, kv_heads: int, width: int, rotated: bool) -> Callable[..., None]:
    """Attention compiled for H heads of width D that share G keys and values.

    With the shape known, loops over the numbers of a head become whole vectors. The parts above are functions of their
    own because the compiler makes less of them in one; it puts them into this one when they have been optimised. What
    this function takes from outside itself is numbers, and functions under global names: numba keeps no other.
    """
    shared, scale = heads // kv_heads, np.float32(width**-0.5)
    together = 2 if shared % 2 == 0 else 1

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
        query, summed = room[0], room[1]
        for n in range(len(rows)):
            row, slot = rows[n], slots[n]
            key, value = qkv[n, heads : heads + kv_heads], qkv[n, heads + kv_heads :]
            if rotated:
                turn(key, angles[slot], ONE, width, query)
            else:
                copy(key, ONE, width, query)
            keep(query[:kv_heads], value, slot % BLOCK, width, keys[row, slot // BLOCK], values[row, slot])
        for n in range(len(rows)):
            row, slot = rows[n], slots[n]
            if rotated:
                turn(qkv[n, :heads], angles[slot], scale, width, query)
            else:
                copy(qkv[n, :heads], scale, width, query)
            for number in range(slot // BLOCK + 1):
                for kept in range(kv_heads):
                    for head in range(kept * shared, (kept + 1) * shared, together):
                        score_block(query, head, keys[row, number, kept], scores, number, together, width, BLOCK)
            weigh(scores, slot + 1, shares)
            summed[:] = 0
            for first in range(0, slot + 1, AT_ONCE):
                for kept in range(kv_heads):
                    for head in range(kept * shared, (kept + 1) * shared, together):
                        add_values(scores, head, values[row], kept, first, summed, together, width, BLOCK, AT_ONCE)
            for head in range(heads):
                for i in range(width):
                    out[n, head, i] = narrow(summed[head, i] * shares[head], out)

    return compiled_in_any_order(attend)


# The two inner loops of attention as vector operations of LLVM, which maps them to those of any processor. Written as
# loops over numbers they become several times as many instructions: keys and values are converted anew for each head
# that shares them, and sums are stored between steps.

vectors_of_llvm: Callable[..., Any] = intrinsic(prefer_literal=True)
"""Numbers that are known when a function is compiled, such as the width of a head, come as types with a value."""

FLOAT, WORD, HALF_WORD, PLACE = ir.FloatType(), ir.IntType(32), ir.IntType(16), ir.IntType(64)

FUSED = ("contract",)
"""A product and a sum may be one instruction; nothing else is left to the compiler, not the order of sums either."""


@vectors_of_llvm
def score_block(
    context: Any, query: Any, first: Any, keys: Any, scores: Any, number: Any, heads: Any, width: Any, block: Any
) -> Any:
    """The products of queries with the keys of a block of slots.

    query (H, D); of the heads from `first` on so many share the keys (D, BLOCK). scores (H, N, BLOCK): what is written,
    at `number`. heads, width, block: literals.
    """
    n_heads, n_numbers, n_slots = (one.literal_value for one in (heads, width, block))

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        query_at, keys_at, scores_at = (_places(context, builder, signature, values, k) for k in (0, 2, 3))
        zero = ir.Constant(ir.VectorType(FLOAT, n_slots), [0.0] * n_slots)
        sums = [[zero, zero] for _ in range(n_heads)]  # two each, so that one need not wait for the other
        for i in range(n_numbers):
            key = _load(builder, keys_at([ir.Constant(PLACE, i), ir.Constant(PLACE, 0)]), n_slots)
            for h in range(n_heads):
                head = builder.add(values[1], ir.Constant(PLACE, h))
                number_of_query = builder.load(query_at([head, ir.Constant(PLACE, i)]))
                sums[h][i % 2] = _add_product(builder, sums[h][i % 2], key, number_of_query)
        for h, (even, odd) in enumerate(sums):
            head = builder.add(values[1], ir.Constant(PLACE, h))
            _store(builder, builder.fadd(even, odd), scores_at([head, values[4], ir.Constant(PLACE, 0)]))
        return context.get_dummy_value()

    return types.void(query, types.intp, keys, scores, types.intp, heads, width, block), generate


@vectors_of_llvm
def add_values(
    context: Any,
    scores: Any,
    first: Any,
    numbers: Any,
    kept: Any,
    slot: Any,
    out: Any,
    heads: Any,
    width: Any,
    block: Any,
    at_once: Any,
) -> Any:
    """Adds the values of some slots, times their weights.

    scores (H, N, BLOCK): weights. Of the heads from `first` on so many share the values (S, G, D) at `kept`. slot: the
    first of `at_once` slots, all in one block. out (H, D): what is added to. heads, width, block, at_once: literals.
    """
    n_heads, n_numbers, n_slots, n_at_once = (one.literal_value for one in (heads, width, block, at_once))

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        scores_at, numbers_at, out_at = (_places(context, builder, signature, values, k) for k in (0, 2, 5))
        zero, start = ir.Constant(PLACE, 0), values[4]
        whole, part = (divide(start, ir.Constant(PLACE, n_slots)) for divide in (builder.udiv, builder.urem))
        heads_here = [builder.add(values[1], ir.Constant(PLACE, h)) for h in range(n_heads)]
        places = [out_at([head, zero]) for head in heads_here]
        sums = [_load(builder, place, n_numbers) for place in places]
        for k in range(n_at_once):
            place = builder.add(start, ir.Constant(PLACE, k))
            value = _load(builder, numbers_at([place, values[3], zero]), n_numbers)
            for h, head in enumerate(heads_here):
                weight = builder.load(scores_at([head, whole, builder.add(part, ir.Constant(PLACE, k))]))
                sums[h] = _add_product(builder, sums[h], value, weight)
        for total, place in zip(sums, places, strict=True):
            _store(builder, total, place)
        return context.get_dummy_value()

    indices = types.intp, types.intp
    return types.void(scores, types.intp, numbers, *indices, out, heads, width, block, at_once), generate


def _places(context: Any, builder: Any, signature: Any, values: Any, argument: int) -> Callable[[Sequence[Any]], Any]:
    """Where the numbers of an argument, an array laid end to end, lie, by their places along its axes."""
    array = context.make_array(signature.args[argument])(context, builder, values[argument])
    lengths = [builder.extract_value(array.shape, axis) for axis in range(signature.args[argument].ndim)]

    def address(places: Sequence[Any]) -> Any:
        offset = places[0]
        for place, length in zip(places[1:], lengths[1:], strict=True):
            offset = builder.add(builder.mul(offset, length), place)
        return builder.gep(array.data, [offset])

    return address


def _load(builder: Any, place: Any, count: int) -> Any:
    """So many float32 from a place on, or as many bfloat16 widened to them: their bits are the upper half."""
    wide = ir.VectorType(FLOAT, count)
    if place.type.pointee != HALF_WORD:
        return builder.load(builder.bitcast(place, wide.as_pointer()), align=4)
    bits = builder.load(builder.bitcast(place, ir.VectorType(HALF_WORD, count).as_pointer()), align=2)
    words = ir.VectorType(WORD, count)
    return builder.bitcast(builder.shl(builder.zext(bits, words), ir.Constant(words, [16] * count)), wide)


def _store(builder: Any, vector: Any, place: Any) -> None:
    builder.store(vector, builder.bitcast(place, vector.type.as_pointer()), align=4)


def _add_product(builder: Any, total: Any, vector: Any, factor: Any) -> Any:
    """total + vector * factor, one number."""
    count, unknown = vector.type.count, ir.Constant(vector.type, ir.Undefined)
    alone = builder.insert_element(unknown, factor, ir.Constant(WORD, 0))
    factors = builder.shuffle_vector(alone, unknown, ir.Constant(ir.VectorType(WORD, count), [0] * count))
    return builder.fadd(total, builder.fmul(vector, factors, flags=FUSED), flags=FUSED)
