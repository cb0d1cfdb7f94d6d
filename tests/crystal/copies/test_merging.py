"""Copies are merged and shown in the higher symmetry; real distortions are not."""

from dataclasses import replace

import pytest

from crystallm.base.errors import ConfigError
from crystallm.crystal.copies.merging import Candidate, CopyRule, merge_copies, missing_parents
from crystallm.crystal.description import Description, Site

RIGHT = (90.0, 90.0, 90.0)
CUBIC_AL = Description((("Al", 1),), 1, 225, (4.05, 4.05, 4.05, *RIGHT), (Site("Al", "a", ()),))
TETRAGONAL_AL = Description((("Al", 1),), 1, 139, (2.86, 2.86, 4.10, *RIGHT), (Site("Al", "a", ()),))
BCC_AL = Description((("Al", 1),), 1, 229, (3.24, 3.24, 3.24, *RIGHT), (Site("Al", "a", ()),))
FORMULA = (("Ba", 1), ("Ti", 1), ("O", 3))
CUBIC = Description(
    FORMULA, 1, 221, (4.012, 4.012, 4.012, *RIGHT), (Site("Ba", "a", ()), Site("Ti", "b", ()), Site("O", "c", ()))
)


def polar(part: float) -> Description:
    """BaTiO3 in P4mm: this part of the distortion measured at 293 K (Kwei et al., J. Phys. Chem. 97, 2368 (1993))."""
    heights = (0.5 + 0.0224 * part, -0.0245 * part % 1.0, 0.5 - 0.0105 * part)
    sites = (Site("Ba", "a", (0.0,)), *(Site(e, w, (z,)) for e, w, z in zip("TOO", "bbc", heights, strict=True)))
    sites = (sites[0], replace(sites[1], element="Ti"), *sites[2:])
    return Description(
        FORMULA, 1, 99, (4.012 - 0.0175 * part, 4.012 - 0.0175 * part, 4.012 + 0.0215 * part, *RIGHT), sites
    )


def test_a_squeezed_cell_joins_the_cubic_one() -> None:
    (group,) = merge_copies([Candidate(TETRAGONAL_AL, -3.70), Candidate(CUBIC_AL, -3.70)])
    assert (group.leader, group.members, group.copies) == (1, (0, 1), (0,))
    assert group.parent is None


def test_another_structure_stays() -> None:
    groups = merge_copies([Candidate(TETRAGONAL_AL), Candidate(CUBIC_AL), Candidate(BCC_AL)])
    assert [group.members for group in groups] == [(0, 1), (2,)]


def test_a_copy_alone_is_promoted_without_energies() -> None:
    (group,) = merge_copies([Candidate(TETRAGONAL_AL)])
    assert group.promoted
    assert group.parent is not None
    assert group.parent.space_group == 225


def test_with_an_energy_the_parent_has_to_be_evaluated_first() -> None:
    """Not lower: the parent stands for it. Lower by more than 2 meV: the distortion is real, the parent is left out."""
    alone = [Candidate(polar(0.3), -8.0)]
    (group,) = merge_copies(alone)
    assert (group.promoted, group.parent is not None) == (False, True)
    (wanted,) = missing_parents(alone)
    assert wanted.space_group == 221
    (copy,) = merge_copies([*alone, Candidate(wanted, -7.999, added=True)])
    assert (copy.leader, copy.copies, copy.parent) == (1, (0,), None)
    (real,) = merge_copies([*alone, Candidate(wanted, -7.99, added=True)])
    assert (real.leader, real.members, real.parent) == (0, (0,), None)
    assert missing_parents([*alone, Candidate(wanted, -7.99, added=True)]) == []


@pytest.mark.parametrize("energies", [(None, None), (-8.0, None), (-8.0, -7.993)])
def test_barium_titanate_is_not_merged(energies: tuple[float | None, float | None]) -> None:
    """The measured distortion is further than a copy is; by PBE it lies 7 meV/atom below the cube."""
    groups = merge_copies([Candidate(polar(1.0), energies[0]), Candidate(CUBIC, energies[1])])
    assert [group.members for group in groups] == [(0,), (1,)]
    if energies[1] is not None:
        assert all(group.parent is None for group in groups)


def test_as_far_but_not_lower_is_a_copy() -> None:
    """Tilted octahedra that a relaxation has not quite undone, as in SrTiO3."""
    assert len(merge_copies([Candidate(polar(1.0), -8.0), Candidate(CUBIC, -8.0)])) == 1
    assert [one.space_group for one in missing_parents([Candidate(polar(1.0), -8.0)])] == [221]
    assert missing_parents([Candidate(polar(1.0))]) == []  # before energies are known, nothing so far away counts


@pytest.mark.parametrize("settings", [{"distance_angstrom": 0.3}, {"distance_angstrom": 0.0}, {"energy_ev": -1.0}])
def test_impossible_rules_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        CopyRule(**settings)


def test_half_of_the_distortion_is_a_copy_only_where_it_gains_nothing() -> None:
    cases = {(None, None): 1, (-8.0, -8.0): 1, (-8.0, -7.9985): 1, (-8.0, -7.99): 2, (-7.9, -8.0): 1}
    for (own, of_cube), n_groups in cases.items():
        assert len(merge_copies([Candidate(polar(0.5), own), Candidate(CUBIC, of_cube)])) == n_groups


def test_cells_of_one_space_group_and_different_volume_are_one() -> None:
    """As the matcher has it, which leaves the scale open; the one of median volume stands for all."""
    sizes = [replace(CUBIC, cell=(a, a, a, *RIGHT)) for a in (3.8, 4.3, 4.0)]
    (group,) = merge_copies([Candidate(crystal) for crystal in sizes])
    assert (group.leader, group.members) == (2, (0, 1, 2))
    (group,) = merge_copies([Candidate(c, e) for c, e in zip(sizes, (-7.0, -7.5, -7.4), strict=True)])
    assert group.leader == 1


def test_known_crystals_are_joined_and_join_none() -> None:
    known = [Candidate(CUBIC, -8.0, protected=True), Candidate(polar(0.3), -8.0, protected=True)]
    assert [group.members for group in merge_copies(known)] == [(0,), (1,)]
    groups = merge_copies([Candidate(polar(0.4), -8.0), *known])
    assert [(group.leader, group.members) for group in groups] == [(2, (0, 2)), (1, (1,))]
    same = merge_copies([known[0], Candidate(replace(CUBIC, cell=(4.1,) * 3 + RIGHT), protected=True)])
    assert len(same) == 2


def test_where_the_group_was_given_nothing_is_promoted() -> None:
    """What gained symmetry is flagged."""
    (group,) = merge_copies([Candidate(polar(0.2), -8.0)], promote=False)
    assert not group.promoted
    assert group.parent is not None
    assert group.parent.space_group == 221
    groups = merge_copies([Candidate(polar(0.2)), Candidate(CUBIC)], promote=False)
    assert [group.members for group in groups] == [(0,), (1,)]


def test_the_rule_is_stated_in_angstrom() -> None:
    strict = CopyRule(distance_angstrom=0.01)
    assert len(merge_copies([Candidate(TETRAGONAL_AL), Candidate(CUBIC_AL)], strict)) == 2
