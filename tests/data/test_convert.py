from types import SimpleNamespace

import numpy as np
import pytest

from crystallm.crystal.cell import Cell, Reason, Rejection
from crystallm.data.config import PrepareConfig
from crystallm.data.preparing.convert import Row, closer_than, convert, read_structure
from crystallm.data.sources.readers import Entry, Form


def converted(text: str, **options: object) -> Row | Rejection:
    config = PrepareConfig(sources=("here",), out="there", **options)  # type: ignore[arg-type]
    return convert(Entry("x", Form.CIF, text), config)


def test_rutile_becomes_23_tokens(cifs: SimpleNamespace) -> None:
    row = converted(cifs.rutile)
    assert isinstance(row, Row)
    assert row.traits.space_group == 136
    assert row.traits.n_sites == 6
    assert row.traits.reduced_formula == "TiO2"
    assert row.n_tokens == 23
    assert row.text.endswith("\nTi a\nO f 0.3053\n#END")
    assert row.traits.volume_per_atom == pytest.approx(4.5937**2 * 2.9587 / 6)


def test_layout_of_the_published_models(cifs: SimpleNamespace) -> None:
    row, usual = converted(cifs.rutile, layout="crystallm"), converted(cifs.rutile)
    assert isinstance(row, Row)
    assert isinstance(usual, Row)
    assert row.n_tokens == 254
    assert row.text.startswith("data_Ti2O4\nloop_\n_atom_type_symbol\n")
    assert row.traits == usual.traits  # duplicates are found whatever the text


def test_another_setting_and_a_supercell_give_the_same_text(cifs: SimpleNamespace) -> None:
    assert converted(cifs.rutile_moved).text == converted(cifs.rutile).text  # type: ignore[union-attr]
    assert converted(cifs.rock_salt_supercell).text == converted(cifs.rock_salt).text  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("disordered", Reason.DISORDERED),
        ("unknown_species", Reason.UNKNOWN_SPECIES),
        ("too_close", Reason.ATOMS_TOO_CLOSE),
        ("truncated", Reason.UNREADABLE),
    ],
)
def test_bad_cif_is_refused_with_its_reason(cifs: SimpleNamespace, name: str, reason: Reason) -> None:
    refused = converted(getattr(cifs, name))
    assert isinstance(refused, Rejection)
    assert refused.reason is reason


def test_limits(cifs: SimpleNamespace) -> None:
    assert converted(cifs.rutile, max_sites=5).reason is Reason.TOO_MANY_SITES  # type: ignore[union-attr]
    assert isinstance(converted(cifs.rutile, max_sites=6), Row)
    assert converted(cifs.rutile, max_tokens=22).reason is Reason.TOO_LONG  # type: ignore[union-attr]
    # Eight times 8 atoms are given, but the limit is on the primitive cell, which holds 2.
    assert isinstance(converted(cifs.rock_salt_supercell, max_sites=2), Row)


def cubic(a: float, *positions: tuple[float, float, float]) -> Cell:
    return Cell(np.eye(3) * a, np.array(positions, dtype=float), np.ones(len(positions), dtype=np.int64))


def test_close_atoms_are_found_across_the_cell_border() -> None:
    assert closer_than(cubic(4.0, (0, 0, 0.01), (0, 0, 0.95)), 0.5) == (0, 1, pytest.approx(0.24))
    assert closer_than(cubic(4.0, (0, 0, 0), (0, 0, 0.5)), 0.5) is None


def test_an_atom_can_be_too_close_to_its_own_image() -> None:
    assert closer_than(cubic(0.4, (0, 0, 0)), 0.5) == (0, 0, pytest.approx(0.4))
    assert closer_than(cubic(0.6, (0, 0, 0)), 0.5) is None


def test_close_images_in_a_very_flat_cell() -> None:
    # Rows (1, 0, 0) and (9.9, 0.3, 0): the second minus ten times the first is (-0.1, 0.3, 0), of length 0.316.
    flat = Cell(np.array([[1.0, 0, 0], [9.9, 0.3, 0], [0, 0, 5.0]]), np.zeros((1, 3)), np.array([1]))
    assert closer_than(flat, 0.5) == (0, 0, pytest.approx(np.hypot(0.1, 0.3)))


def test_many_atoms_are_compared_in_blocks() -> None:
    grid = [(x / 9, y / 9, z / 9) for x in range(9) for y in range(9) for z in range(9)]
    assert closer_than(cubic(9.0, *grid), 0.5) is None
    assert closer_than(cubic(9.0, *grid, (0.99, 0.0, 0.0)), 0.5) == (0, 729, pytest.approx(0.09))


def structure(*species: list[dict[str, object]]) -> dict[str, object]:
    sites = [{"species": held, "abc": [0.5 * i, 0.5 * i, 0.5 * i]} for i, held in enumerate(species)]
    return {"lattice": {"matrix": [[4.1, 0, 0], [0, 4.1, 0], [0, 0, 4.1]]}, "sites": sites}


def test_structure_dictionary() -> None:
    cell = read_structure(
        structure([{"element": "Cs", "occu": 1}], [{"element": "Cl", "occu": 1, "oxidation_state": -1}])
    )
    assert isinstance(cell, Cell)
    assert cell.numbers.tolist() == [55, 17]
    assert cell.volume == pytest.approx(4.1**3)


@pytest.mark.parametrize(
    ("species", "reason"),
    [
        ([{"element": "Cs", "occu": 0.5}], Reason.DISORDERED),
        ([{"element": "Cs", "occu": 0.5}, {"element": "K", "occu": 0.5}], Reason.DISORDERED),
        ([{"element": "Qq", "occu": 1}], Reason.UNKNOWN_SPECIES),
        ([{"element": "D", "occu": 1}], Reason.UNKNOWN_SPECIES),
        ("K", Reason.UNREADABLE),
    ],
)
def test_bad_structure_dictionary(species: list[dict[str, object]], reason: Reason) -> None:
    refused = read_structure(structure(species))
    assert isinstance(refused, Rejection)
    assert refused.reason is reason
