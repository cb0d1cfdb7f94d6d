"""The tokenizer of a layout: one id for each of its tokens."""

from crystallm.tokenizer.build import build_tokenizer

__all__ = ["build_tokenizer"]
