"""One question, two ways to answer it: a reference, an accelerator with its verdicts, and the switch between them.

The checks (`checks/paths.py`), the count of symmetry operations (there, too), the matcher (`matching/matchers.py`) and
the decoder (`sample/decoding/decoders.py`) each have one. The reference is a well-known library and says what is right;
the accelerator is tested against it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Generic, TypeVar

from crystallm.base.errors import ConfigError

F = TypeVar("F")


def nothing_to_warm_up() -> None:
    """Nothing is compiled or read."""


@dataclass(frozen=True)
class Way(Generic[F]):
    """One way to answer a question."""

    name: str
    by: str
    """Whose verdict it is, for reports: "CrystalNN and spglib"."""
    packages: tuple[str, ...]
    """Those whose versions the verdict may depend on."""
    load: Callable[[], F]
    """What answers; imported only now."""
    warm_up: Callable[[], None] = nothing_to_warm_up
    """Compiles, imports and reads what answering needs, before any clock starts. Does its work once."""

    def to_json(self) -> dict[str, Any]:
        """What a report says of it: name, whose verdict it is, and versions."""
        return {"name": self.name, "by": self.by, "versions": {one: _version(one) for one in self.packages}}


def told(judge: Mapping[str, Any]) -> str:
    """What `Way.to_json` wrote, as one line for people.

    Example:
        >>> told({"by": "spglib", "versions": {"spglib": "2.8.0"}})
        'spglib (spglib 2.8.0)'
    """
    versions = ", ".join(f"{name} {version}" for name, version in judge["versions"].items())
    return f"{judge['by']} ({versions})"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True)
class Switch(Generic[F]):
    """The ways to answer a question, by name."""

    question: str
    """What error messages call it: "path of checks"."""
    reference: Way[F]
    accelerator: Way[F]

    def __getitem__(self, name: str) -> Way[F]:
        """The way of that name; ConfigError if there is none."""
        ways = {way.name: way for way in (self.reference, self.accelerator)}
        if name not in ways:
            raise ConfigError(f"unknown {self.question} {name!r}; choose from {', '.join(ways)}")
        return ways[name]
