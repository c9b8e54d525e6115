"""A live run finds an interpreter that does not stutter, and leaves it as it was."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator

import pytest

from blinkloop.runtime.steady import collect_when_due, steady


@pytest.fixture
def _nothing_frozen() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_nothing_frozen")
def test_what_exists_is_left_out_of_the_collections_meanwhile() -> None:
    before = sys.getswitchinterval()
    kept = [[number] for number in range(1000)]
    with steady():
        assert gc.get_freeze_count() > len(kept)
        assert len(gc.get_objects(2)) < len(kept)
        assert sys.getswitchinterval() <= 0.001
    assert gc.get_freeze_count() == 0
    assert sys.getswitchinterval() == before


@pytest.mark.usefixtures("_nothing_frozen")
def test_what_somebody_else_froze_stays_frozen() -> None:
    gc.freeze()
    with steady():
        pass
    assert gc.get_freeze_count() > 0


@pytest.mark.usefixtures("_nothing_frozen")
def test_it_is_as_before_when_the_run_fails() -> None:
    before = sys.getswitchinterval()
    with pytest.raises(ValueError, match="camera"), steady():
        raise ValueError("camera")
    assert (gc.get_freeze_count(), sys.getswitchinterval()) == (0, before)


class Ring:
    """Refers to itself: only a collection frees it."""

    def __init__(self) -> None:
        self.me = self


@pytest.mark.usefixtures("_nothing_frozen")
def test_garbage_of_a_run_is_collected_when_it_is_due_and_not_before() -> None:
    before = gc.get_threshold()
    with steady():
        gc.collect()
        gone = weakref.ref(Ring())
        kept = [[number] for number in range(2000)]
        assert gone() is not None  # as many would have been collected by now
        collect_when_due()
        assert gone() is None
        lost = weakref.ref(Ring())
        collect_when_due()
        assert lost() is not None  # too few to be worth it
    assert gc.get_threshold() == before
    assert len(kept) == 2000


@pytest.mark.usefixtures("_nothing_frozen")
def test_garbage_that_grew_old_is_collected_too() -> None:
    with steady():
        gc.collect()
        ring = Ring()
        gone = weakref.ref(ring)
        kept: list[list[int]] = []
        for number in range(150):
            kept += [[value] for value in range(400)]
            collect_when_due()
            if number == 20:
                del ring  # it has outlived the collections of what is young
        assert gone() is None
        assert len(kept) == 60_000


@pytest.mark.usefixtures("_nothing_frozen")
def test_garbage_that_nobody_asks_for_is_collected_all_the_same() -> None:
    with steady():
        gc.collect()
        gone = weakref.ref(Ring())
        kept = [[number] for number in range(20_000)]
        assert gone() is None
        assert len(kept) == 20_000


def test_a_collector_that_was_switched_off_stays_off() -> None:
    gc.disable()
    try:
        gone = weakref.ref(Ring())
        kept = [[number] for number in range(2000)]
        collect_when_due()
        assert gone() is not None
        assert len(kept) == 2000
    finally:
        gc.enable()


def test_an_interval_that_is_shorter_already_stays() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.00005)
    try:
        shorter = sys.getswitchinterval()
        with steady():
            assert sys.getswitchinterval() == shorter
        assert sys.getswitchinterval() == shorter
    finally:
        sys.setswitchinterval(before)
