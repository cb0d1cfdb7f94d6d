"""What merging compares: energies of one stage."""

from dataclasses import replace

from crystallm.crystal.description import Description, Site
from crystallm.data.templates import KnownCrystal
from crystallm.sample.answers.merging import candidates
from crystallm.sample.crystal import Crystal, EnergyRecord
from crystallm.sample.prompts import make_prompt

FCC = Description((("Al", 1),), 1, 225, (4.05, 4.05, 4.05, 90.0, 90.0, 90.0), (Site("Al", "a", ()),))
AS_GIVEN = EnergyRecord("springs 1", as_given=-3.6)
RELAXED = EnergyRecord("springs 1", as_given=-3.6, relaxed=-3.7)


def crystal(energy: EnergyRecord | None, *, known: bool) -> Crystal:
    made = Crystal(make_prompt("Al"), FCC, count=0, energy=energy)
    named = KnownCrystal("mp-134", ("mp-134",), FCC, 225, 1, True, False, None, None, None, True)
    return replace(made, known=named) if known else made


def energies(*crystals: Crystal) -> list[float | None]:
    return [one.energy_per_atom for one in candidates(crystals)]


def test_a_relaxed_energy_is_not_compared_with_one_as_given() -> None:
    found = energies(crystal(AS_GIVEN, known=True), crystal(RELAXED, known=True), crystal(RELAXED, known=False))
    assert found == [None, -3.7, -3.7]


def test_without_relaxing_all_are_as_given() -> None:
    found = energies(crystal(AS_GIVEN, known=True), crystal(AS_GIVEN, known=False), crystal(None, known=False))
    assert found == [-3.6, -3.6, None]
