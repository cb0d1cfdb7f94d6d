"""Pictures of crystals: what is drawn is what a textbook draws."""

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Structure

from crystallm.crystal.cell import Cell, Rejection
from crystallm.eval.pages.page import crystal_data, html_page
from crystallm.eval.pages.pictures import conventional, draw_crystals, view_matrix, with_boundary
from crystallm.eval.rate import Rate


def test_atoms_on_faces_are_drawn_on_all_of_them(crystals: dict[str, Structure]) -> None:
    positions, numbers = with_boundary(Cell.from_structure(crystals["CsCl"]))
    assert sorted(numbers.tolist()) == [17] + [55] * 8  # caesium on the eight corners, chlorine once inside
    assert {tuple(point) for point in positions[numbers == 55].round().tolist()} == {
        (float(x), float(y), float(z)) for x in (0, 1) for y in (0, 1) for z in (0, 1)
    }
    # Rock salt as textbooks draw it: 14 of one kind (corners and faces), 13 of the other (edges and centre).
    _, numbers = with_boundary(Cell.from_structure(crystals["NaCl"]))
    assert sorted(np.unique(numbers, return_counts=True)[1].tolist()) == [13, 14]


def test_the_view_is_a_rotation_with_c_upright() -> None:
    view = view_matrix()
    assert view @ view.T == pytest.approx(np.eye(3))
    assert np.linalg.det(view) == pytest.approx(1)
    right, up, _ = np.array([0, 0, 1.0]) @ view
    assert (right, up) == (pytest.approx(0), pytest.approx(np.cos(np.radians(12))))


def test_equal_crystals_look_equal(cifs: dict[str, str], crystals: dict[str, Structure]) -> None:
    primitive = crystals["NaCl"].get_primitive_structure()
    from_conventional, from_primitive = conventional(cifs["NaCl"]), conventional(primitive.to(fmt="cif"))
    assert isinstance(from_conventional, Cell)
    assert isinstance(from_primitive, Cell)
    assert len(from_conventional) == len(from_primitive) == 8
    assert from_primitive.lengths == pytest.approx(from_conventional.lengths, rel=1e-4)
    assert isinstance(conventional("data_x"), Rejection)


def test_a_figure_is_written_unless_there_is_nothing_to_draw(tmp_path: Path, crystals: dict[str, Structure]) -> None:
    rows = [("generated", [(name, Cell.from_structure(crystals[name])) for name in ("NaCl", "TiO2")]), ("true", [])]
    assert draw_crystals(rows, tmp_path / "crystals.png")
    assert (tmp_path / "crystals.png").read_bytes().startswith(b"\x89PNG")
    assert not draw_crystals([("generated", [])], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


@pytest.mark.parametrize(
    "name", ["</script><b>odd</b>", "</SCRIPT >", "<!--<script>", "]]>", "' onerror='1", '" onerror="1', "&lt;", "$x_"]
)
def test_the_page_holds_its_crystals_and_escapes_what_others_wrote(
    name: str, crystals: dict[str, Structure], tmp_path: Path
) -> None:
    """Harmless marks of what would run, or end the script, if it were written as it is."""
    rows = [("generated", [(name, Cell.from_structure(crystals["CsCl"]))]), ("true", [])]
    figure = tmp_path / 'a" onerror="1.png'
    figure.write_bytes(b"")
    page = html_page(f"A <title>{name}", {"a & b": (Rate(1, 2), "x < y"), name: (Rate(0, 1), name)}, [figure], rows)
    assert f"<h1>A &lt;title&gt;{html.escape(name)}</h1>" in page
    assert f"<td>{html.escape(name)}</td>" in page
    assert '" onerror="' not in page
    assert page.lower().count("</script") == 2
    assert "<!--" not in page
    assert "<td>a &amp; b</td><td>1/2 (50.0%" in page
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, flags=re.DOTALL)
    assert found is not None
    (row,) = json.loads(found[1])
    assert (row["label"], row["crystals"][0]["title"], len(row["crystals"][0]["atoms"])) == ("generated", name, 9)


def test_crystals_are_centred_for_the_page(crystals: dict[str, Structure]) -> None:
    data = crystal_data("CsCl", Cell.from_structure(crystals["CsCl"]))
    assert len(data["edges"]) == 12
    assert np.array([atom["at"] for atom in data["atoms"]]).mean(axis=0) == pytest.approx(np.zeros(3), abs=1e-6)
    assert data["radius"] == pytest.approx(4.123 * np.sqrt(3) / 2 + 0.8, abs=1e-3)
    assert [symbol for symbol, _ in data["legend"]] == ["Cl", "Cs"]
