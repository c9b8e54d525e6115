"""An interpreter that does not stutter while a camera runs.

Two habits of CPython cost a live run single frames, never throughput. Its garbage
collection walks through everything that was ever imported, which takes 30 ms and more
with all threads standing still. And a thread that computes in Python may keep the
others waiting for 5 ms.

Measured at 100 frames/s: docs/speed.md.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["steady"]

_SWITCH_S = 0.0005


@contextmanager
def steady() -> Iterator[None]:
    """As long as this lasts, threads take turns sooner and collections are short.

    What exists at the beginning is left out of the collections until the end; so begin
    before the camera starts, and when everything is loaded.
    """
    interval_s = sys.getswitchinterval()
    # Somebody else's frozen objects stay so; they cannot be told from ours.
    frozen = gc.get_freeze_count() > 0
    gc.collect()
    gc.freeze()
    if interval_s > _SWITCH_S:
        sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        if interval_s > _SWITCH_S:
            sys.setswitchinterval(interval_s)
        if not frozen:
            gc.unfreeze()
