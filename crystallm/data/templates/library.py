"""A library of known crystals that lies in a checkpoint's folder, and those of them that a formula may be like.

Known crystals with a formula of the same kind (Mg2SiO4 and Fe2SiO4) become templates of the formula asked for: its
elements take the places of theirs, the cell grows as the elements do. The nearer the elements, the more a template
counts (`crystallm.crystal.formulas.element_similarity`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from crystallm.base.errors import CheckpointError
from crystallm.crystal.cell import Rejection
from crystallm.crystal.description import Description, canonical
from crystallm.crystal.formulas.composition import Amounts, element_order, symbol_of
from crystallm.crystal.formulas.element_similarity import Kind, Similarity, exchanges, kind_of, load_similarity
from crystallm.data.templates.known import KnownCrystal, known_crystals
from crystallm.data.templates.schema import ENERGY_STEPS, SCHEMA, TEMPLATE_COLUMNS, TEMPLATE_FACTS, kind_name
from crystallm.tokenizer.layout import get_layout

LEAST_WEIGHT = 1e-4
"""Templates of less than this part of the weight of the nearest one are not looked at."""


@dataclass(frozen=True)
class Template:
    """A known crystal with the elements of the formula asked for."""

    id: str
    formula: str
    """Of the known crystal."""
    description: Description
    """Of the crystal with the elements exchanged, canonical; its cell scaled."""
    weight: float
    """exp(-distance) of the elements exchanged, divided among the known crystals of that formula that fit."""
    known: Description
    """The known crystal itself."""
    observed: bool | None = None
    """Whether nature or a laboratory makes the known crystal; None where that is not known."""
    energy_above_hull: float | None = None
    """Of the known crystal as its database says (DFT), eV per atom; None where that is not known."""


class TemplateLibrary:
    """Known crystals in a file; only those of the kind of a formula are read."""

    def __init__(self, path: Path, similarity: Similarity | None = None) -> None:
        self.path = path
        self.similarity = similarity or load_similarity()
        try:
            self._file = pq.ParquetFile(path)
            found = self._file.schema_arrow.names
            metadata = self._file.schema_arrow.metadata or {}
        except (OSError, pa.ArrowException) as error:
            raise CheckpointError(
                f"cannot read {path}: {error}; copy the checkpoint again, or delete the file"
            ) from error
        if found not in (SCHEMA.names, TEMPLATE_COLUMNS) or b"layout" not in metadata:
            raise CheckpointError(f"{path} is no library of templates; make it with `crystallm data templates`")
        self.layout = get_layout(metadata[b"layout"].decode())

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def find(
        self,
        amounts: Amounts,
        *,
        formula_units: int | None = None,
        space_group: int | None = None,
        multiple: int = 1,
        most: int = 128,
    ) -> list[Template]:
        """Up to `most` templates of a formula, those of most weight first; with these formula units of the primitive
        cell, a multiple of some number, and this space group, where they are given."""
        kind, elements = kind_of(amounts)
        table = self._of_kind(kind)
        if table is None:
            return []
        fits = np.ones(len(table.units), dtype=bool)
        fits &= True if formula_units is None else table.units == formula_units
        fits &= True if space_group is None else table.groups == space_group
        fits &= table.units % multiple == 0
        rows = np.flatnonzero(fits)
        if not rows.size:
            return []
        numbers = [element_order(symbol)[1] for symbol in elements]
        weights = np.exp(-self.similarity.distances(kind, numbers, table.elements[rows]))
        # A formula counts once, however many crystals of it are known: some have dozens, most of them hypothetical.
        _, formula, crystals = np.unique(table.elements[rows], axis=0, return_inverse=True, return_counts=True)
        weights /= crystals[formula.ravel(), None]
        chosen = np.argsort(-weights, axis=None, kind="stable")[:most]
        found = []
        for flat in chosen[weights.ravel()[chosen] > LEAST_WEIGHT * weights.max()]:
            row, exchange = divmod(int(flat), weights.shape[1])
            places = exchanges(kind)[exchange]
            index = int(rows[row])
            mapping = {
                symbol_of(int(table.elements[index][place])): symbol
                for place, symbol in zip(places, elements, strict=True)
            }
            known = self.layout.read(table.texts[index].as_py())
            if isinstance(known, Rejection):
                raise CheckpointError(
                    f"{self.path} holds a text that is no crystal ({known}); copy the checkpoint again"
                )
            description, weight = self._exchanged(known, mapping, amounts), float(weights[row, exchange])
            facts = table.facts(index)
            found.append(
                Template(table.ids[index].as_py(), table.formulas[index].as_py(), description, weight, known, *facts)
            )
        return found

    def known(
        self, amounts: Amounts, *, formula_units: int | None = None, space_group: int | None = None
    ) -> list[KnownCrystal]:
        """All crystals of exactly this formula, as they are; database copies of one crystal are one.

        Args:
            amounts: the reduced formula in any order of elements.
            formula_units: of the primitive cell, where given.
            space_group: number found at 0.1 angstrom, where given.

        Returns:
            The crystals in the order of the library. Those of a library made before version 0.2 have four decimals,
            and nothing is known of them.

        Raises:
            CheckpointError: the library holds a text that is no crystal.

        Example:
            >>> [crystal.id for crystal in library.known(parse_formula("TiO2"), space_group=136)]
            ['mp-2657']
        """
        kind, elements = kind_of(amounts)
        numbers = bytes(element_order(symbol)[1] for symbol in elements)
        groups = self._groups_of(kind, numbers)
        if not groups:
            return []
        table = self._file.read_row_groups(groups)
        own = pc.and_(pc.equal(table["kind"], kind_name(kind)), pc.equal(table["elements"], pa.scalar(numbers)))
        try:
            found = known_crystals(table.filter(own), self.layout)
        except ValueError as error:
            raise CheckpointError(f"{self.path} holds {error}; copy the checkpoint again") from error
        return [
            crystal
            for crystal in found
            if formula_units in (None, crystal.formula_units) and space_group in (None, crystal.space_group)
        ]

    def _exchanged(self, known: Description, mapping: dict[str, str], amounts: Amounts) -> Description:
        if all(old == new for old, new in mapping.items()):
            return known
        growth = self._volume(amounts) / self._volume(known.amounts)
        a, b, c, *angles = known.cell
        scale = growth ** (1 / 3)
        sites = [replace(site, element=mapping[site.element]) for site in known.sites]
        before = [element_order(site.element) for site in sites]
        sites.sort(key=lambda site: element_order(site.element))
        alpha, beta, gamma = angles
        changed = replace(
            known, amounts=amounts, cell=(a * scale, b * scale, c * scale, alpha, beta, gamma), sites=tuple(sites)
        )
        # Only the order of the elements counts in what is canonical.
        return changed if before == sorted(before) else canonical(changed)

    def _volume(self, amounts: Amounts) -> float:
        return float(sum(self.similarity.volumes[element_order(symbol)[1]] * amount for symbol, amount in amounts))

    def _groups_of(self, kind: Kind, elements: bytes | None = None) -> list[int]:
        """The row groups of the file in which crystals of a kind, and of these elements, may lie."""
        name = kind_name(kind)
        metadata = self._file.metadata
        groups = []
        for number in range(metadata.num_row_groups):
            kinds, members = (metadata.row_group(number).column(place).statistics for place in (0, 1))
            if not _may_hold(kinds, name):
                continue
            # Rows are in order of kind, then of elements: where a group holds one kind, its elements lie in a range.
            if (
                elements is None
                or kinds is None
                or not kinds.has_min_max
                or kinds.min != kinds.max
                or _may_hold(members, elements)
            ):
                groups.append(number)
        return groups

    @lru_cache(maxsize=64)  # noqa: B019 - a library lives as long as its generator
    def _of_kind(self, kind: Kind) -> _OfKind | None:
        groups = self._groups_of(kind)
        if not groups:
            return None
        names = [name for name in (*TEMPLATE_COLUMNS, *TEMPLATE_FACTS) if name in self._file.schema_arrow.names]
        table = self._file.read_row_groups(groups, columns=names)
        table = table.filter(pc.equal(table["kind"], kind_name(kind)))
        return _OfKind(table, len(kind)) if table.num_rows else None


def _may_hold(statistics: pq.Statistics | None, value: str | bytes) -> bool:
    """Whether a value lies in the range of a column of a row group, as far as that is known."""
    if statistics is None or not statistics.has_min_max:
        return True
    return bool(statistics.min <= value <= statistics.max)


class _OfKind:
    """The known crystals of one kind of formula."""

    def __init__(self, table: pa.Table, n_elements: int) -> None:
        joined = b"".join(table["elements"].to_pylist())
        self.elements: NDArray[np.uint8] = np.frombuffer(joined, dtype=np.uint8).reshape(-1, n_elements)
        self.units: NDArray[np.int16] = table["formula_units"].to_numpy()
        self.groups: NDArray[np.int16] = table["space_group"].to_numpy()
        self.ids, self.formulas, self.texts = table["id"], table["formula"], table["text"]
        self._facts = [table[name] if name in table.column_names else None for name in TEMPLATE_FACTS]

    def facts(self, index: int) -> tuple[bool | None, float | None]:
        """Whether a crystal was observed, and its energy above the hull by DFT in eV per atom."""
        observed, above_hull = (None if column is None else column[index].as_py() for column in self._facts)
        return observed, None if above_hull is None else above_hull / ENERGY_STEPS
