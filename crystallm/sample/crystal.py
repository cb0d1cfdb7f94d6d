"""One answer to a prompt: a crystal that was drawn, or one that is known and returned as it is."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crystallm.crystal.cell import Cell
from crystallm.crystal.checks.fast_validity import density_of
from crystallm.crystal.cif import write_cif
from crystallm.crystal.description import Description, expand
from crystallm.crystal.formulas.composition import format_formula
from crystallm.crystal.symmetry import space_group_symbol
from crystallm.crystal.wyckoff import space_group
from crystallm.sample.drawing.attempt import Attempt
from crystallm.sample.formats import save
from crystallm.sample.prompts import NamedPrompt

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

    from crystallm.crystal.checks.validity import Checks
    from crystallm.data.templates.known import KnownCrystal


@dataclass(frozen=True)
class EnergyRecord:
    """What a potential says of a crystal; energies in eV per atom."""

    potential: str
    """Name and version."""
    as_given: float | None = None
    """Of the crystal as it was drawn, or is known."""
    relaxed: float | None = None
    """After relaxing cell and coordinates in its space group."""
    converged: bool = False
    """Whether the relaxation ended below the largest force that was asked for."""
    above_hull_as_given: float | None = None
    above_hull: float | None = None
    """Of the lower of the two energies, above the hull of the references of the same potential."""
    volume_ratio: float | None = None
    """Relaxed volume over the volume given."""
    reason: str = ""
    """Why there is no energy, or no hull."""

    @property
    def lowest(self) -> float | None:
        """The relaxed energy, or the one as given where nothing was relaxed."""
        return self.as_given if self.relaxed is None else self.relaxed


@dataclass(frozen=True, eq=False)
class Crystal:
    """One crystal of an answer. `sample`, `known` and `Generator.generate` make them; fields are set out below.

    Lengths are in angstrom, densities in g/cm3, energies in eV per atom. `cell` and `structure` are the conventional
    cell, `cif` a complete CIF, `to_ase` and `save` lead to other formats.

    Example:
        >>> from crystallm import known
        >>> halite = known("NaCl")[0]
        >>> halite.space_group, halite.formula_units, round(halite.density, 1), len(halite.cell)
        ('Fm-3m', 4, 2.2, 8)
    """

    prompt: NamedPrompt
    description: Description
    """As it is written to files: relaxed where it was relaxed."""
    attempt: Attempt | None = None
    """The draw; None for a known crystal that no draw gave."""
    known: KnownCrystal | None = None
    """The known crystal that this is; None for one that only draws gave."""
    count: int = 1
    """Draws of the same prompt that gave this crystal (by structure matcher)."""
    energy: EnergyRecord | None = None
    probability: float | None = None
    """Chance that this is the structure (docs/sample.md says of which question)."""
    searched_from: str | None = None
    """The move of a search that made it; None for one that was drawn or is known."""
    flags: tuple[str, ...] = ()
    """What a reader should know: a symmetry that was raised or gained, a density that is not plausible."""

    @property
    def formula(self) -> str:
        """Reduced formula, elements in order of electronegativity."""
        return format_formula(self.description.amounts)

    @property
    def space_group_number(self) -> int:
        """Number in the International Tables."""
        return self.description.space_group

    @property
    def space_group(self) -> str:
        """Hermann-Mauguin symbol, such as 'P4_2/mnm'."""
        return space_group_symbol(self.description.space_group)

    @property
    def formula_units(self) -> int:
        """Z of the conventional cell."""
        return self.description.formula_units * space_group(self.description.space_group).centring_order

    @property
    def density(self) -> float:
        """Mass density in g/cm3."""
        return density_of(self.cell)

    @property
    def energy_above_hull(self) -> float | None:
        """In eV per atom, by the potential; None where there is none."""
        return None if self.energy is None else self.energy.above_hull

    @property
    def log_probability(self) -> float | None:
        """Natural logarithm of the model's probability of the free choices of the text; None if it was not drawn."""
        return None if self.attempt is None else self.attempt.log_probability

    @property
    def origin(self) -> str:
        """Where it comes from: 'mp-2657, observed', 'like SrTiO3' (a known crystal that the draw followed), 'new',
        'search'."""
        if self.known is not None:
            observed = {True: ", observed", False: ", computed", None: ""}[self.known.observed]
            return f"{self.known.id}{observed}"
        if self.searched_from is not None and self.attempt is None:
            return "search"
        followed = None if self.attempt is None else self.attempt.followed
        return "new" if followed is None else f"like {followed.formula}"

    @cached_property
    def cell(self) -> Cell:
        """All atoms of the conventional cell."""
        return expand(self.description)

    @cached_property
    def structure(self) -> Structure:
        """The conventional cell as a pymatgen structure."""
        return self.cell.to_structure()

    @cached_property
    def cif(self) -> str:
        """A complete CIF with symmetry."""
        return write_cif(self.description)

    @cached_property
    def checks(self) -> Checks:
        """The reference checks, as `crystallm eval validity` makes them."""
        from crystallm.crystal.checks.validity import check_cif

        return check_cif(self.cif)

    def to_ase(self) -> Atoms:
        """The conventional cell as ASE's Atoms, with what is known of it in `info`.

        Returns:
            Atoms with positions in angstrom; `info` holds formula, space group, probability, energy above hull, origin.
        """
        from ase import Atoms

        info = {
            "formula": self.formula,
            "space_group": self.space_group_number,
            "probability": self.probability,
            "energy_above_hull": self.energy_above_hull,
            "origin": self.origin,
        }
        cell = self.cell
        return Atoms(
            numbers=cell.numbers,
            cell=cell.lattice,
            scaled_positions=cell.positions,
            pbc=True,
            info={key: value for key, value in info.items() if value is not None},
        )

    def save(self, path: Path | str) -> Path:
        """Write the crystal to a file; the name says the format.

        Args:
            path: NAME.cif, NAME.poscar or NAME.vasp, NAME.extxyz, NAME.json (pymatgen).

        Returns:
            The path.

        Raises:
            InputError: the name ends otherwise, or the file cannot be written.
        """
        return save(self, Path(path))

    def uncompared(self) -> Crystal:
        """The same crystal with the flag `NOT_COMPARED`, once."""
        return self if NOT_COMPARED in self.flags else replace(self, flags=(*self.flags, NOT_COMPARED))

    def __repr__(self) -> str:
        chance = "" if self.probability is None else f", {100 * self.probability:.0f} %"
        return (
            f"Crystal({self.formula}, {self.space_group} ({self.space_group_number}), Z={self.formula_units}, "
            f"{self.density:.2f} g/cm3{chance}, {self.origin})"
        )

    def _repr_html_(self) -> str:
        return Crystals([self])._repr_html_()


NOT_COMPARED = "may equal another: comparing them ran out of time"
"""Flag of a crystal that stands alone because it could not be compared with every other."""


class Crystals(list[Crystal]):
    """A list of `Crystal` in the order of their ranking; a notebook shows it as a table.

    Example:
        >>> from crystallm import known
        >>> found = known("NaCl")
        >>> sum(crystal.probability for crystal in found) <= 1 + 1e-9
        True
    """

    def _repr_html_(self) -> str:
        titles = ("", "chance %", "formula", "phase", "Z", "g/cm3", "meV above hull", "origin")
        rows = [
            (
                str(place),
                percent(crystal.probability),
                crystal.formula,
                f"{crystal.space_group} ({crystal.space_group_number})",
                str(crystal.formula_units),
                f"{crystal.density:.2f}",
                above_hull(crystal),
                crystal.origin,
            )
            for place, crystal in enumerate(self, start=1)
        ]
        head = "".join(f"<th>{title}</th>" for title in titles)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def percent(probability: float | None) -> str:
    """A chance in percent, '<1' for what would be rounded to nothing."""
    if probability is None:
        return "-"
    return "<1" if 0 < probability < 0.005 else f"{100 * probability:.0f}"


def above_hull(crystal: Crystal) -> str:
    """Energy above the hull in meV per atom; why not, where there is none."""
    height = crystal.energy_above_hull
    return "-" if height is None else f"{round(1000 * height):d}"


def rank(attempts: Iterable[Attempt], *, merge: bool = True) -> list[Crystal]:
    """Distinct crystals of finished draws, those of the most probable protostructure first; each stands for all draws
    that match it.

    Of draws that match, the one of median volume is kept: matching leaves the scale open, and the draws scatter around
    it (docs/sample.md). merge: False keeps every finished draw as a crystal of its own.
    """
    finished = [a for a in attempts if a.description is not None]
    finished.sort(key=lambda a: a.order)
    crystals = [Crystal(a.prompt, a.description, a) for a in finished if a.description is not None]
    if not merge:
        return crystals
    if len(crystals) < 2:
        return crystals
    from crystallm.crystal.matching.duplicates import group_duplicates  # with its compiled loops

    found = group_duplicates([crystal.structure for crystal in crystals])
    kept = []
    for group in found.groups:
        best = crystals[_of_median_volume(crystals, group)]
        one = replace(best, count=len(group))
        kept.append(one.uncompared() if found.undecided & set(group) else one)
    return sorted(kept, key=by_draw)


def by_draw(crystal: Crystal) -> tuple[float, float, int]:
    """Sorts crystals as their draws; those that were not drawn come last."""
    return (float("inf"), 0.0, 0) if crystal.attempt is None else crystal.attempt.order


def _of_median_volume(crystals: Sequence[Crystal], group: Sequence[int]) -> int:
    """Of a group of crystals, most probable first, the one whose volume per atom is nearest to the median."""
    volumes = {place: crystals[place].cell.volume / len(crystals[place].cell) for place in group}
    median = float(np.median(list(volumes.values())))
    return min(group, key=lambda place: round(abs(volumes[place] - median), 3))  # cubic angstrom
