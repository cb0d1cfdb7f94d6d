"""What is known of a candidate: one of the crystals that could be the structure of a formula."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Question(StrEnum):
    """What a chance is a chance of."""

    DATABASE = "database"
    """This candidate is the structure of the database row that was asked for, by formula (and formula units)."""
    NATURE = "nature"
    """This candidate is the phase that is stable at ambient conditions."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is known of one candidate; None where something is not known or does not apply.

    A candidate is a known crystal of exactly the formula asked for, a crystal drawn by the model, or both in one: then
    the fields of both kinds are filled in. Energies are in eV/atom.

    Example:
        >>> rutile = Evidence(space_group=136, formula_units=2, n_sites=6, n_orbits=2, n_free=3, known=True,
        ...                   observed=True, source_ids=("mp-2657",), energy=-8.83)
    """

    space_group: int
    """Number of the space group in which the candidate is shown."""
    formula_units: int
    """Of the primitive cell."""
    n_sites: int
    """Atoms of the primitive cell."""
    n_orbits: int
    """Occupied orbits: sites of the description."""
    n_free: int
    """Free parameters of cell and coordinates."""

    volume_ratio: float | None = None
    """Volume over the one expected of the composition."""
    bonds_reasonable: bool | None = None
    """Verdict of the bond check."""

    ranking_log_probability: float | None = None
    """Of formula units, space group and Wyckoff letters, under what was drawn from (model and templates)."""
    protostructure_log_probability: float | None = None
    """The same under the model alone."""
    log_probability: float | None = None
    """Of all choices of the text under the model alone."""
    draw: int | None = None
    """Number of the first draw, from 0, that gave this crystal."""
    draws: int = 0
    """Draws that gave this crystal."""
    share: float | None = None
    """How sure it is that the draw followed a template, 0 to 1; 0 where it followed none."""
    distance: float | None = None
    """Distance of the elements of the template that was followed; 0 where it has the same."""
    votes: float | None = None
    """Share of the weight of all relatives, known crystals of similar formulas, that have the candidate's
    protostructure when the elements are exchanged."""
    observed_votes: float | None = None
    """The same among relatives that were observed."""
    like_own: bool = False
    """Whether a known crystal of the formula itself has its protostructure."""
    template_observed: bool | None = None
    """Whether the known crystal that was followed was observed."""
    template_above_hull: float | None = None
    """Energy of the known crystal that was followed above the hull, by DFT."""

    known: bool = False
    """Whether it is a known crystal of the formula asked for."""
    observed: bool | None = None
    """Whether the known crystal was observed."""
    measured: bool = False
    """Whether one of its copies is a measured structure (COD, AMCSD)."""
    source_ids: tuple[str, ...] = ()
    """Ids of all database copies of the known crystal."""
    dft_above_hull: float | None = None
    """Its energy above the hull, by DFT."""

    energy: float | None = None
    """As given, by the potential."""
    relaxed_energy: float | None = None
    """After relaxing, by the potential."""
    above_hull: float | None = None
    """Above the hull, by the potential: relaxed if it was relaxed, else as given."""
