"""Five decimals beside a text of four."""

from typing import Any

import pytest

from crystallm.crystal.cell import Cell
from crystallm.crystal.cif import read_cif
from crystallm.crystal.description import Description, Site, describe, expand
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.data.templates.deviation import deviation
from crystallm.data.templates.exact import EXACT, exact_numbers, residuals, rounded_numbers, with_residuals
from crystallm.tokenizer.layout import WYCKOFF

RUTILE = Description(
    parse_formula("TiO2"),
    2,
    136,
    (4.59373, 4.59373, 2.95868, 90, 90, 90),
    (Site("Ti", "a", ()), Site("O", "f", (0.30478,))),
)
"""Abrahams and Bernstein, J. Chem. Phys. 55, 3206 (1971), with a fifth decimal."""


def test_what_the_text_of_rutile_leaves_out() -> None:
    text = WYCKOFF.read(WYCKOFF.write(RUTILE))
    assert isinstance(text, Description)
    assert text.cell[:3] == (4.5937, 4.5937, 2.9587)
    left_out = residuals(RUTILE, text)
    assert left_out == bytes([3, 256 - 2, 256 - 2])
    assert with_residuals(text, left_out) == RUTILE


def test_coordinates_just_below_one_stay_there() -> None:
    moved = Description(parse_formula("TiO2"), 2, 136, RUTILE.cell, (Site("Ti", "a", ()), Site("O", "f", (0.99998,))))
    text = WYCKOFF.read(WYCKOFF.write(moved))
    assert isinstance(text, Description)
    assert text.sites[1].free == (0.0,)
    left_out = residuals(moved, text)
    assert left_out is not None
    assert with_residuals(text, left_out) == moved


def test_angles_take_two_bytes() -> None:
    oblique = Description(
        parse_formula("NaCl"),
        1,
        1,
        (4, 5, 6, 88.00495, 91.5, 102.12345),
        (Site("Na", "a", (0, 0, 0)), Site("Cl", "a", (0.5, 0.5, 0.5))),
    )
    text = WYCKOFF.read(WYCKOFF.write(oblique))
    assert isinstance(text, Description)
    left_out = residuals(oblique, text)
    assert left_out is not None
    assert len(left_out) == 3 + 6 + 6
    assert with_residuals(text, left_out) == oblique


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="2 bytes for numbers of 3"):
        with_residuals(RUTILE, b"\x00\x00")
    other = Description(parse_formula("TiO2"), 2, 136, RUTILE.cell, (Site("Ti", "b", ()), RUTILE.sites[1]))
    assert residuals(RUTILE, other) is None


def test_texts_of_five_decimals_are_read_back() -> None:
    assert EXACT.read(EXACT.write(RUTILE)) == RUTILE


def test_a_crystal_is_at_no_distance_from_its_description() -> None:
    assert deviation(expand(RUTILE), RUTILE) < 1e-9
    stretched = Description(RUTILE.amounts, 2, 136, (4.6, 4.6, 2.95868, 90, 90, 90), RUTILE.sites)
    assert deviation(expand(RUTILE), stretched) == pytest.approx(4.6 - 4.59373)
    bent = Description(RUTILE.amounts, 2, 136, RUTILE.cell, (RUTILE.sites[0], Site("O", "f", (0.30978,))))
    assert deviation(expand(RUTILE), bent) == pytest.approx(0.005 * 2**0.5 * 4.59373, rel=1e-6)
    polymorph = Description(RUTILE.amounts, 2, 62, RUTILE.cell, RUTILE.sites)
    assert deviation(expand(RUTILE), polymorph) == float("inf")


def test_no_crystal_is_farther_than_a_hundredth_from_its_source(rows: dict[str, dict[str, Any]]) -> None:
    """The promise: at most 0.01 angstrom, here for 51 rows of the corpus, 10 of which need a tighter tolerance."""
    described_again = 0
    for id_, row in rows.items():
        cell = read_cif(row["cif"])
        assert isinstance(cell, Cell)
        found = describe(cell)
        assert isinstance(found, Description)
        text = WYCKOFF.read(WYCKOFF.write(found))
        assert isinstance(text, Description)
        exact = exact_numbers(cell, text)
        assert exact is not None, id_
        assert exact.deviation <= 0.01, id_
        assert (exact.residuals is None) == (exact.text is not None)
        if exact.residuals is not None:
            assert with_residuals(text, exact.residuals) == rounded_numbers(found)
        described_again += exact.text is not None
    assert described_again == 10
