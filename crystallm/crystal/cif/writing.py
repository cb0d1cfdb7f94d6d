"""Writing a description as a complete standard CIF."""

from __future__ import annotations

from functools import cache

import gemmi
import numpy as np

from crystallm.crystal.cell import Cell, parameters_of, volume_of
from crystallm.crystal.cif.cell_items import CELL_ITEMS
from crystallm.crystal.description import Description
from crystallm.crystal.formulas.composition import format_formula, symbol_of
from crystallm.crystal.symmetry import hermann_mauguin
from crystallm.crystal.wyckoff import GRID, space_group


def write_cif(description: Description) -> str:
    """A complete CIF of a description: symmetry operators, asymmetric unit with multiplicities and Wyckoff letters,
    formula lines, volume and Z of the conventional cell.

    Args:
        description: What `describe` gives, or `Crystal.description`.

    Returns:
        The text; lengths in angstrom, angles in degrees, eight decimals of fractional coordinates.

    Example:
        >>> from crystallm import known, read_cif, write_cif
        >>> text = write_cif(known("NaCl")[0].description)
        >>> text.splitlines()[0], len(read_cif(text))
        ('data_NaCl', 8)
    """
    group = space_group(description.space_group)
    formula_units = description.formula_units * group.centring_order
    formula = format_formula(description.amounts)
    lines = [
        f"data_{formula}",
        f"_chemical_formula_structural   {formula}",
        "_chemical_formula_sum   "
        + repr(" ".join(f"{symbol}{amount * formula_units}" for symbol, amount in description.amounts)),
        f"_cell_formula_units_Z   {formula_units}",
        f"_space_group_name_H-M_alt   {hermann_mauguin(group.number)!r}",
        f"_space_group_IT_number   {group.number}",
        *(f"_cell_{item}   {value:.6f}" for item, value in zip(CELL_ITEMS, description.cell, strict=True)),
        f"_cell_volume   {volume_of(description.cell):.6f}",
        _operator_loop(group.number),
        "loop_",
        "_atom_site_label",
        "_atom_site_type_symbol",
        "_atom_site_symmetry_multiplicity",
        "_atom_site_Wyckoff_symbol",
        "_atom_site_fract_x",
        "_atom_site_fract_y",
        "_atom_site_fract_z",
        "_atom_site_occupancy",
    ]
    seen: dict[str, int] = {}
    for site in description.sites:
        seen[site.element] = seen.get(site.element, 0) + 1
        position = group.positions[site.letter]
        point = position.point(site.free) % 1.0
        x, y, z = (f"{0.0 if value > 1 - 1e-9 else value:.8f}" for value in point)
        label = f"{site.element}{seen[site.element]}"
        lines.append(f"{label} {site.element} {position.multiplicity} {site.letter} {x} {y} {z} 1")
    return "\n".join(lines) + "\n"


def write_atoms(cell: Cell, name: str = "atoms") -> str:
    """A CIF that lists all atoms of a cell and states nothing else, not even a formula.

    Args:
        cell: Any cell.
        name: Of the block.

    Example:
        >>> write_atoms(Cell(np.eye(3) * 3.35, np.zeros((1, 3)), np.array([84]))).splitlines()[-1]
        'Po1 Po 0.0000000000 0.0000000000 0.0000000000'
    """
    parameters = zip(CELL_ITEMS, parameters_of(cell.lattice), strict=True)
    tags = ("label", "type_symbol", "fract_x", "fract_y", "fract_z")
    sites = zip(map(symbol_of, cell.numbers.tolist()), cell.positions.tolist(), strict=True)
    return "\n".join(
        [
            f"data_{name}",
            *(f"_cell_{item} {value:.10f}" for item, value in parameters),
            "_space_group_name_H-M_alt 'P 1'",
            "loop_",
            *(f"_atom_site_{tag}" for tag in tags),
            *(
                f"{symbol}{n} {symbol} {x:.10f} {y:.10f} {z:.10f}"
                for n, (symbol, (x, y, z)) in enumerate(sites, start=1)
            ),
            "",
        ]
    )


@cache
def _operator_loop(number: int) -> str:
    operations = (f"{place} {triplet!r}" for place, triplet in enumerate(operators(number), start=1))
    return "\n".join(["loop_", "_space_group_symop_id", "_space_group_symop_operation_xyz", *operations])


@cache
def operators(number: int) -> tuple[str, ...]:
    """Symmetry operators of a space group in the standard setting, as CIF triplets, identity first."""
    group = space_group(number)
    triplets = []
    for rotation, translation in zip(group.rotations, group.translations, strict=True):
        operation = gemmi.Op()
        operation.rot = (np.rint(rotation) * gemmi.Op.DEN).astype(int).tolist()
        operation.tran = [round(t * GRID) * gemmi.Op.DEN // GRID % gemmi.Op.DEN for t in translation.tolist()]
        triplets.append(operation.triplet())
    return tuple(triplets)
