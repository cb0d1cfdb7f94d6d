"""Sets of ids allowed next, and numbers among them."""

import numpy as np

from crystallm.sample.engine.token_sets import Allowed, Scale, as_array


def test_arrays_are_made_once() -> None:
    for choices in ((7, 3, 900), Allowed((7, 3, 900))):
        array = as_array(choices)
        assert array.dtype == np.int64
        assert array.tolist() == [7, 3, 900]
        assert as_array(choices) is array
    assert Allowed((1, 2)) == (1, 2)


def test_a_scale_is_in_order_of_value() -> None:
    digits = Scale(range(40, 50))
    assert digits.between(2, 5) == (42, 43, 44)
    assert digits.between(2, 5) is digits.between(2, 5)
    assert [digits.places[token] for token in digits.between(2, 5)] == [2, 3, 4]
