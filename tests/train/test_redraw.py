"""Augmented texts: another text each time, the same crystal always."""

import numpy as np
import pytest

from crystallm.base.errors import InputError
from crystallm.crystal.cell import Rejection
from crystallm.crystal.description import Description, expand
from crystallm.tokenizer.layout import get_layout
from crystallm.train.texts.corpus import redraw

ANATASE = """data_
_chemical_formula_sum
Ti
O2
_cell_formula_units_Z_primitive 2
_space_group_IT_number 141
_cell_length_a 3.7842
_cell_length_c 9.5146
loop_atom_site
Ti a
O e 0.0831
#END"""


def read(text: str) -> Description:
    description = get_layout("wyckoff").read(text)
    assert not isinstance(description, Rejection)
    return description


def draw(epoch: int, *, row: int = 0, seed: int = 0) -> str:
    return redraw(ANATASE, layout_name="wyckoff", seed=seed, epoch=epoch, row=row)


def test_same_seed_epoch_and_row_same_text() -> None:
    assert draw(3) == draw(3)


@pytest.mark.parametrize("what", ["epoch", "row", "seed"])
def test_epochs_rows_and_seeds_differ(what: str) -> None:
    texts = {draw(**{"epoch": 0, what: i}) for i in range(20)}
    assert len(texts) > 3


def test_a_share_of_the_texts_stays_as_it_is() -> None:
    drawn = [redraw(ANATASE, layout_name="wyckoff", seed=0, epoch=0, row=row, chance=0.3) for row in range(200)]
    assert 0.6 < drawn.count(ANATASE) / len(drawn) < 0.85  # 0.7, and now and then the draw is the text itself


def test_the_crystal_stays() -> None:
    """Ti-O distances of anatase, u = 0.2081: four of 1.93 and two of 1.98 angstrom, whatever the description."""
    for epoch in range(10):
        structure = expand(read(draw(epoch))).to_structure()
        titanium = next(i for i, site in enumerate(structure) if site.specie.symbol == "Ti")
        near = sorted(neighbour.nn_distance for neighbour in structure.get_neighbors(structure[titanium], 2.5))
        assert near == pytest.approx([1.93] * 4 + [1.98] * 2, abs=0.01)
        assert np.linalg.det(structure.lattice.matrix) == pytest.approx(136.25, abs=0.01)


def test_a_text_that_is_no_crystal() -> None:
    with pytest.raises(InputError, match="a training text cannot be read"):
        redraw("data_\n#END", layout_name="wyckoff", seed=0, epoch=0, row=0)
