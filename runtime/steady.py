"""An interpreter that does not stutter while a camera runs.

Two habits of CPython cost a live run single frames, never throughput. Its garbage
collection walks through everything that was ever imported, which takes 30 ms and more
with all threads standing still; of what a run makes itself it takes 0.1 to 0.4 ms, in
the middle of whatever frame comes. And a thread that computes in Python may keep the
others waiting for 5 ms.

Measured at 100 frames/s: docs/speed.md.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collect_when_due", "steady"]

_SWITCH_S = 0.0001
_YOUNG = 350
"""New objects that are worth a collection: half of what CPython waits for."""
_YOUNG_UNASKED = 7000
"""So many when nobody calls `collect_when_due`, as while no frame comes."""
_ROUNDS = 10
"""Collections of one generation before the next older one has its turn."""


@contextmanager
def steady() -> Iterator[None]:
    """As long as this lasts, threads take turns sooner and collections are short.

    What exists at the beginning is left out of the collections until the end; so begin
    before the camera starts, and when everything is loaded. Of what is new the
    collections are left to `collect_when_due`, for the most part.
    """
    interval_s, thresholds = sys.getswitchinterval(), gc.get_threshold()
    # Somebody else's frozen objects stay so; they cannot be told from ours.
    frozen = gc.get_freeze_count() > 0
    gc.collect()
    gc.freeze()
    if interval_s > _SWITCH_S:
        sys.setswitchinterval(_SWITCH_S)
    if 0 < thresholds[0] < _YOUNG_UNASKED:
        gc.set_threshold(_YOUNG_UNASKED, *thresholds[1:])
    try:
        yield
    finally:
        if interval_s > _SWITCH_S:
            sys.setswitchinterval(interval_s)
        gc.set_threshold(*thresholds)
        if not frozen:
            gc.unfreeze()


def collect_when_due() -> None:
    """Collect garbage if there may be some: called when nobody waits for a frame."""
    young, middle, old = gc.get_count()
    if young >= _YOUNG and gc.isenabled():
        gc.collect(2 if old >= _ROUNDS else 1 if middle >= _ROUNDS else 0)
