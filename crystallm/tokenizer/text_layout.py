"""What a layout is to those who use it, whatever its texts are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.description import Description


class TextLayout(Protocol):
    """A way to write crystals as text."""

    @property
    def name(self) -> str:
        """Under which recipes and checkpoints know it."""

    @property
    def begin(self) -> str:
        """The token that every text starts with."""

    @property
    def end(self) -> str | None:
        """The token that ends a text and stands nowhere else; None where there is none."""

    @property
    def pad(self) -> str:
        """The token that fills up rows of a batch; it stands in no text."""

    @property
    def pattern(self) -> str:
        """A regular expression that splits a text into its tokens, for the tokenizer."""

    @property
    def mark(self) -> str | None:
        """A regular expression for the places where GROUP_MARK is put before splitting; None for nowhere."""

    def vocabulary(self) -> list[str]:
        """All tokens in the order of their ids."""

    def tokens_of(self, cell: Cell, description: Description) -> list[str] | Rejection:
        """The tokens of a crystal, given as its cell and as its canonical description."""

    def checked(self, tokens: list[str]) -> list[str] | Rejection:
        """Tokens that are known and can be read back, or a Rejection."""

    def checked_tokens(self, description: Description) -> list[str] | Rejection:
        """The tokens of a description as it is, or a Rejection where the layout cannot hold it."""

    def write(self, description: Description) -> str:
        """The text of a description as it is."""

    def text(self, tokens: Sequence[str]) -> str:
        """The text of tokens."""

    def split(self, text: str) -> list[str] | Rejection:
        """The tokens of a text; a Rejection where it holds something that is no token."""

    def read(self, text: str) -> Description | Rejection:
        """The crystal that a text holds."""

    def read_tokens(self, tokens: list[str]) -> Description | Rejection:
        """As `read`, from tokens."""
