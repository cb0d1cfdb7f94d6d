"""Pictures of crystals for reports, drawn with matplotlib alone: a cell with its atoms, seen a little from the side."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crystallm.base.whole_file import save_figure
from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.cif import read_cif
from crystallm.crystal.description import describe, expand
from crystallm.crystal.formulas.composition import symbol_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

logger = logging.getLogger(__name__)

BOUNDARY = 0.03
"""Atoms within this fraction of a face are drawn on the opposite face, too, as textbooks do."""

RADIUS_SCALE = 0.45
"""Drawn radius over the covalent one, so that the cell can be seen through."""

VIEW_DEGREES = (12.0, 22.0)
"""Tilt about the horizontal and turn about the vertical axis."""

LARGEST_CELL = 200
"""Atoms beyond which a cell is not drawn: circles on top of each other show nothing."""


def conventional(cif: str) -> Cell | Rejection:
    """The crystal of a CIF in its canonical conventional cell, in which equal crystals look equal.

    Where no symmetry is found, the cell as given. Run it under a time limit on texts nobody vouches for.
    """
    cell = read_cif(cif)
    if isinstance(cell, Rejection):
        return cell
    description = describe(cell)
    return cell if isinstance(description, Rejection) else expand(description)


def draw_crystals(rows: Sequence[tuple[str, Sequence[tuple[str, Cell]]]], path: Path) -> bool:
    """Draw rows of titled crystals into the figure file `path`; whether a figure was made (it needs matplotlib).

    rows: label of the row, and its crystals with their titles. Rows may differ in length; empty ones are left out.
    """
    rows = [(label, crystals) for label, crystals in rows if crystals]
    try:
        from matplotlib.figure import Figure
    except ImportError:
        logger.info("no pictures of crystals: install crystallm[train] for them")
        return False
    if not rows:
        return False
    columns = max(len(crystals) for _, crystals in rows)
    figure = Figure(figsize=(2.4 * columns, 2.7 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes_row, (label, crystals) in zip(grid, rows, strict=True):
        for place, axes in enumerate(axes_row):
            axes.set_axis_off()
            if place < len(crystals):
                title, cell = crystals[place]
                told = f"{label}\n{title}" if place == 0 else f"\n{title}"
                axes.set_title(told, fontsize=8, loc="left", parse_math=False)  # an id may hold dollar signs
                draw_cell(axes, cell)
    save_figure(figure, path, dpi=130)
    return True


def draw_cell(axes: Axes, cell: Cell) -> None:
    """Draw one cell: its edges, and its atoms as circles in the usual colours (Jmol), nearer ones on top."""
    from ase.data import covalent_radii
    from ase.data.colors import jmol_colors
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Circle

    axes.set_aspect("equal")
    to_screen = cell.lattice @ view_matrix()
    corners = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    edges = [(a, b) for a, b in itertools.combinations(corners, 2) if np.abs(a - b).sum() == 1]
    lines = [((a @ to_screen)[:2], (b @ to_screen)[:2]) for a, b in edges]
    axes.add_collection(LineCollection(lines, colors="0.6", linewidths=0.7, zorder=0))
    positions, numbers = with_boundary(cell)
    places = positions @ to_screen
    for place, number in sorted(zip(places.tolist(), numbers.tolist(), strict=True), key=lambda pair: pair[0][2]):
        radius = RADIUS_SCALE * float(covalent_radii[number])
        style: dict[str, Any] = {"facecolor": jmol_colors[number], "edgecolor": "0.2", "linewidth": 0.5}
        axes.add_patch(Circle(place[:2], radius, zorder=1, **style))
    for number in sorted(cell.amounts):  # a legend of the elements
        axes.scatter([], [], color=[jmol_colors[number]], edgecolors="0.2", linewidths=0.5, label=symbol_of(number))
    axes.legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=4, frameon=False, handletextpad=0.1)
    outline = np.concatenate([places[:, :2], (corners @ to_screen)[:, :2]])
    margin = RADIUS_SCALE * float(max(covalent_radii[number] for number in cell.amounts)) + 0.1
    axes.set_xlim(outline[:, 0].min() - margin, outline[:, 0].max() + margin)
    axes.set_ylim(outline[:, 1].min() - margin, outline[:, 1].max() + margin)


def with_boundary(cell: Cell) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Fractional positions (M, 3) and atomic numbers (M,) of the atoms in the cell and on all of its faces."""
    wrapped = cell.positions - np.floor(cell.positions)
    found, numbers = [], []
    for shift in itertools.product((-1, 0, 1), repeat=3):
        moved = wrapped + np.array(shift)
        inside = ((moved >= -BOUNDARY) & (moved <= 1 + BOUNDARY)).all(axis=1)
        found.append(moved[inside])
        numbers.append(cell.numbers[inside])
    return np.concatenate(found), np.concatenate(numbers)


def view_matrix() -> NDArray[np.float64]:
    """Rotation (3, 3) from Cartesian rows to the screen: right, up, towards the eye; c stands upright."""
    tilt, turn = np.radians(VIEW_DEGREES)
    about_c = np.array([[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    upright = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])  # x right, z up, -y towards the eye
    lean = np.array([[1, 0, 0], [0, np.cos(tilt), np.sin(tilt)], [0, -np.sin(tilt), np.cos(tilt)]])
    return np.asarray(about_c @ upright @ lean)
