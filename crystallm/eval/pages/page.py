"""A report as one HTML file that works offline: table, figures inside the file, crystals that can be turned."""

from __future__ import annotations

import base64
import html
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crystallm.crystal.cell import Cell
from crystallm.crystal.formulas.composition import symbol_of
from crystallm.eval.pages.pictures import RADIUS_SCALE, with_boundary
from crystallm.eval.rate import Rate

TEMPLATE = Path(__file__).with_name("viewer.html")


def html_page(
    title: str,
    rates: Mapping[str, tuple[Rate, str]],
    figures: Sequence[Path],
    rows: Sequence[tuple[str, Sequence[tuple[str, Cell]]]],
) -> str:
    """The page: rates with their meaning, PNG figures, and rows of titled crystals in three dimensions."""
    lines = ["<table><tr><th></th><th>rate</th><th>meaning</th></tr>"]
    lines += [
        f"<tr><td>{html.escape(name)}</td><td>{rate.with_interval()}</td><td>{html.escape(meaning)}</td></tr>"
        for name, (rate, meaning) in rates.items()
    ]
    lines.append("</table>")
    for path in figures:
        content = base64.b64encode(path.read_bytes()).decode("ascii")
        lines.append(f'<p><img alt="{html.escape(path.stem)}" src="data:image/png;base64,{content}"></p>')
    crystals = [
        {"label": label, "crystals": [crystal_data(name, cell) for name, cell in found]}
        for label, found in rows
        if found
    ]
    data = in_script(crystals)
    parts = {"TITLE": html.escape(title), "BODY": "\n".join(lines), "DATA": data}
    return re.sub("@@([A-Z]+)@@", lambda found: parts[found[1]], TEMPLATE.read_text(encoding="utf-8"))


def in_script(value: Any) -> str:
    """A value as JSON that can stand in a script element, whatever names of strangers it holds.

    `</script>` would end the element, and `<!--` with `<script` keep the true end from being seen; so no `<` stands
    there at all.

    Example:
        >>> in_script("</script>")
        '"\\\\u003c/script\\\\u003e"'
    """
    return json.dumps(value).translate({ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"})


def crystal_data(title: str, cell: Cell) -> dict[str, Any]:
    """What the page draws of a crystal: atoms on its faces included, in angstrom about the middle of the cell."""
    from ase.data import covalent_radii
    from ase.data.colors import jmol_colors

    def color(number: int) -> str:
        return "#" + "".join(f"{round(255 * share):02x}" for share in jmol_colors[number])

    positions, numbers = with_boundary(cell)
    middle = cell.lattice.sum(axis=0) / 2
    places = (positions @ cell.lattice - middle).round(4)
    corners = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    edges = [(a, b) for a, b in itertools.combinations(corners, 2) if np.abs(a - b).sum() == 1]
    return {
        "title": title,
        "radius": round(float(np.linalg.norm(corners @ cell.lattice - middle, axis=1).max()) + 0.8, 4),
        "edges": [[(end @ cell.lattice - middle).round(4).tolist() for end in edge] for edge in edges],
        "atoms": [
            {"at": place, "radius": round(RADIUS_SCALE * float(covalent_radii[number]), 4), "color": color(number)}
            for place, number in zip(places.tolist(), numbers.tolist(), strict=True)
        ],
        "legend": [[symbol_of(number), color(number)] for number in sorted(cell.amounts)],
    }
