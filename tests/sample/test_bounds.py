"""What the limits leave of a cell."""

from crystallm.crystal.formulas.composition import parse_formula
from crystallm.crystal.wyckoff import space_group
from crystallm.sample.grammar.limits import Limits, limits_for, parameter_bounds

GARNET = parse_formula("Ca3Al2Si3O12")


def test_cells_that_were_seen_keep_their_limits() -> None:
    limits = Limits()
    assert limits_for(GARNET, 3, limits) is limits  # 60 atoms


def test_larger_cells_hold_their_atoms() -> None:
    """Grossular has a = 11.85 A (Novak and Gibbs 1971): 10.4 cubic angstrom an atom, in 160 atoms."""
    limits = limits_for(GARNET, 4, Limits())
    low, high = parameter_bounds(0, {}, space_group(230), 80, limits)
    assert 11.0 < low < 11.85 < high < 17.0
    assert parameter_bounds(0, {}, space_group(230), 80, Limits())[0] < 7.0


def test_limits_asked_for_go_first() -> None:
    narrow = Limits(min_volume_per_atom=12.0, max_volume_per_atom=13.0)
    limits = limits_for(GARNET, 4, narrow)
    assert (limits.min_volume_per_atom, limits.max_volume_per_atom) == (12.0, 13.0)
