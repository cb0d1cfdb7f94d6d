"""What is there before crystals are drawn is left out of garbage collection, and no longer."""

import gc
import weakref

import pytest

from crystallm.sample.garbage import USUAL, old_objects_left_alone


class Knot:
    """Holds itself, so that only garbage collection takes it away."""

    def __init__(self) -> None:
        self.own = self


def test_old_objects_are_left_alone_and_new_ones_are_not() -> None:
    old = Knot()
    seen_old = weakref.ref(old)
    before = gc.get_freeze_count()
    with old_objects_left_alone():
        assert gc.get_freeze_count() > before
        new = Knot()
        seen_new = weakref.ref(new)
        del old, new
        gc.collect()
        assert seen_new() is None
        assert seen_old() is not None
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert seen_old() is None


def test_an_interrupt_ends_it() -> None:
    with pytest.raises(KeyboardInterrupt), old_objects_left_alone():
        raise KeyboardInterrupt
    assert gc.get_freeze_count() == 0


def test_new_garbage_is_collected_as_often_as_usual() -> None:
    before = gc.get_threshold()
    gc.set_threshold(1_000_000, 100, 100)
    try:
        with old_objects_left_alone():
            assert gc.get_threshold() == USUAL
        assert gc.get_threshold() == (1_000_000, 100, 100)
    finally:
        gc.set_threshold(*before)
