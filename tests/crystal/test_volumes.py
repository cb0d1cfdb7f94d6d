"""Volumes: what compositions say, and which densities are strange."""

from dataclasses import replace

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crystallm.crystal.cell import Cell
from crystallm.crystal.checks.fast_validity import check_cif_fast
from crystallm.crystal.checks.validity import VALID, CheckName, check_structure
from crystallm.crystal.description import Description, describe
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.crystal.volumes import CHEMISTRIES, OTHER, chemistry_of, load_volumes, plausible_volume

NAME = CheckName.PLAUSIBLE_DENSITY


@pytest.mark.parametrize(
    ("formula", "chemistry"),
    [
        ("Al2O3", "oxide"),
        ("LaOF", "fluoride"),
        ("CaCO3", "oxide"),
        ("Fe3C", "alloy"),
        ("LaNi5", "alloy"),
        ("GaAs", "pnictide"),
        ("ZnS", "chalcogenide"),
        ("CsCl", "halide"),
        ("Nb9O", "alloy"),  # a tenth of oxygen names nothing
        ("H2O", "oxide"),
    ],
)
def test_chemistry(formula: str, chemistry: str) -> None:
    assert chemistry_of(parse_formula(formula)) == chemistry


def test_every_chemistry_has_volumes() -> None:
    volumes = load_volumes()
    for name in (*CHEMISTRIES, OTHER):
        assert volumes.volumes[name].shape == (119,)
        assert volumes.low[name] > 0.1
        assert volumes.high[name] > 0.1


@pytest.mark.parametrize(
    ("formula", "volume_per_atom"),
    [  # cell volumes over atoms, from handbook lattice constants in angstrom
        ("NaCl", 5.6402**3 / 8),
        ("Al2O3", 4.7602**2 * 12.9933 * np.sqrt(0.75) / 30),
        ("TiO2", 4.5937**2 * 2.9587 / 6),  # rutile
        ("TiO2", 136.3 / 12),  # anatase, 3.785^2 x 9.514
        ("SiO2", 113.0 / 9),  # quartz
        ("SiO2", 46.5 / 6),  # stishovite, 4.29 g/cm3
        ("C", 3.5668**3 / 8),  # diamond
        ("C", 2.461**2 * 6.708 * np.sqrt(0.75) / 4),  # graphite
        ("C", 14.17**3 / 240),  # C60
        ("Cs", 6.14**3 / 2),
        ("Fe", 2.8665**3 / 2),
        ("H2O", 4.511**2 * 7.346 * np.sqrt(0.75) / 12),  # ice Ih with four molecules
        ("SiO2", 1000 / 13.3 / 3),  # faujasite, 13.3 tetrahedra in 1000 A^3
        ("Rb", 5.705**3 / 2),
    ],
)
def test_real_crystals_are_plausible(formula: str, volume_per_atom: float) -> None:
    expected = load_volumes().expected(parse_formula(formula))
    assert expected is not None
    assert expected.allows(volume_per_atom)


def test_corundum_at_half_its_density_fails_and_stays_valid(crystals: dict[str, Structure]) -> None:
    good = check_structure(crystals["corundum"])
    assert good[NAME].passed
    assert good[CheckName.DENSITY].value == pytest.approx(3.99, abs=0.01)
    swollen = crystals["corundum"].copy()
    swollen.scale_lattice(swollen.volume * 3.99 / 1.83)
    bad = check_structure(swollen, names=[CheckName.DENSITY, NAME])
    assert bad[CheckName.DENSITY].passed
    assert not bad[NAME].passed
    assert bad[NAME].reason == "implausible density"
    assert bad[NAME].detail.startswith("1.83 g/cm3; Al2O3 has ")
    assert NAME not in VALID  # as published


def test_fast_and_reference_agree(crystals: dict[str, Structure]) -> None:
    for name in ("rutile", "corundum", "perovskite"):
        for scale in (0.3, 1.0, 3.5):
            structure = crystals[name].copy()
            structure.scale_lattice(structure.volume * scale)
            fast = check_cif_fast(structure.to(fmt="cif"), names=[NAME])[NAME]
            reference = check_structure(structure, names=[NAME])[NAME]
            assert fast.passed == reference.passed == (scale == 1.0)
            assert fast.value == pytest.approx(reference.value, rel=1e-4)


def test_unknown_elements_are_not_judged() -> None:
    assert load_volumes().expected((("Rn", 1),)) is None
    check = check_structure(Structure(Lattice.cubic(9.0), ["Rn"], [[0, 0, 0]]), names=[NAME])[NAME]
    assert (check.passed, check.reason) == (True, "elements not known")


def test_plausible_volume_of_a_description(cells: dict[str, Cell]) -> None:
    salt = describe(cells["rock salt"])
    assert isinstance(salt, Description)
    assert plausible_volume(salt) is True
    assert plausible_volume(replace(salt, cell=(8.0, 8.0, 8.0, 90.0, 90.0, 90.0))) is False
    # Argon was in too few crystals: not known.
    argon = Description((("Ar", 1),), 1, 225, salt.cell, (replace(salt.sites[0], element="Ar"),))
    assert plausible_volume(argon) is None
