"""The two models that ship, one folder each: `full` for use, `benchmark` for measuring."""

from __future__ import annotations

import importlib.resources
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from crystallm.base.errors import ConfigError
from crystallm.base.provenance import sha256

Edition = Literal["full", "benchmark"]
"""`full` has seen every crystal of the general corpus; `benchmark` none of a benchmark's test or validation rows."""

EDITIONS: tuple[Edition, ...] = get_args(Edition)


def edition_folder(edition: Edition) -> Path:
    """The checkpoint folder of an edition.

    Args:
        edition: `full` or `benchmark`.

    Returns:
        Its folder in the package.

    Raises:
        ConfigError: there is no edition of this name.

    Example:
        >>> edition_folder("benchmark").name
        'benchmark'
    """
    if edition not in EDITIONS:
        raise ConfigError(f"unknown edition {edition!r}; choose from {', '.join(EDITIONS)}")
    folder = Path(str(importlib.resources.files("crystallm.model"))) / "editions"
    return folder / edition


def edition_with_weights(digest: str) -> Edition | None:
    """The edition whose weights have this SHA-256, or one that begins so.

    Args:
        digest: hexadecimal digits of the hash of `model.safetensors`, at least the first 12.

    Returns:
        The edition; None where it is the hash of other weights, or too short to tell.

    Example:
        >>> edition_with_weights("0" * 64) is None
        True
    """
    if len(digest) < FEWEST_DIGITS:
        return None
    for edition in reversed(EDITIONS):
        if _weights(edition_folder(edition)).startswith(digest):
            return edition
    return None


FEWEST_DIGITS = 12
"""Of a hash, as records of samples hold it."""


@cache
def _weights(folder: Path) -> str:
    """SHA-256 of the weights in a folder; empty where there are none."""
    file = folder / "model.safetensors"
    return sha256(file) if file.is_file() else ""
