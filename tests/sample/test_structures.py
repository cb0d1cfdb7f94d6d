"""Which templates are one structure: by protostructure, and where it has many coordinates by the matcher."""

from dataclasses import replace

import pytest

from crystallm.crystal.description import Description, Site, expand
from crystallm.crystal.matching.matcher import matcher
from crystallm.crystal.matching.tolerances import DUPLICATE
from crystallm.sample.drawing.template_structures import FEW_COORDINATES, Structures

Point = tuple[float, float, float]


def oxide(titanium: Point, *oxygen: Point, c: float = 5.32) -> Description:
    """TiO2 in P2_1/c with nine free coordinates; as zirconia has it they make baddeleyite."""
    sites = (Site("Ti", "e", titanium), *(Site("O", "e", point) for point in oxygen))
    return Description((("Ti", 1), ("O", 2)), 4, 14, (5.15, 5.21, c, 90.0, 99.2, 90.0), sites)


BADDELEYITE = (0.275, 0.04, 0.208), (0.07, 0.332, 0.345), (0.45, 0.757, 0.479)


@pytest.fixture(scope="module")
def crystals() -> list[Description]:
    baddeleyite = oxide(*BADDELEYITE)
    from_another_origin = oxide(*((x + 0.5, y, z) for x, y, z in BADDELEYITE))
    nearly = oxide((0.285, 0.03, 0.218), (0.07, 0.342, 0.335), (0.44, 0.757, 0.469))
    another = oxide((0.1, 0.2, 0.4), (0.35, 0.05, 0.15), (0.6, 0.4, 0.1))
    return [baddeleyite, from_another_origin, nearly, another, oxide(*BADDELEYITE, c=8.0)]


def test_the_verdict_is_that_of_the_structure_matcher(crystals: list[Description]) -> None:
    structures, by = Structures(crystals), matcher(DUPLICATE)
    for one in crystals:
        same = [by.fit(expand(one).to_structure(), expand(other).to_structure()) for other in crystals]
        assert structures.like(one) == [number for number, is_same in enumerate(same) if is_same]
    assert structures.like(crystals[0]) == [0, 1, 2]


def test_a_crystal_that_is_none_of_them(crystals: list[Description]) -> None:
    structures = Structures(crystals[:2])
    assert structures.like(crystals[2]) == [0, 1]
    assert structures.like(crystals[3]) == []
    assert structures.like(replace(crystals[0], space_group=7)) == []
    assert Structures([]).like(crystals[0]) == []
    # One alone is compared like others.
    assert Structures(crystals[:1]).like(crystals[3]) == []
    assert Structures(crystals[:1]).like(crystals[1]) == [0]


def test_few_coordinates_make_one_structure(rutile: Description) -> None:
    stretched = replace(rutile, cell=(5.5, 5.5, 2.0, 90.0, 90.0, 90.0), sites=(rutile.sites[0], Site("O", "f", (0.2,))))
    assert Structures([rutile, stretched]).like(rutile) == [0, 1]
    assert sum(len(site.free) for site in oxide(*BADDELEYITE).sites) > FEW_COORDINATES
