"""Energies of anyone's crystals, and where they lie above the hull of known ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crystallm.base.errors import InputError
from crystallm.base.input_files import MAX_FILE_MB, check_limit, texts
from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.cif import read_cif
from crystallm.crystal.cif.text.several import named_parts
from crystallm.crystal.formulas.composition import Amounts, format_formula, reduce_amounts, symbol_of
from crystallm.energy.hull.hull import HULL_FILE, AboveHull, DftAboveHull, HullTable, NoHull, Product
from crystallm.energy.potentials.by_name import load_potential
from crystallm.energy.potentials.protocol import CHGNET, NoEnergy, Potential
from crystallm.model.checkpoint import default_folder
from crystallm.model.editions import Edition

BATCH = 16
"""Crystals whose energies are computed together, and shown together."""

LOWEST_EV = -1.0
"""Further below the hull in eV per atom no crystal is: the potential has left the range that it was fitted to."""


@dataclass(frozen=True)
class CrystalEnergy:
    """What a potential says of a crystal."""

    name: str
    formula: str
    atoms: int
    """In the cell given."""
    potential: str
    energy: float | None = None
    """eV per atom."""
    above_hull: float | None = None
    """eV per atom above the hull of known crystals; negative where it is lower than all of them."""
    products: tuple[Product, ...] = ()
    """The known crystals of that hull: what it would fall apart into."""
    references_relaxed: bool | None = None
    """Whether all of them are relaxed by the potential; None where there is no hull."""
    dft: DftAboveHull | None = None
    """Published energy above hull of the most stable crystal of the same formula."""
    reason: str = ""
    """Why there is no energy, or no energy above hull."""

    def to_json(self) -> dict[str, Any]:
        """All fields as a JSON object; energies in eV per atom."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class NamedCell:
    """A crystal of a source; `cell` says why where it could not be read."""

    name: str
    cell: Cell | Rejection


def read_crystals(
    paths: Iterable[Path | str], *, trust_atoms: bool = False, max_file_mb: float = MAX_FILE_MB
) -> list[NamedCell]:
    """The crystals of CIF files, packed or not, and of folders and archives of them.

    Args:
        paths: files, folders and archives; the order is kept, what a folder or zip holds is sorted by name.
        trust_atoms: of a CIF whose formula sum, Z or multiplicities contradict its atoms, take the atoms.
        max_file_mb: a file or member of an archive with more megabytes than these is refused.

    Raises:
        InputError: A path does not exist, or there is no CIF at all.
    """
    check_limit(max_file_mb)
    found: list[NamedCell] = []
    for path in map(Path, paths):
        if not path.exists() and not path.is_symlink():
            raise InputError(f"{path} does not exist; give CIF files, or folders that hold some")
        for file, text in texts(path, max_file_mb=max_file_mb):
            for name, part in named_parts(file, text):
                cell = part if isinstance(part, Rejection) else read_cif(part, trust_atoms=trust_atoms)
                found.append(NamedCell(name, cell))
    if not found:
        raise InputError("there is no CIF; give .cif files, or folders that hold some")
    return found


def named(crystals: Iterable[Cell | Path | str]) -> list[NamedCell]:
    """Cells, files and folders as crystals with names; a cell is called by its place."""
    found: list[NamedCell] = []
    for number, crystal in enumerate(crystals):
        found += [NamedCell(str(number), crystal)] if isinstance(crystal, Cell) else read_crystals([crystal])
    return found


def edition_hull(edition: Edition = "full") -> HullTable | NoHull:
    """The table of reference energies of an edition; NoHull where this installation ships none.

    Raises:
        CheckpointError: The table is damaged.
    """
    path = default_folder(edition) / HULL_FILE
    if not path.exists():
        return NoHull(f"the {edition} edition has no {HULL_FILE}; install crystallm again")
    return HullTable.read(path)


def energy_above_hull(
    crystals: Sequence[Cell | Path | str],
    *,
    potential: str | Potential = CHGNET,
    edition: Edition = "full",
    hull: HullTable | None = None,
) -> list[CrystalEnergy]:
    """Energies of crystals as they are, and where they lie above the hull of known crystals.

    Args:
        crystals: Cells, CIF files, or folders of CIFs.
        potential: `chgnet`, `sevenn`, `package.module:callable` that returns an ASE calculator, or a loaded one.
        edition: Whose known crystals make the hull, `full` or `benchmark`.
        hull: Another table than the edition's.

    Returns:
        One for each crystal, in order, in eV per atom; a reason where there is no number.

    Raises:
        ConfigError: The potential is not installed.
        InputError: A file does not exist.
        CheckpointError: The table is damaged.

    Example:
        >>> from crystallm import energy_above_hull, known
        >>> (found,) = energy_above_hull([known("NaCl")[0].cell])
        >>> found.formula, found.potential[:6], 0 <= found.above_hull < 0.01
        ('NaCl', 'chgnet', True)
    """
    loaded = load_potential(potential) if isinstance(potential, str) else potential
    return list(energies_of(named(crystals), loaded, edition_hull(edition) if hull is None else hull))


def energies_of(
    crystals: Sequence[NamedCell], potential: Potential, hull: HullTable | NoHull
) -> Iterator[CrystalEnergy]:
    """The energy of each crystal, a few at a time, so that what is done can be shown."""
    for start in range(0, len(crystals), BATCH):
        some = crystals[start : start + BATCH]
        values = iter(potential.energies([one.cell for one in some if isinstance(one.cell, Cell)]))
        for one in some:
            if isinstance(one.cell, Rejection):
                yield CrystalEnergy(one.name, "", 0, potential.name, reason=str(one.cell))
            else:
                yield place(one.name, one.cell, next(values), potential.name, hull)


def place(name: str, cell: Cell, energy: float | NoEnergy, potential: str, hull: HullTable | NoHull) -> CrystalEnergy:
    """Where an energy in eV per atom lies above a hull, or why it does not."""
    amounts = amounts_of(cell)
    formula, dft = format_formula(amounts), None if isinstance(hull, NoHull) else hull.dft(amounts)
    if isinstance(energy, NoEnergy):
        detail = f" ({energy.detail})" if energy.detail else ""
        return CrystalEnergy(name, formula, len(cell), potential, dft=dft, reason=f"{energy.reason}{detail}")
    found = above(hull, amounts, energy, potential)
    if isinstance(found, NoHull):
        return CrystalEnergy(name, formula, len(cell), potential, energy, dft=dft, reason=found.reason)
    return CrystalEnergy(name, formula, len(cell), potential, energy, found.energy, found.products, found.relaxed, dft)


def above(hull: HullTable | NoHull, amounts: Amounts, energy: float, potential: str) -> AboveHull | NoHull:
    """Where an energy in eV per atom by a potential lies above a hull; NoHull where it cannot be said.

    Energies of one potential lie on a hull of another by chance only.
    """
    if isinstance(hull, NoHull):
        return hull
    if potential.split(" ")[0] != hull.potential.split(" ")[0]:
        return NoHull(f"the reference energies are those of {hull.potential}")
    found = hull.above(amounts, energy)
    if isinstance(found, AboveHull) and found.energy < LOWEST_EV:
        return NoHull(f"more than {-LOWEST_EV:g} eV per atom below all known crystals: not to be trusted")
    return found


def amounts_of(cell: Cell) -> Amounts:
    """Reduced formula of a cell."""
    return reduce_amounts({symbol_of(number): count for number, count in cell.amounts.items()})
