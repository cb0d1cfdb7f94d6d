"""The crystals that a checkpoint has seen, by id and reduced formula."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from crystallm.base.errors import CheckpointError
from crystallm.base.whole_file import whole_file
from crystallm.crystal.formulas.composition import Amounts, format_formula

SEEN_FILE = "seen.parquet"

SCHEMA = pa.schema([("id", pa.string()), ("formula", pa.string()), ("merged", pa.bool_())])
"""id: of a crystal in its source; formula: reduced; merged: an id whose crystal was dropped as a copy of one listed."""


@dataclass(frozen=True, eq=False)
class Seen:
    """The crystals that a checkpoint has seen, by id and reduced formula."""

    crystals: frozenset[tuple[str, str]]
    """(id, reduced formula) of every crystal."""
    merged: frozenset[tuple[str, str]] = frozenset()
    """The same of crystals that were dropped as copies of those."""

    @classmethod
    def read(cls, folder: Path) -> Seen | None:
        """What the checkpoint in a folder has seen.

        Args:
            folder: a checkpoint folder.

        Returns:
            The list, None where the checkpoint has none: what it has seen is unknown.

        Raises:
            CheckpointError: the list is there and cannot be read.

        Example:
            >>> Seen.read(default_folder("benchmark")).has_id("mp-1525492")
            True
        """
        file = folder / SEEN_FILE
        if not file.is_file():
            return None
        try:
            table = pq.read_table(file)
        except (OSError, pa.ArrowException) as error:
            raise CheckpointError(f"cannot read {file}: {error}; {_REMEDY}") from error
        if table.column_names != SCHEMA.names:
            raise CheckpointError(f"{file} is no list of crystals seen (columns {table.column_names}); {_REMEDY}")
        rows = zip(*(table[name].to_pylist() for name in SCHEMA.names), strict=True)
        parts: dict[bool, set[tuple[str, str]]] = {False: set(), True: set()}
        for name, formula, is_merged in rows:
            if name is None or formula is None or is_merged is None:
                raise CheckpointError(f"{file} has a row without id or formula; {_REMEDY}")
            parts[is_merged].add((name, formula))
        return cls(frozenset(parts[False]), frozenset(parts[True]))

    def __len__(self) -> int:
        return len(self.crystals)

    def __or__(self, other: Seen) -> Seen:
        return Seen(self.crystals | other.crystals, self.merged | other.merged)

    @cached_property
    def formulas(self) -> frozenset[str]:
        """The reduced formulas."""
        return frozenset(formula for _, formula in self.crystals)

    @cached_property
    def _formulas_of(self) -> dict[str, set[str]]:
        """Id, merged ones too -> its formulas; strangers' ids may stand for several crystals."""
        found: dict[str, set[str]] = {}
        for name, formula in self.crystals | self.merged:
            found.setdefault(name, set()).add(formula)
        return found

    def has_id(self, name: str, amounts: Amounts | None = None) -> bool:
        """Whether a crystal of this id was seen, itself or as a copy of another.

        Args:
            name: id of the crystal in its source, such as `mp-2657`; `mp_20:mp-2657` is taken for the same.
            amounts: its reduced formula, None for any: the number 17 may be an id in many sources.

        Returns:
            True if it was.

        Example:
            >>> Seen(frozenset({("mp-2657", "TiO2")})).has_id("mp_20:mp-2657", (("Ti", 1), ("O", 2)))
            True
        """
        formulas = {formula for known in aliases(name) for formula in self._formulas_of.get(known, ())}
        return bool(formulas) if amounts is None else format_formula(amounts) in formulas

    def has_formula(self, amounts: Amounts) -> bool:
        """Whether any crystal of this reduced formula was seen."""
        return format_formula(amounts) in self.formulas

    def write(self, path: Path) -> None:
        """Write the list to a file, whole or not at all; InputError where it cannot be written."""
        rows = [
            (formula, name, merged)
            for merged in (False, True)
            for name, formula in (self.crystals, self.merged)[merged]
        ]
        formulas, names, merged = zip(*sorted(rows), strict=True) if rows else ((), (), ())
        table = pa.table([names, formulas, merged], schema=SCHEMA)
        # In order of formulas each begins like the one before it, which this encoding makes use of.
        encoding = {"id": "DELTA_BYTE_ARRAY", "formula": "DELTA_BYTE_ARRAY"}
        with whole_file(path) as partial:
            pq.write_table(
                table, partial, compression="zstd", compression_level=19, use_dictionary=False, column_encoding=encoding
            )


_REMEDY = "copy the checkpoint again, or delete the file: then nobody knows what it has seen"


def aliases(name: str) -> tuple[str, ...]:
    """An id, and what stands after its first colon: benchmarks call mp-2657 `mp_20:mp-2657`."""
    rest = name.partition(":")[2]
    return (name, rest) if rest else (name,)
