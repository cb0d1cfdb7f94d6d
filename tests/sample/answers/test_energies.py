"""Relaxed cells, and the known excess of a potential's volumes."""

import pytest

from crystallm.crystal.description import Description, expand
from crystallm.sample.answers.energies import VOLUME_EXCESS, without_excess


def test_only_potentials_whose_excess_was_measured_are_corrected(rutile: Description) -> None:
    corrected = without_excess(rutile, "chgnet 0.4.2")
    assert expand(rutile).volume / expand(corrected).volume == pytest.approx(VOLUME_EXCESS["chgnet"])
    assert (corrected.sites, corrected.cell[3:]) == (rutile.sites, rutile.cell[3:])
    assert corrected.cell[0] / corrected.cell[2] == pytest.approx(rutile.cell[0] / rutile.cell[2])
    assert without_excess(rutile, "sevenn 0.12") == rutile
