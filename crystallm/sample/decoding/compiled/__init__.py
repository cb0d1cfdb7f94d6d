"""Decoding on a CPU with compiled loops between the products of torch; docs/decoding.md explains it."""

from crystallm.sample.decoding.compiled.compiled_decoder import CompiledDecoder

__all__ = ["CompiledDecoder"]
