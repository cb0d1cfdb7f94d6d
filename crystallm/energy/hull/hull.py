"""Energy above a convex hull of reference energies; one potential, one hull.

`HullTable` is the packaged table: the lowest known energy of each reduced formula. At one composition the hull is the
optimum of a small linear program, which takes milliseconds where a phase diagram of five elements takes seconds.
`Hull` is a whole phase diagram, for references that are given.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from crystallm.base.errors import CheckpointError, InputError
from crystallm.base.whole_file import whole_file
from crystallm.crystal.formulas.composition import ELEMENTS, Amounts, format_formula
from crystallm.energy.hull.mixture import atom_fractions, fractions_of, lowest_mixture

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PhaseDiagram

Key = TypeVar("Key")

System = frozenset[str]
"""The elements of a chemical system."""

HULL_FILE = "hull.parquet"
"""The name of the table in the folder of an edition."""

NO_REFERENCE = "no reference energy of"
"""How the reason begins that names the elements without one."""

FORMAT = "1"
"""Version of the table; a reader refuses another."""

MASK_BYTES = 16
"""Bytes of a set of elements: bit Z - 1, lowest first, for atomic number Z."""

SCHEMA = pa.schema(
    [
        ("elements", pa.binary(MASK_BYTES)),
        ("formula", pa.string()),
        ("energy", pa.float32()),
        ("id", pa.string()),
        ("relaxed", pa.bool_()),
        ("dft_above_hull", pa.float32()),
        ("dft_id", pa.string()),
    ]
)


@dataclass(frozen=True)
class NoHull:
    """Why there is no hull for a chemical system."""

    reason: str


@dataclass(frozen=True)
class Product:
    """A phase into which a crystal would fall apart."""

    formula: str
    fraction: float
    """Of the atoms, 0 to 1."""
    id: str
    """Of the reference crystal."""
    relaxed: bool
    """Whether its energy is that of the relaxed crystal; otherwise the crystal was taken as its source has it."""


@dataclass(frozen=True)
class AboveHull:
    """Where a crystal lies relative to the mixture of known crystals with the lowest energy."""

    energy: float
    """eV per atom; negative where the crystal is lower than every known one."""
    products: tuple[Product, ...]
    """The mixture, largest fraction first; one phase of the same formula where that is stable."""

    @property
    def relaxed(self) -> bool:
        """Whether all references that were used are relaxed; if not, a relaxed crystal comes out a little too low."""
        return all(product.relaxed for product in self.products)


@dataclass(frozen=True)
class DftAboveHull:
    """The lowest energy above hull that density functional theory gives for a formula."""

    energy: float
    """eV per atom, as published by the source."""
    id: str
    """Of the crystal in its source."""


@dataclass(frozen=True)
class HullEntry:
    """One row of the table: a reduced formula with its lowest energy."""

    amounts: Amounts
    energy: float
    """eV per atom by the table's potential."""
    id: str
    relaxed: bool
    dft: DftAboveHull | None = None


@dataclass(frozen=True, eq=False)
class HullTable:
    """The lowest energy of every formula of an edition, by one potential.

    masks: (N, 2) bits of the elements. energies: (N,) eV per atom.
    """

    potential: str
    """Name and version of the potential; energies of another are not comparable."""
    masks: NDArray[np.uint64]
    energies: NDArray[np.float64]
    rows: pa.Table
    path: Path
    _mixtures: dict[Amounts, tuple[float, tuple[Product, ...]] | NoHull] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.energies)

    @classmethod
    def read(cls, path: Path | str) -> HullTable:
        """Read a table.

        Args:
            path: the file `hull.parquet` of an edition, or one that `crystallm energy table` has written.

        Returns:
            The table; about 20 ms for 100,000 formulas.

        Raises:
            CheckpointError: the file is missing, damaged, or no table of this project.

        Example:
            >>> table = HullTable.read("hull.parquet")  # doctest: +SKIP
            >>> table.above((("Na", 1), ("Cl", 1)), -3.38).energy  # doctest: +SKIP
            0.0
        """
        path = Path(path)
        remedy = "copy the file again, or make it with `crystallm energy table`"
        if not path.is_file():
            raise CheckpointError(f"there is no table of reference energies {path}; {remedy}")
        try:
            rows = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise CheckpointError(f"cannot read the reference energies {path}: {error}; {remedy}") from error
        about = rows.schema.metadata or {}
        if rows.schema.names != SCHEMA.names or list(rows.schema.types) != list(SCHEMA.types):
            raise CheckpointError(f"{path} is no table of reference energies; {remedy}")
        if about.get(b"format") != FORMAT.encode() or b"potential" not in about:
            raise CheckpointError(f"{path} is a table of another version; update crystallm, or {remedy}")
        rows = rows.combine_chunks()
        energies = rows["energy"].to_numpy().astype(np.float64)
        if not np.isfinite(energies).all():
            raise CheckpointError(f"{path} holds an energy that is no number; {remedy}")
        packed = pa.concat_arrays([*rows["elements"].chunks, pa.array([], pa.binary(MASK_BYTES))])
        masks = np.frombuffer(packed.buffers()[1] or b"", dtype="<u8")[: 2 * len(rows)].reshape(-1, 2)
        return cls(about[b"potential"].decode(), masks, energies, rows, path)

    def above(self, amounts: Amounts, energy_per_atom: float) -> AboveHull | NoHull:
        """Energy of a crystal above the hull of the table.

        Args:
            amounts: reduced formula, such as (("Na", 1), ("Cl", 1)).
            energy_per_atom: eV per atom by the table's potential, of the relaxed crystal where references are relaxed.

        Returns:
            The energy above hull in eV per atom with the phases that the crystal would fall apart into, or NoHull
            where an element has no reference energy.
        """
        if amounts not in self._mixtures:
            self._mixtures[amounts] = self._mixture(amounts)
        mixture = self._mixtures[amounts]
        if isinstance(mixture, NoHull):
            return mixture
        energy, products = mixture
        return AboveHull(energy_per_atom - energy, products)

    def dft(self, amounts: Amounts) -> DftAboveHull | None:
        """The published energy above hull of the most stable crystal of this reduced formula; None where unknown."""
        place = self._place(amounts)
        if place is None:
            return None
        row = self.rows.slice(place, 1).to_pylist()[0]
        if row["dft_above_hull"] is None:
            return None
        return DftAboveHull(float(row["dft_above_hull"]), row["dft_id"] or row["id"])

    def _place(self, amounts: Amounts) -> int | None:
        formula = format_formula(amounts)
        same = np.flatnonzero((self.masks == np.frombuffer(mask_of(amounts), dtype="<u8")).all(axis=1))
        names = self.rows["formula"].take(pa.array(same)).to_pylist()
        return int(same[names.index(formula)]) if formula in names else None

    def _mixture(self, amounts: Amounts) -> tuple[float, tuple[Product, ...]] | NoHull:
        places = inside(self.masks, np.frombuffer(mask_of(amounts), dtype="<u8"))
        formulas = self.rows["formula"].take(pa.array(places)).to_pylist()
        symbols = [symbol for symbol, _ in amounts]
        missing = sorted(set(symbols) - set(formulas))  # the reduced formula of an element is its symbol
        if missing:
            return NoHull(f"{NO_REFERENCE} {', '.join(missing)}")
        found = lowest_mixture(
            atom_fractions(formulas, symbols), self.energies[places], fractions_of(dict(amounts), symbols)
        )
        if found is None:
            return NoHull(f"the hull at {format_formula(amounts)} could not be found")
        energy, parts = found
        rows = self.rows.take(pa.array(places[list(parts)])).to_pylist()
        products = [
            Product(row["formula"], fraction, row["id"], row["relaxed"])
            for row, fraction in zip(rows, parts.values(), strict=True)
        ]
        return energy, tuple(sorted(products, key=lambda product: -product.fraction))


def write_table(path: Path, entries: Iterable[HullEntry], *, potential: str) -> None:
    """Write a table that `HullTable.read` reads.

    Args:
        path: where; a file already there is replaced only when the new one is whole.
        entries: one for each reduced formula.
        potential: name and version of the potential, such as `chgnet 0.4.2`.

    Raises:
        InputError: a formula stands twice, or the file cannot be written.
    """
    ordered = sorted(entries, key=lambda entry: (mask_of(entry.amounts), format_formula(entry.amounts)))
    for one, other in itertools.pairwise(ordered):
        if one.amounts == other.amounts:
            formula = format_formula(one.amounts)
            raise InputError(f"two reference energies of {formula}; give the lower one only")
    rows = [
        {
            "elements": mask_of(entry.amounts),
            "formula": format_formula(entry.amounts),
            "energy": entry.energy,
            "id": entry.id,
            "relaxed": entry.relaxed,
            "dft_above_hull": None if entry.dft is None else entry.dft.energy,
            # Most often the crystal of the lowest energy is the same one; an empty cell takes no space.
            "dft_id": None if entry.dft is None or entry.dft.id == entry.id else entry.dft.id,
        }
        for entry in ordered
    ]
    schema = SCHEMA.with_metadata({"format": FORMAT, "potential": potential})
    with whole_file(path) as partial:
        pq.write_table(
            pa.Table.from_pylist(rows, schema=schema),
            partial,
            compression="zstd",
            compression_level=19,
            use_dictionary=["elements"],
            # Four streams of bytes compress better than numbers one after the other.
            column_encoding={
                "formula": "DELTA_BYTE_ARRAY",
                "id": "DELTA_BYTE_ARRAY",
                "dft_id": "DELTA_BYTE_ARRAY",
                "energy": "BYTE_STREAM_SPLIT",
                "dft_above_hull": "BYTE_STREAM_SPLIT",
            },
            write_statistics=False,
        )


def inside(masks: NDArray[np.uint64], mask: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Rows of `masks` (N, W) whose elements are all among those of one mask (W,), W words of bits."""
    foreign = masks[:, 0] & ~mask[0]
    for word in range(1, len(mask)):
        foreign |= masks[:, word] & ~mask[word]
    return np.flatnonzero(foreign == 0)


def mask_of(amounts: Amounts) -> bytes:
    """The elements of a formula as bits."""
    return sum(1 << _BIT[symbol] for symbol, _ in amounts).to_bytes(MASK_BYTES, "little")


_BIT = {symbol: place for place, symbol in enumerate(ELEMENTS)}


@dataclass(frozen=True)
class Hull(Generic[Key]):
    """The lower convex hull of a chemical system."""

    diagram: PhaseDiagram

    def above(self, amounts: Amounts, energy_per_atom: float) -> float:
        """Energy of a crystal above the hull in eV per atom; negative where it would be a new vertex."""
        from pymatgen.core import Composition

        composition = Composition(dict(amounts))
        return float(energy_per_atom - self.diagram.get_hull_energy_per_atom(composition))

    def below(self, amounts: Amounts) -> list[Key]:
        """The references into which a crystal of this composition would fall apart: they make the hull there."""
        from pymatgen.core import Composition

        return [entry.attribute for entry in self.diagram.get_decomposition(Composition(dict(amounts)))]


def make_hull(system: System, energies: Iterable[tuple[Key, Amounts, float]]) -> Hull[Key] | NoHull:
    """The hull of a system from (key, reduced formula, eV per atom) of references inside it.

    Each element needs a reference of its own: there is no formation energy without it.
    """
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Composition, Element

    entries = []
    for key, amounts, energy in energies:
        composition = Composition(dict(amounts))
        entries.append(PDEntry(composition, energy * composition.num_atoms, attribute=key))
    known = {next(iter(entry.composition)).symbol for entry in entries if len(entry.composition) == 1}
    missing = sorted(system - known)
    if missing:
        return NoHull(f"{NO_REFERENCE} {', '.join(missing)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns about electronegativities of noble gases
        return Hull(PhaseDiagram(entries, elements=[Element(symbol) for symbol in sorted(system)]))


def formulas_by_system(formulas: Iterable[Amounts], systems: Iterable[System]) -> Mapping[System, list[Amounts]]:
    """For each system the formulas made of its elements only."""
    grouped: dict[System, list[Amounts]] = {}
    for amounts in formulas:
        grouped.setdefault(frozenset(symbol for symbol, _ in amounts), []).append(amounts)
    return {
        system: [amounts for inner, found in grouped.items() if inner <= system for amounts in found]
        for system in set(systems)
    }
