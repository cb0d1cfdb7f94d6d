"""What a preparation needs to know, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from crystallm.base.command_line import Option
from crystallm.base.errors import ConfigError
from crystallm.base.input_files import Reading
from crystallm.tokenizer.layout import DEFAULT_LAYOUT, get_layout

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(Reading):
    """Options of `crystallm data prepare`."""

    sources: tuple[str, ...]
    """Folders, archives, tables or data set names; see docs/explanation/data.md."""
    out: Path
    """Folder that receives train.parquet (or train/), val.parquet, test.parquet, drops.jsonl and the report."""
    layout: str = DEFAULT_LAYOUT
    """How a crystal is written as text."""
    max_sites: int = 200
    """Crystals with more atoms than this in the primitive cell are refused."""
    max_tokens: int = 1024
    """Crystals whose text is longer than this many tokens are refused."""
    min_distance_angstrom: float = 0.5
    """Crystals with two atoms closer than this, periodic images included, are refused."""
    deduplicate: Literal["off", "text", "matcher"] = "matcher"
    """`text` compares the numbers of equal descriptions; `matcher` asks the structure matcher as well."""
    exclude_matching: Annotated[tuple[Path, ...], Option(metavar="FILE")] = ()
    """Benchmark test files (any source); what matches one of their structures is taken out."""
    exclude_level: Literal["structure", "formula"] = "structure"
    """`formula` takes out every crystal of a reduced formula that occurs in `exclude_matching`."""
    split_column: str | None = None
    """Column whose values train, val and test say where a row goes; rows with another value are left out."""
    val_fraction: float = 0.01
    """Share of the reduced formulas that go to val when there is no split column."""
    test_fraction: float = 0.01
    """Share of the reduced formulas that go to test when there is no split column."""
    seed: int = 0
    """Draws another split by formula."""
    rows_per_file: int | None = None
    """Write the training rows as files of up to so many rows in a folder train; one file train.parquet by default."""
    shard: tuple[int, int] | None = None
    """Describe only the i-th of every n crystals; the n folders, written by as many machines, are the SOURCEs of a last
    run with the same options that compares, filters and splits."""
    workers: int | None = None
    """Processes; all cores by default. Does not change the result."""

    def __post_init__(self) -> None:
        get_layout(self.layout)
        super().__post_init__()
        if not self.sources:
            raise ConfigError("sources is empty; name at least one folder or file")
        for name, least in (("max_sites", 1), ("max_tokens", 8), ("workers", 1), ("rows_per_file", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value}")
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise ConfigError(f"shard must be i/n with i from 1 to n, such as 2/8, got {self.shard[0]}/{self.shard[1]}")
        if not 0 <= self.min_distance_angstrom <= 2:
            raise ConfigError(f"min_distance_angstrom must be between 0 and 2, got {self.min_distance_angstrom}")
        if min(self.val_fraction, self.test_fraction) < 0 or self.val_fraction + self.test_fraction >= 1:
            raise ConfigError(
                f"val_fraction {self.val_fraction} and test_fraction {self.test_fraction} must not be negative "
                "and must leave something to train on; for example 0.01 and 0.01"
            )
