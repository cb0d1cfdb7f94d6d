"""Build the tokenizer of a layout with the `tokenizers` library: `python -m crystallm.tokenizer.build tokenizer`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from crystallm.tokenizer.layout import DEFAULT_LAYOUT, UNKNOWN, get_layout
from crystallm.tokenizer.published_texts import GROUP_MARK
from crystallm.tokenizer.text_layout import TextLayout

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CONTEXT = 1024
"""Longest text in tokens that the tokenizer announces as the model's limit."""


def build_tokenizer(layout: TextLayout) -> PreTrainedTokenizerFast:
    """A tokenizer whose ids are the places in the layout's vocabulary; text -> ids -> text is exact."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate(layout.vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(layout.pattern), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    if layout.mark is not None:
        tokenizer.normalizer = normalizers.Replace(Regex(layout.mark), GROUP_MARK)
        tokenizer.decoder = decoders.Sequence([decoders.Fuse(), decoders.Replace(GROUP_MARK, "")])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=layout.begin,
        eos_token=layout.end,
        pad_token=layout.pad,
        unk_token=UNKNOWN,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )


def main(argv: list[str]) -> None:
    """Write the tokenizer of a layout into a folder."""
    folder = Path(argv[0])
    build_tokenizer(get_layout(argv[1] if len(argv) > 1 else DEFAULT_LAYOUT)).save_pretrained(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
