"""For tests on computers that do other things too: wait for events, not for seconds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def spinning(each: int = 2) -> Iterator[None]:
    """So many processes per processor of ours that compute without a pause."""
    allowed = getattr(os, "sched_getaffinity", None)
    count = each * (len(allowed(0)) if allowed else os.cpu_count() or 1)
    # They end by themselves when the tests are killed: their input closes.
    code = """
import sys, threading
threading.Thread(target=sys.stdin.read, daemon=True).start()
watch = threading.enumerate()[-1]
print("spinning", flush=True)
while watch.is_alive():
    pass
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "spinning\n"
        yield
        assert all(process.poll() is None for process in processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
