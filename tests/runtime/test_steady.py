"""A live run finds an interpreter that does not stutter, and leaves it as it was."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

from blinkloop.runtime.steady import steady


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


def test_an_interval_that_is_shorter_already_stays() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.000125)
    try:
        shorter = sys.getswitchinterval()
        with steady():
            assert sys.getswitchinterval() == shorter
        assert sys.getswitchinterval() == shorter
    finally:
        sys.setswitchinterval(before)
