"""Settings of all tests."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# No deadline, and drawing an example may take long: the machines are shared, and a slow
# example is not a wrong one. In CI the examples are the same every time, so that a red
# run can be repeated.
for name, always_the_same in (("here", False), ("ci", True)):
    settings.register_profile(
        name,
        deadline=None,
        derandomize=always_the_same,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile("ci" if os.environ.get("CI") else "here")

# Started in the background of a script or with nohup, all our children would ignore
# the very signals that some tests send them.
for _name, _usual in {
    "SIGINT": signal.default_int_handler,
    "SIGTERM": signal.SIG_DFL,
    "SIGHUP": signal.SIG_DFL,
}.items():
    _number = getattr(signal, _name, None)
    if _number is not None and signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _usual)


@pytest.fixture(autouse=True)
def no_silent_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb that leaves a thread behind ends its process; here that is all tests."""
    here, leave = os.getpid(), os._exit

    def refuse(code: int) -> None:
        if os.getpid() != here:
            leave(code)
        threads = [t.name for t in threading.enumerate()]
        raise AssertionError(f"os._exit({code}) was called; threads: {threads}")

    monkeypatch.setattr(os, "_exit", refuse)


_made_cores: list[None] = []
_RELAY = "MMCallbackRelay"


def _watch_cores() -> None:
    """Note from now on that a core is made: each gets a relay of its own."""
    module: Any = sys.modules.get("pymmcore_plus.core._mmcore_plus")
    if module is None or hasattr(module, "_relay_of_tests"):
        return
    relay = module._relay_of_tests = getattr(module, _RELAY)

    def noted(*args: Any, **kwargs: Any) -> Any:
        _made_cores.append(None)
        return relay(*args, **kwargs)

    setattr(module, _RELAY, noted)


@pytest.fixture(autouse=True)
def cores_end_here() -> Iterator[None]:
    """A core that a test leaves behind ends in this thread.

    It is part of a reference cycle, so some thread's garbage collection ends it; when
    that is the core's own thread of notifications, it waits for itself and the process
    aborts (pymmcore-plus 0.18.1, seen with pymmcore 12.5.1).
    """
    _watch_cores()
    yield
    if _made_cores:
        _made_cores.clear()
        gc.collect()
