"""Known crystals that are returned as they are: id, cell and coordinates of the source, and what is known of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from crystallm.crystal.cell import GRAMS_PER_CM3, Rejection
from crystallm.crystal.description import Description
from crystallm.crystal.formulas.composition import format_formula
from crystallm.data.templates.exact import EXACT, volume_per_atom, with_residuals
from crystallm.data.templates.schema import ENERGY_STEPS, FACTS
from crystallm.tokenizer.text_layout import TextLayout


@dataclass(frozen=True)
class KnownCrystal:
    """A known crystal with the evidence for it.

    id: of its source. ids: all database copies of the crystal, this one first. description: symmetrised cell and
    coordinates of five decimals, at most 0.01 angstrom from the source. space_group: number found at 0.1 angstrom;
    `description.space_group` is of less symmetry where that moves atoms by more than 0.01 angstrom. formula_units: of
    the primitive cell at 0.1 angstrom. observed: whether nature or a laboratory makes it; None where not known.
    measured: whether an entry of COD or AMCSD is among the copies. Energies in eV/atom, None where not known:
    energy_above_hull as the database says (DFT), energy of the packaged potential for the crystal as given,
    relaxed_energy of the same potential after relaxing. exact: whether the numbers have five decimals; four and two
    (angles) otherwise.
    """

    id: str
    ids: tuple[str, ...]
    description: Description
    space_group: int
    formula_units: int
    observed: bool | None
    measured: bool
    energy_above_hull: float | None
    energy: float | None
    relaxed_energy: float | None
    exact: bool

    @property
    def formula(self) -> str:
        """The reduced formula."""
        return format_formula(self.description.amounts)

    @property
    def lowered(self) -> bool:
        """Whether the description has less symmetry than is found at 0.1 angstrom."""
        return self.description.space_group != self.space_group

    @property
    def volume_per_atom(self) -> float:
        """Cubic angstrom."""
        return volume_per_atom(self.description)

    @property
    def density(self) -> float:
        """g/cm3."""
        import gemmi

        amounts = self.description.amounts
        mass = sum(gemmi.Element(symbol).weight * amount for symbol, amount in amounts)
        return GRAMS_PER_CM3 * mass / (self.volume_per_atom * sum(amount for _, amount in amounts))


def known_crystals(table: pa.Table, layout: TextLayout) -> list[KnownCrystal]:
    """The crystals in rows of a library, all of one formula; copies of one are put together.

    Args:
        table: rows with the columns of `schema.SCHEMA`, or those of templates alone.
        layout: of their texts.

    Returns:
        One crystal for each row that is no copy of another, in order of the rows.

    Raises:
        ValueError: a text is no crystal, or has not the numbers that are kept beside it.
    """
    rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        row.update((name, None) for name in FACTS.names if name not in row)
    leaders = {row["id"]: [row] for row in rows}
    for row in rows:
        if row["copy_of"] in leaders and row["copy_of"] != row["id"]:
            leaders[row["copy_of"]] += leaders.pop(row["id"])
    return [_put_together(copies, layout) for copies in leaders.values()]


def _put_together(copies: Sequence[dict[str, Any]], layout: TextLayout) -> KnownCrystal:
    first = copies[0]
    merged = (id_ for row in copies for id_ in (row["id"], *(row["copies"] or "").split()))
    return KnownCrystal(
        id=first["id"],
        ids=tuple(dict.fromkeys(merged)),
        description=_description(first, layout),
        space_group=first["space_group"],
        formula_units=first["formula_units"],
        observed=_any(row["observed"] for row in copies),
        measured=bool(_any(row["measured"] for row in copies)),
        energy_above_hull=_energy(copies, "dft_above_hull"),
        energy=_energy(copies[:1], "energy"),
        relaxed_energy=_energy(copies[:1], "relaxed_energy"),
        exact=first["exact"] is not None or first["exact_text"] is not None,
    )


def _description(row: dict[str, Any], layout: TextLayout) -> Description:
    exact = row["exact_text"] is not None
    found = EXACT.read(row["exact_text"]) if exact else layout.read(row["text"])
    if isinstance(found, Rejection):
        raise ValueError(f"a text that is no crystal ({found})")
    return found if exact or row["exact"] is None else with_residuals(found, row["exact"])


def _any(values: Iterable[bool | None]) -> bool | None:
    """True if one is, False if some are known and none is, None if nothing is known."""
    known = [value for value in values if value is not None]
    return any(known) if known else None


def _energy(copies: Sequence[dict[str, Any]], name: str) -> float | None:
    """The first that is known, in eV/atom."""
    known = (row[name] / ENERGY_STEPS for row in copies if row[name] is not None)
    return next(known, None)
