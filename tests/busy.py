"""For tests on computers that do other things too: wait for events, not for seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE_S = 120.0
"""For what failed; nothing that works takes so long, on whatever machine."""


def wait_for(
    condition: Callable[[], Any], limit_s: float = PATIENCE_S, pause_s: float = 0.005
) -> bool:
    """Poll until it is true."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(pause_s)
    return bool(condition())


def slowdown(work_s: float = 0.1) -> float:
    """How many times longer than alone some work takes now; 1 on a quiet computer.

    A limit in seconds that is a promise to people is multiplied with it, so that it
    stays as strict as it is on a computer that has nothing else to do.
    """
    began, used = time.monotonic(), time.thread_time()
    while time.thread_time() - used < work_s:
        pass
    return max(1.0, (time.monotonic() - began) / work_s)
