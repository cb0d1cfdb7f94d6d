"""What is there before crystals are drawn is left out of garbage collection, and no longer."""

import gc
import weakref

import pytest

from crystallm.sample.garbage import old_objects_left_alone


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
