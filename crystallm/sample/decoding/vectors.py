"""The two inner loops of attention as vector operations, for heads of a known width.

Written out as loops over numbers the compiler turns them into several times as many instructions: it converts the keys
and values anew for each head that shares them, and stores sums between steps. These are operations on vectors of LLVM,
which it maps to those of any processor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

in_machine_code: Callable[..., Any] = intrinsic

FLOAT, WORD, HALF_WORD, PLACE = ir.FloatType(), ir.IntType(32), ir.IntType(16), ir.IntType(64)

FUSED = ("contract",)
"""A product and a sum may be one instruction; nothing else is left to the compiler, not the order of sums either."""


def score_block(heads: int, width: int, block: int) -> Any:
    """`score_block(query, first, keys, scores, number)`: the products of queries with the keys of a block of slots.

    query (H, D); of the heads from `first` on so many share the keys (D, BLOCK). scores (H, N, BLOCK): what is written,
    at `number`.
    """

    @in_machine_code
    def operation(context: Any, query: Any, first: Any, keys: Any, scores: Any, number: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            query_at, keys_at, scores_at = (_places(context, builder, signature, values, k) for k in (0, 2, 3))
            zero = ir.Constant(ir.VectorType(FLOAT, block), [0.0] * block)
            sums = [[zero, zero] for _ in range(heads)]  # two each, so that one need not wait for the other
            for i in range(width):
                key = _load(builder, keys_at([ir.Constant(PLACE, i), ir.Constant(PLACE, 0)]), block)
                for h in range(heads):
                    head = builder.add(values[1], ir.Constant(PLACE, h))
                    number_of_query = builder.load(query_at([head, ir.Constant(PLACE, i)]))
                    sums[h][i % 2] = _add_product(builder, sums[h][i % 2], key, number_of_query)
            for h, (even, odd) in enumerate(sums):
                head = builder.add(values[1], ir.Constant(PLACE, h))
                _store(builder, builder.fadd(even, odd), scores_at([head, values[4], ir.Constant(PLACE, 0)]))
            return context.get_dummy_value()

        return types.void(query, types.intp, keys, scores, types.intp), generate

    return operation


def add_values(heads: int, width: int, block: int, at_once: int) -> Any:
    """`add_values(scores, first, values, kept, slot, out)`: adds the values of some slots, times their weights.

    scores (H, N, BLOCK): weights. Of the heads from `first` on so many share the values (S, G, D) at `kept`. slot: the
    first of `at_once` slots, all in one block. out (H, D): what is added to.
    """

    @in_machine_code
    def operation(context: Any, scores: Any, first: Any, numbers: Any, kept: Any, slot: Any, out: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            scores_at, numbers_at, out_at = (_places(context, builder, signature, values, k) for k in (0, 2, 5))
            zero, start = ir.Constant(PLACE, 0), values[4]
            whole, part = (divide(start, ir.Constant(PLACE, block)) for divide in (builder.udiv, builder.urem))
            heads_here = [builder.add(values[1], ir.Constant(PLACE, h)) for h in range(heads)]
            places = [out_at([head, zero]) for head in heads_here]
            sums = [_load(builder, place, width) for place in places]
            for k in range(at_once):
                place = builder.add(start, ir.Constant(PLACE, k))
                value = _load(builder, numbers_at([place, values[3], zero]), width)
                for h, head in enumerate(heads_here):
                    weight = builder.load(scores_at([head, whole, builder.add(part, ir.Constant(PLACE, k))]))
                    sums[h] = _add_product(builder, sums[h], value, weight)
            for total, place in zip(sums, places, strict=True):
                _store(builder, total, place)
            return context.get_dummy_value()

        return types.void(scores, types.intp, numbers, types.intp, types.intp, out), generate

    return operation


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
