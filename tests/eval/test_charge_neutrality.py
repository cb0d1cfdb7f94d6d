"""The composition filter of CDVAE on compositions whose answer is known."""

import itertools
import random
import time

import pytest

from crystallm.eval.charge_neutrality import cations_less_electronegative, smact_elements, smact_valid


@pytest.mark.parametrize(
    ("amounts", "valid"),
    [
        ({"Na": 1, "Cl": 1}, True),
        ({"Ti": 2, "O": 4}, True),  # not reduced: TiO2
        ({"Si": 8}, True),  # a single element
        ({"Cu": 3, "Au": 1}, True),  # metals only
        ({"Na": 1, "Cl": 2}, False),  # Na is +1 or -1, and chlorine is never -1/2
        ({"F": 2, "O": 1}, True),  # F is -1, O +2
        ({"He": 1, "O": 1}, False),  # no oxidation state
        ({"Og": 1, "O": 1}, False),  # not in the table
    ],
)
def test_compositions(amounts: dict[str, int], valid: bool) -> None:
    assert smact_valid(amounts) is valid


def test_a_cation_must_be_less_electronegative_than_an_anion() -> None:
    assert cations_less_electronegative([1, -1], [0.93, 3.16])
    assert not cations_less_electronegative([-1, 1], [0.93, 3.16])
    assert not cations_less_electronegative([1, -1], [2.0, 2.0])
    assert cations_less_electronegative([1, 1, -2], [0.93, 0.98, 3.44])
    # What SMACT and CDVAE make of an unknown electronegativity.
    assert cations_less_electronegative([3, -3], [None, 3.0])
    assert not cations_less_electronegative([3, 3], [None, 3.0])


def test_the_table_is_that_of_2014() -> None:
    table = smact_elements()
    assert list(table)[:3] == ["H", "He", "Li"]
    assert len(table) == 103
    assert table["Ir"].oxidation_states == (-2, -1, 1, 2, 3, 4, 5, 6, 7, 8)  # SMACT 3 holds -3 instead of -2
    assert (table["O"].electronegativity, table["O"].is_metal) == (3.44, False)
    assert table["Ge"].is_metal
    assert not table["Pm"].is_metal  # left out of SMACT's list


def test_the_filter_says_what_trying_every_combination_says() -> None:
    def by_trying(amounts: dict[str, int]) -> bool:
        table = smact_elements()
        symbols = [symbol for symbol in table if symbol in amounts]
        rows = [table[symbol] for symbol in symbols]
        if len(symbols) == 1 or all(row.is_metal for row in rows):
            return True
        values = [row.electronegativity for row in rows]
        return any(
            sum(s * amounts[symbol] for s, symbol in zip(states, symbols, strict=True)) == 0
            and cations_less_electronegative(states, values)
            for states in itertools.product(*(row.oxidation_states for row in rows))
        )

    rng = random.Random(0)
    unknown = [symbol for symbol, row in smact_elements().items() if row.electronegativity is None]
    verdicts = []
    for trial in range(1500):
        chosen = rng.sample(list(smact_elements()), rng.randint(1, 4))
        chosen = [*chosen[1:], rng.choice(unknown)] if trial % 3 == 0 else chosen
        amounts = {symbol: rng.randint(1, 6) for symbol in chosen}
        verdicts.append(by_trying(amounts))
        assert smact_valid(amounts) == verdicts[-1], amounts
    assert 200 < sum(verdicts) < 1300


def test_many_elements_take_no_time() -> None:
    # Some 10^8 combinations of oxidation states.
    metals = ("Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Mo", "W")
    started = time.process_time()
    assert smact_valid({**dict.fromkeys(metals, 1), "O": 9})
    assert not smact_valid(dict.fromkeys((*metals, "Nb", "Ta", "Re", "Ru", "Rh", "Xe"), 1) | {"Ne": 1})
    assert time.process_time() - started < 1
